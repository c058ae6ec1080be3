"""A stream in FastAPI that charges an estimate, and in the end what was sent, even if the client disconnects.

    uvicorn fastapi_stream:app --app-dir examples/adapters

Replace the repository by `Repository("my-app")` to count in a table, for all processes together.
"""

import asyncio
from contextlib import aclosing
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse

from limiter import Lease, Limit, MemoryRepository, RateLimiter
from limiter.contrib.fastapi import client_ip, install, limit

ESTIMATE = 50
limiter = RateLimiter(MemoryRepository(), [Limit.per_minute("tokens", 100)])
app = FastAPI()
install(app, limiter)
per_address = limit(limiter, entity=client_ip, resource="model", consume={"tokens": ESTIMATE})


class ClosingStream(StreamingResponse):
    """Always closes its generator while the lease lasts; Starlette leaves that to the garbage collector."""

    async def __call__(self, scope, receive, send):
        """Send the body."""
        async with aclosing(self.body_iterator):
            await super().__call__(scope, receive, send)


async def model():
    """A model that is slow."""
    for number in range(1, 31):
        await asyncio.sleep(0.1)
        yield f"word {number} "


@app.get("/chat")
async def chat(lease: Annotated[Lease, Depends(per_address)]) -> StreamingResponse:
    """Stream a response; units for what was not sent are refunded."""

    async def chunks():
        used = 0
        try:
            async for token in model():
                used += 1
                yield token
        finally:
            await lease.adjust(tokens=used - ESTIMATE)

    return ClosingStream(chunks(), media_type="text/plain")
