"""A session of requests whose processes keep a server's limit together.

pip install "dynamodb-limiter[requests]"; python examples/adapters/with_requests.py
"""

import requests
from requests.adapters import BaseAdapter

from limiter import Limit, SyncRateLimiter, SyncRepository
from limiter.contrib.requests import LimiterAdapter


class Api(BaseAdapter):
    """Stands for a server; in production the inner adapter is requests.adapters.HTTPAdapter()."""

    def send(self, request, **options):
        """Answer at once."""
        response = requests.Response()
        response.status_code, response.url, response.request = 200, request.url, request
        return response

    def close(self):
        """Do nothing."""


limiter = SyncRateLimiter(SyncRepository("my-app"), [Limit.per_second("requests", 5)])

if __name__ == "__main__":
    with limiter, requests.Session() as session:
        session.mount("https://", LimiterAdapter(Api(), limiter, entity="partner-api", timeout=10))
        print([session.get("https://api.example.com/orders").status_code for _ in range(7)])
