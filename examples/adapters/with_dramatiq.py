"""A Dramatiq actor that all workers run at a common rate: a refused message comes back when there is enough.

pip install dynamodb-limiter dramatiq; python examples/adapters/with_dramatiq.py
"""

import math
import random

import dramatiq
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import Retry

from limiter import Limit, RateLimitExceeded, SyncRateLimiter, SyncRepository

dramatiq.set_broker(broker := StubBroker())  # in production: RedisBroker() or RabbitmqBroker()
limiter = SyncRateLimiter(SyncRepository("my-app"), [Limit.per_second("requests", 5, burst=3)])
sent = []


# Refusals do not use up the retries of errors.
@dramatiq.actor(retry_when=lambda retries, error: isinstance(error, Retry) or retries < 3)
def send(user: str, text: str) -> None:
    try:
        with limiter.acquire(user, "mail", refund_on_error=False):
            sent.append(text)
    except RateLimitExceeded as refusal:
        if refusal.retry_after is None:
            raise  # the amount is above the capacity
        jitter = random.uniform(1, 1.5)  # noqa: S311 - spreads messages that were refused together, and hides nothing
        raise Retry(delay=math.ceil(refusal.retry_after * 1000 * jitter)) from None


if __name__ == "__main__":
    worker = dramatiq.Worker(broker)
    worker.start()
    with limiter:
        for number in range(6):
            send.send("ann", f"mail {number}")
        broker.join("default", timeout=60_000)
    worker.stop()
    print(sorted(sent))
