"""An aiohttp session whose processes keep a server's limit together.

pip install "dynamodb-limiter[async,aiohttp]"; python examples/adapters/with_aiohttp.py
"""

import asyncio

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from limiter import Limit, RateLimiter, Repository
from limiter.contrib.aiohttp import LimiterMiddleware


async def main() -> None:
    app = web.Application()
    app.router.add_get("/orders", lambda request: web.json_response([]))
    limits = [Limit.per_second("requests", 5)]
    async with RateLimiter(Repository("my-app"), limits) as limiter, TestServer(app) as server:
        middleware = LimiterMiddleware(limiter, entity="partner-api", timeout=10)
        async with aiohttp.ClientSession(middlewares=[middleware]) as session:
            answers = await asyncio.gather(*(session.get(server.make_url("/orders")) for _ in range(7)))
            print([answer.status for answer in answers])


if __name__ == "__main__":
    asyncio.run(main())
