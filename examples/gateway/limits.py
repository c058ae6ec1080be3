"""The limits of the gateway, and what a refused request is answered."""

from __future__ import annotations

import hashlib
import math
import os
from typing import TYPE_CHECKING, Annotated

from fastapi import Header
from fastapi.responses import JSONResponse

from limiter import Limit, RateLimiter, Repository, SyncRateLimiter, SyncRepository

if TYPE_CHECKING:
    from fastapi import Request

    from limiter import RateLimiterUnavailable, RateLimitExceeded

STACK = os.environ.get("GATEWAY_STACK", "gateway")
REQUESTS = int(os.environ.get("GATEWAY_REQUESTS_PER_MINUTE", "60"))
TOKENS = int(os.environ.get("GATEWAY_TOKENS_PER_MINUTE", "10000"))
TIMEOUT = float(os.environ.get("GATEWAY_TIMEOUT", "2"))
"""Seconds without an answer after which the table counts as unavailable."""

# Apply where the table has no limits stored for an API key.
DEFAULTS = [Limit.per_minute("requests", REQUESTS), Limit.per_minute("tokens", TOKENS)]

# Two views of one table: what is taken through one of them is gone for the other.
sync_repository = SyncRepository(STACK, read_timeout=TIMEOUT, connect_timeout=TIMEOUT)
sync_limiter = SyncRateLimiter(sync_repository, DEFAULTS, decision_timeout=TIMEOUT)
repository = Repository(STACK, read_timeout=TIMEOUT, connect_timeout=TIMEOUT)
limiter = RateLimiter(repository, DEFAULTS, decision_timeout=TIMEOUT)


def caller(x_api_key: Annotated[str, Header(min_length=1, max_length=256)]) -> str:
    """The entity whose limits count: not the key itself, which is a secret and does not belong into a table.

    A real gateway checks the key first.
    """
    return hashlib.sha256(x_api_key.encode()).hexdigest()[:32]


def refused(_request: Request, error: RateLimitExceeded) -> JSONResponse:
    """429, and after how many seconds to try again; 413 when no waiting would help."""
    if error.retry_after is None:
        return JSONResponse({"detail": f"this takes more than the limit ever holds: {_limits(error)}"}, 413)
    wait = max(1, math.ceil(error.retry_after))
    return JSONResponse({"detail": f"over the limit: {_limits(error)}"}, 429, {"Retry-After": str(wait)})


def unavailable(_request: Request, _error: RateLimiterUnavailable) -> JSONResponse:
    """503: nothing was run, because nobody could say whether it may."""
    return JSONResponse({"detail": "the limits cannot be read at the moment"}, 503, {"Retry-After": "1"})


def _limits(error: RateLimitExceeded) -> str:
    return ", ".join(str(status.limit) for status in error.violations)
