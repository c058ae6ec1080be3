"""Five requests a minute for each address, in any ASGI application.

    uvicorn asgi_app:app --app-dir examples/adapters

Replace the repository by `Repository("my-app")` to count in a table, for all processes together.
"""

from limiter import Limit, MemoryRepository, RateLimiter
from limiter.contrib.asgi import LimiterMiddleware, client_ip


async def hello(scope, receive, send):
    """An application; Starlette, Litestar and Quart make one as well."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"hello\n"})


limiter = RateLimiter(MemoryRepository(), [Limit.per_minute("requests", 5)])
app = LimiterMiddleware(hello, limiter, entity=client_ip, headers="draft-11")
