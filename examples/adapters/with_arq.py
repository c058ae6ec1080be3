"""An arq job that all workers run at a common rate: a refused job comes back when there is enough.

pip install "dynamodb-limiter[async]" arq; python examples/adapters/with_arq.py, with Redis at REDIS_URL
"""

import asyncio
import os
import random
from typing import Any

from arq import Retry, Worker, create_pool, func
from arq.connections import RedisSettings

from limiter import Limit, RateLimiter, RateLimitExceeded, Repository

limiter = RateLimiter(Repository("my-app"), [Limit.per_second("requests", 1, burst=2)])


async def send(context: dict[str, Any], user: str, text: str) -> str:
    try:
        async with limiter.acquire(user, "mail", refund_on_error=False):
            return f"{text} to {user}"
    except RateLimitExceeded as refusal:
        if refusal.retry_after is None:
            raise  # the amount is above the capacity
        jitter = random.uniform(1, 1.5)  # noqa: S311 - spreads jobs that were refused together, and hides nothing
        raise Retry(defer=refusal.retry_after * jitter) from refusal


async def main() -> None:
    settings = RedisSettings.from_dsn(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"))
    queue = await create_pool(settings)
    jobs = [await queue.enqueue_job("send", "ann", f"mail {number}") for number in range(3)]
    # A refusal counts as a try, so there have to be enough of them.
    worker = Worker([func(send, max_tries=1000)], redis_settings=settings, burst=True, poll_delay=0.1, handle_signals=False)
    async with limiter:
        await worker.async_run()
        print([await job.result() for job in jobs])
    await worker.close()
    await queue.close(close_connection_pool=True)


if __name__ == "__main__":
    asyncio.run(main())
