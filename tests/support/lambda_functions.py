"""The functions that `lambda_runtime.py` serves: each invocation tries to consume a unit of the resource that its event names."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from limiter import Limit, RateLimiter, Repository, SyncRateLimiter, SyncRepository

LIMITS = {"slow": Limit("slow", 100, 1, 86400.0), "fast": Limit("fast", 1, 1, 1.0)}
"""Of the slow limit no unit comes back during a test; the fast one has a unit, which is back after a second."""
where: dict[str, Any] = {"stack": os.environ["STACK"], "endpoint_url": os.environ["ENDPOINT"]}
patient: dict[str, Any] = {"connect_timeout": 30, "read_timeout": 30}
limiter = SyncRateLimiter(SyncRepository(**where, **patient), [], decision_timeout=30)
asynchronous = RateLimiter(Repository(**where, **patient), [], decision_timeout=30)


def told(allowed: bool, stats: Any) -> dict[str, Any]:
    """Return the decision, and what the limiter has counted so far."""
    return {"allowed": allowed, "failures": stats.failures, "degraded": stats.degraded}


def sync_handler(event: dict[str, str], context: object) -> dict[str, Any]:
    """Decide with the limiter of the module."""
    resource = event["resource"]
    return told(bool(limiter.try_acquire("user", resource, limits=[LIMITS[resource]])), limiter.stats())


def async_handler(event: dict[str, str], context: object) -> dict[str, Any]:
    """Decide in an event loop that lives as long as the invocation."""

    async def decide() -> dict[str, Any]:
        resource = event["resource"]
        async with asynchronous:
            decision = await asynchronous.try_acquire("user", resource, limits=[LIMITS[resource]])
            return told(bool(decision), asynchronous.stats())

    return asyncio.run(decide())
