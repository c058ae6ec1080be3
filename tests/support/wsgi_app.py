"""A WSGI application as people write them: the limiter is made when the module is imported, and used in each request.

GET /?entity=NAME takes one unit. The answer says whether it was admitted, how often a sibling (a greenlet, or under gthread a
thread) ticked during the request, and how many requests of this worker were inside an acquire at the same time.
"""

from __future__ import annotations

import importlib
import json
import os
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if early := os.environ.get("IMPORT_FIRST"):
    importlib.import_module(early)

from limiter import Limit, RateLimitExceeded, SyncRateLimiter, SyncRepository

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

TICK = 0.005
repository = SyncRepository(os.environ["STACK"], endpoint_url=os.environ["ENDPOINT"], connect_timeout=60, read_timeout=60)
limits = [Limit("requests", int(os.environ.get("CAPACITY", "1000")), 1, 86400.0)]
limiter = SyncRateLimiter(repository, limits, decision_timeout=60)
if os.environ.get("OPEN_FIRST"):
    repository.open()
    assert limiter.try_acquire("opened-early")
opened_in = os.getpid()


class Sibling:
    """A thread or greenlet that also runs in this worker, and counts."""

    def __init__(self) -> None:
        self.ticks = 0
        self.inside = 0
        self.most_inside = 0
        self.lock = threading.Lock()
        threading.Thread(target=self.run, daemon=True).start()

    def run(self) -> None:
        """Tick without end."""
        while True:
            time.sleep(TICK)
            self.ticks += 1

    def enter(self, change: int) -> None:
        """Count a request that enters or leaves an acquire."""
        with self.lock:
            self.inside += change
            self.most_inside = max(self.most_inside, self.inside)


siblings: dict[int, Sibling] = {}


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Respond to a request."""
    entity = parse_qs(environ["QUERY_STRING"]).get("entity", ["everybody"])[0]
    try:
        status, answer = "200 OK", take(entity)
    except Exception as error:
        status, answer = "500 Internal Server Error", {"error": f"{type(error).__name__}: {error}"}
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


def take(entity: str) -> dict[str, object]:
    """Consume one unit."""
    sibling = siblings.get(os.getpid()) or siblings.setdefault(os.getpid(), Sibling())
    before = sibling.ticks
    sibling.enter(1)
    try:
        with limiter.acquire(entity):
            admitted = True
    except RateLimitExceeded:
        admitted = False
    finally:
        sibling.enter(-1)
    ticks = sibling.ticks - before
    return {
        "admitted": admitted,
        "ticks": ticks,
        "most_inside": sibling.most_inside,
        "worker": os.getpid(),
        "master": opened_in,
    }
