"""An API client whose processes keep 5 requests a second together, and pause together when the server asks for it.

pip install "dynamodb-limiter[httpx2]"; python examples/adapters/with_httpx.py
"""

import httpx2

from limiter import Limit, SyncRateLimiter, SyncRepository
from limiter.contrib.httpx import LimiterTransport


def api(request: httpx2.Request) -> httpx2.Response:
    """Stands for a server; in production the inner transport is httpx2.HTTPTransport()."""
    return httpx2.Response(200, text="hello")


limiter = SyncRateLimiter(SyncRepository("my-app"), [Limit.per_second("requests", 5)])
transport = LimiterTransport(httpx2.MockTransport(api), limiter, entity="partner-api", timeout=10)

if __name__ == "__main__":
    with limiter, httpx2.Client(transport=transport, base_url="https://api.example.com") as client:
        print([client.get("/orders").status_code for _ in range(7)])
