"""Calls of LiteLLM whose tokens are limited over all processes.

pip install "dynamodb-limiter[async,litellm]"; python examples/adapters/with_litellm.py
"""

import asyncio

import litellm

from limiter import Limit, RateLimiter, RateLimitExceeded, Repository
from limiter.contrib.litellm import LimiterLogger

limits = [Limit.per_day("requests", 2), Limit.per_day("tokens", 30_000)]


async def main() -> None:
    async with RateLimiter(Repository("my-app"), limits) as limiter:
        litellm.callbacks = [LimiterLogger(limiter, entity="team-1")]
        for _ in range(3):
            try:
                message = {"role": "user", "content": "Why?"}
                reply = await litellm.acompletion("gpt-4o-mini", [message], mock_response="Because.")
                print(reply.choices[0].message.content)
            except RateLimitExceeded as refusal:
                print(f"refused by {refusal.violations[0].limit.name}")


if __name__ == "__main__":
    asyncio.run(main())
