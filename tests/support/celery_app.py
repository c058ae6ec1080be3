"""A Celery application on Redis, and limits in a table: `celery -A support.celery_app worker`."""

from __future__ import annotations

import os

from celery import Celery

from limiter import SyncRateLimiter, SyncRepository
from limiter.contrib.celery import LimitedTask

app = Celery("tests", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_prefetch_multiplier = 8
repository = SyncRepository("my-app", endpoint_url=os.environ["ENDPOINT"], connect_timeout=30, read_timeout=30)
limiter = SyncRateLimiter(repository, config_ttl=0, decision_timeout=60)


@app.task(base=LimitedTask, limiter=limiter, entity=lambda number: "mail", max_countdown=1.0, bind=True, max_retries=0)
def run(self: LimitedTask, number: int) -> None:
    """Record that the task ran, and with which lease."""
    app.backend.client.rpush("ran", f"{number}:{sum(self.request.lease.consumed.values())}:{self.request.retries}")
