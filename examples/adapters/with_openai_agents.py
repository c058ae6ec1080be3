"""An agent of the OpenAI Agents SDK whose model's tokens are limited over all processes.

pip install "dynamodb-limiter[async,openai-agents]"; OPENAI_API_KEY=... python examples/adapters/with_openai_agents.py
"""

import asyncio

from agents import Agent, OpenAIResponsesModel, Runner
from openai import AsyncOpenAI

from limiter import Limit, RateLimiter, Repository
from limiter.contrib.openai_agents import LimiterModel

limits = [Limit.per_minute("requests", 500), Limit.per_minute("tokens", 30_000)]


async def main() -> None:
    async with RateLimiter(Repository("my-app"), limits) as limiter:
        wrapped = OpenAIResponsesModel("gpt-5", AsyncOpenAI())
        model = LimiterModel(wrapped, limiter, entity="team-1", resource="gpt-5", timeout=60)
        result = await Runner.run(Agent(name="Helper", model=model), "Why?")
        print(result.final_output)


if __name__ == "__main__":
    asyncio.run(main())
