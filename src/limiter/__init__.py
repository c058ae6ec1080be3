"""Exact distributed rate limits on one DynamoDB table, for asyncio and for plain synchronous Python.

Importing this package imports neither boto nor asyncio: names resolve on first use, so it is safe before monkey-patching.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .exceptions import (
        ConfigurationError,
        LeaseClosed,
        LimiterError,
        NeverSatisfiable,
        PermissionDenied,
        RateLimiterUnavailable,
        RateLimitExceeded,
        StackNotFound,
        UnreadableItem,
        ValidationError,
    )
    from .lease import Lease
    from .limiter import RateLimiter
    from .memory_repository import MemoryRepository
    from .models import Decision, Entity, Limit, LimitStatus
    from .repository import Repository
    from .repository_protocol import RepositoryProtocol
    from .sync_lease import SyncLease
    from .sync_limiter import SyncRateLimiter
    from .sync_memory_repository import SyncMemoryRepository
    from .sync_repository import SyncRepository
    from .sync_repository_protocol import SyncRepositoryProtocol

_MODULES = {
    "ConfigurationError": "exceptions",
    "Decision": "models",
    "Entity": "models",
    "Lease": "lease",
    "LeaseClosed": "exceptions",
    "Limit": "models",
    "LimitStatus": "models",
    "LimiterError": "exceptions",
    "MemoryRepository": "memory_repository",
    "NeverSatisfiable": "exceptions",
    "PermissionDenied": "exceptions",
    "RateLimitExceeded": "exceptions",
    "RateLimiter": "limiter",
    "RateLimiterUnavailable": "exceptions",
    "Repository": "repository",
    "RepositoryProtocol": "repository_protocol",
    "StackNotFound": "exceptions",
    "SyncLease": "sync_lease",
    "SyncMemoryRepository": "sync_memory_repository",
    "SyncRateLimiter": "sync_limiter",
    "SyncRepository": "sync_repository",
    "SyncRepositoryProtocol": "sync_repository_protocol",
    "UnreadableItem": "exceptions",
    "ValidationError": "exceptions",
}

__all__ = [
    "ConfigurationError",
    "Decision",
    "Entity",
    "Lease",
    "LeaseClosed",
    "Limit",
    "LimitStatus",
    "LimiterError",
    "MemoryRepository",
    "NeverSatisfiable",
    "PermissionDenied",
    "RateLimitExceeded",
    "RateLimiter",
    "RateLimiterUnavailable",
    "Repository",
    "RepositoryProtocol",
    "StackNotFound",
    "SyncLease",
    "SyncMemoryRepository",
    "SyncRateLimiter",
    "SyncRepository",
    "SyncRepositoryProtocol",
    "UnreadableItem",
    "ValidationError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
