"""An RQ job that all workers run at a common rate: a refused job comes back when there is enough.

pip install dynamodb-limiter rq; python examples/adapters/with_rq.py, with Redis at REDIS_URL
"""

import math
import os
import random

from redis import Redis
from rq import Queue, Retry, SimpleWorker

from limiter import Limit, RateLimitExceeded, SyncRateLimiter, SyncRepository

limiter = SyncRateLimiter(SyncRepository("my-app"), [Limit.per_second("requests", 1, burst=2)])


def send(user: str, text: str) -> "str | Retry":
    try:
        with limiter.acquire(user, "mail", refund_on_error=False):
            return f"{text} to {user}"
    except RateLimitExceeded as refusal:
        if refusal.retry_after is None:
            raise  # the amount is above the capacity
        # With jitter, so that refused jobs do not return together. Whole seconds; needs a scheduler: rq worker --with-scheduler
        return Retry(max=1000, interval=math.ceil(refusal.retry_after * random.uniform(1, 1.5)))  # noqa: S311 - no secret


if __name__ == "__main__":
    connection = Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
    queue = Queue(connection=connection)
    with limiter:
        jobs = [queue.enqueue("with_rq.send", "ann", f"mail {number}") for number in range(3)]
        while any(job.get_status() != "finished" for job in jobs):
            SimpleWorker([queue], connection=connection).work(burst=True, with_scheduler=True, logging_level="WARNING")
        print([job.return_value() for job in jobs])
    connection.close()
