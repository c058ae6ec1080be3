"""A PydanticAI agent whose model's tokens are limited over all processes.

pip install "dynamodb-limiter[async,pydantic-ai]"; python examples/adapters/with_pydantic_ai.py
"""

import asyncio

from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

from limiter import Limit, RateLimiter, Repository
from limiter.contrib.pydantic_ai import LimiterModel

limits = [Limit.per_minute("requests", 500), Limit.per_minute("tokens", 30_000)]


async def main() -> None:
    async with RateLimiter(Repository("my-app"), limits) as limiter:
        wrapped = TestModel(custom_output_text="Because.")  # in production: "openai:gpt-5"
        agent = Agent(LimiterModel(wrapped, limiter, entity="team-1", resource="gpt-5", timeout=60))
        print((await agent.run("Why?")).output)


if __name__ == "__main__":
    asyncio.run(main())
