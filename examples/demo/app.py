"""A WSGI application behind the shared limit: 200 while a unit is left, 429 with Retry-After otherwise.

It says nothing about AWS and nothing about the limit: endpoint, region and credentials come from the environment, the limit from
the table. Under `gunicorn -k gevent` every call below is a plain blocking one that gevent makes cooperative.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from typing import TYPE_CHECKING, Any

from limiter import RateLimiterUnavailable, RateLimitExceeded, SyncRateLimiter, SyncRepository

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

limiter = SyncRateLimiter(SyncRepository("limiter-demo", read_timeout=2.0), decision_timeout=5.0)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Serve `/`, which costs one unit, and `/ready`, which costs none and opens the connection to the table."""
    try:
        if environ["PATH_INFO"] == "/ready":
            limiter.check("demo", "api")
            return answer(start_response, "200 OK", {})
        with limiter.acquire("demo", "api"):
            return answer(start_response, "200 OK", {"answered": time.time_ns()})
    except RateLimitExceeded as refusal:
        # With up to a second of jitter, so that clients that were refused together do not return together.
        seconds = math.ceil((refusal.retry_after or 0) + random.random())  # noqa: S311 - no secret
        return answer(start_response, "429 Too Many Requests", {}, ("Retry-After", str(seconds)))
    except RateLimiterUnavailable as error:
        return answer(start_response, "503 Service Unavailable", {"error": str(error)})


def answer(start_response: StartResponse, status: str, body: dict[str, Any], *headers: tuple[str, str]) -> Iterable[bytes]:
    """Return a JSON response that names its worker."""
    start_response(status, [("Content-Type", "application/json"), *headers])
    return [json.dumps({"worker": os.getpid(), **body}).encode()]
