"""A taskiq task that all workers run at a common rate: it waits without holding a thread, and is requeued after a minute.

pip install "dynamodb-limiter[async]" taskiq; python examples/adapters/with_taskiq.py
"""

import asyncio

from taskiq import Context, InMemoryBroker, TaskiqDepends

from limiter import Limit, RateLimiter, RateLimitExceeded, Repository

broker = InMemoryBroker(await_inplace=False)
limiter = RateLimiter(Repository("my-app"), [Limit.per_second("requests", 5, burst=3)])


@broker.task
async def send(user: str, text: str, context: Context = TaskiqDepends()) -> str:  # noqa: B008 - as taskiq asks for
    try:
        async with limiter.acquire(user, "mail", timeout=60, refund_on_error=False):
            return f"{text} to {user}"
    except RateLimitExceeded as refusal:
        if refusal.retry_after is None:
            raise  # the amount is above the capacity
        await context.requeue()
        raise


async def main() -> None:
    async with limiter:
        await broker.startup()
        tasks = [await send.kiq("ann", f"mail {number}") for number in range(6)]
        results = [await task.wait_result(timeout=60) for task in tasks]
        print([result.return_value for result in results])
        await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
