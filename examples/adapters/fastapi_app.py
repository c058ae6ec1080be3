"""Five searches a minute for each API key, in FastAPI.

    uvicorn fastapi_app:app --app-dir examples/adapters

Replace the repository by `Repository("my-app")` to count in a table, for all processes together.
"""

from typing import Annotated

from fastapi import Depends, FastAPI

from limiter import Lease, Limit, MemoryRepository, RateLimiter
from limiter.contrib.fastapi import install, limit
from limiter.contrib.http import hashed_key

limiter = RateLimiter(MemoryRepository(), [Limit.per_minute("requests", 5)])
app = FastAPI()
install(app, limiter, headers="draft-11")
per_key = limit(limiter, entity=lambda request: hashed_key(request.headers.get("x-api-key", "")), resource="search")


@app.get("/search")
async def search(lease: Annotated[Lease, Depends(per_key)]) -> dict[str, int]:
    """Search; the lease can be corrected here, by what the search has cost."""
    return {"left": lease.statuses[0].available}
