"""The limits of the gateway, and the entities that they apply to."""

from __future__ import annotations

import os
from typing import Annotated

from fastapi import Header

from limiter import Limit, RateLimiter, Repository, SyncRateLimiter, SyncRepository
from limiter.contrib.http import hashed_key

STACK = os.environ.get("GATEWAY_STACK", "gateway")
REQUESTS = int(os.environ.get("GATEWAY_REQUESTS_PER_MINUTE", "60"))
TOKENS = int(os.environ.get("GATEWAY_TOKENS_PER_MINUTE", "10000"))
TIMEOUT = float(os.environ.get("GATEWAY_TIMEOUT", "2"))
"""Seconds without a response after which the table counts as unavailable."""

# These apply if the table has no limits stored for an API key.
DEFAULTS = [Limit.per_minute("requests", REQUESTS), Limit.per_minute("tokens", TOKENS)]

# Two limiters on one table: units consumed through one are gone for the other.
sync_repository = SyncRepository(STACK, read_timeout=TIMEOUT, connect_timeout=TIMEOUT)
sync_limiter = SyncRateLimiter(sync_repository, DEFAULTS, decision_timeout=TIMEOUT)
repository = Repository(STACK, read_timeout=TIMEOUT, connect_timeout=TIMEOUT)
limiter = RateLimiter(repository, DEFAULTS, decision_timeout=TIMEOUT)


def caller(x_api_key: Annotated[str, Header(min_length=1, max_length=256)]) -> str:
    """Return the entity to charge: a hash of the key, since a secret does not belong in a table.

    A real gateway checks the key first.
    """
    return hashed_key(x_api_key)
