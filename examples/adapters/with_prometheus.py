"""A limiter's statistics for Prometheus to scrape.

pip install "dynamodb-limiter[prometheus]"; python examples/adapters/with_prometheus.py
"""

from prometheus_client import REGISTRY, generate_latest

from limiter import Limit, SyncRateLimiter, SyncRepository
from limiter.contrib.prometheus import LimiterCollector

limiter = SyncRateLimiter(SyncRepository("my-app"), [Limit.parse("requests=2/hour")])
REGISTRY.register(LimiterCollector(limiter))

if __name__ == "__main__":
    with limiter:
        for _ in range(5):
            limiter.try_acquire("user-42", "search")
    text = generate_latest().decode()  # in production: start_http_server(8000)
    print(*(line for line in text.splitlines() if line.startswith("limiter_decisions_total")), sep="\n")
