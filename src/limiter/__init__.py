"""Exact distributed rate limits on one DynamoDB table, for asyncio and for plain synchronous Python.

Importing this package imports neither boto nor asyncio: names resolve on first use, so it is safe before monkey-patching.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .core.limits import BLOCKED, UNLIMITED, Concurrency, Limit, Quota
    from .events import Charged, DecisionEvent, LeaseEvent
    from .exceptions import (
        Blocked,
        BlockingCallWarning,
        CircuitOpen,
        ConfigurationError,
        DeletionProtected,
        EntityChanged,
        EntityExists,
        EntityNotFound,
        LeaseClosed,
        LeaseLost,
        LimiterError,
        NeverSatisfiable,
        PermissionDenied,
        RateLimiterUnavailable,
        RateLimitExceeded,
        ReplacementRefused,
        RuntimeNotReady,
        StackBusy,
        StackFailed,
        StackNotFound,
        StackNotOwned,
        Throttled,
        UnreadableItem,
        ValidationError,
    )
    from .infra.change_set import Deployment, Plan
    from .infra.discovery import discover
    from .infra.drift import Drift
    from .infra.settings import StackSettings
    from .infra.stack_events import StackEvent
    from .infra.stack_manager import StackManager
    from .infra.stack_summary import StackSummary
    from .infra.sync_discovery import sync_discover
    from .infra.sync_stack_manager import SyncStackManager
    from .lease import Lease
    from .limiter import RateLimiter
    from .memory_repository import MemoryRepository
    from .models import BaseLimit, Decision, Entity, LimitStatus, Sweep
    from .repository import Repository
    from .repository_protocol import RepositoryProtocol
    from .statistics import CacheStatistics, Statistics
    from .sync_lease import SyncLease
    from .sync_limiter import SyncRateLimiter
    from .sync_memory_repository import SyncMemoryRepository
    from .sync_repository import SyncRepository
    from .sync_repository_protocol import SyncRepositoryProtocol

_MODULES = {
    "BLOCKED": "core.limits",
    "BaseLimit": "models",
    "Blocked": "exceptions",
    "BlockingCallWarning": "exceptions",
    "CacheStatistics": "statistics",
    "Charged": "events",
    "CircuitOpen": "exceptions",
    "Concurrency": "core.limits",
    "ConfigurationError": "exceptions",
    "Decision": "models",
    "DecisionEvent": "events",
    "DeletionProtected": "exceptions",
    "Deployment": "infra.change_set",
    "Drift": "infra.drift",
    "Entity": "models",
    "EntityChanged": "exceptions",
    "EntityExists": "exceptions",
    "EntityNotFound": "exceptions",
    "Lease": "lease",
    "LeaseClosed": "exceptions",
    "LeaseEvent": "events",
    "LeaseLost": "exceptions",
    "Limit": "core.limits",
    "LimitStatus": "models",
    "LimiterError": "exceptions",
    "MemoryRepository": "memory_repository",
    "NeverSatisfiable": "exceptions",
    "PermissionDenied": "exceptions",
    "Plan": "infra.change_set",
    "Quota": "core.limits",
    "RateLimitExceeded": "exceptions",
    "RateLimiter": "limiter",
    "RateLimiterUnavailable": "exceptions",
    "ReplacementRefused": "exceptions",
    "Repository": "repository",
    "RepositoryProtocol": "repository_protocol",
    "RuntimeNotReady": "exceptions",
    "StackBusy": "exceptions",
    "StackEvent": "infra.stack_events",
    "StackFailed": "exceptions",
    "StackManager": "infra.stack_manager",
    "StackNotFound": "exceptions",
    "StackNotOwned": "exceptions",
    "StackSettings": "infra.settings",
    "StackSummary": "infra.stack_summary",
    "Statistics": "statistics",
    "Sweep": "models",
    "SyncLease": "sync_lease",
    "SyncMemoryRepository": "sync_memory_repository",
    "SyncRateLimiter": "sync_limiter",
    "SyncRepository": "sync_repository",
    "SyncRepositoryProtocol": "sync_repository_protocol",
    "SyncStackManager": "infra.sync_stack_manager",
    "Throttled": "exceptions",
    "UNLIMITED": "core.limits",
    "UnreadableItem": "exceptions",
    "ValidationError": "exceptions",
    "discover": "infra.discovery",
    "sync_discover": "infra.sync_discovery",
}

__all__ = [
    "BLOCKED",
    "UNLIMITED",
    "BaseLimit",
    "Blocked",
    "BlockingCallWarning",
    "CacheStatistics",
    "Charged",
    "CircuitOpen",
    "Concurrency",
    "ConfigurationError",
    "Decision",
    "DecisionEvent",
    "DeletionProtected",
    "Deployment",
    "Drift",
    "Entity",
    "EntityChanged",
    "EntityExists",
    "EntityNotFound",
    "Lease",
    "LeaseClosed",
    "LeaseEvent",
    "LeaseLost",
    "Limit",
    "LimitStatus",
    "LimiterError",
    "MemoryRepository",
    "NeverSatisfiable",
    "PermissionDenied",
    "Plan",
    "Quota",
    "RateLimitExceeded",
    "RateLimiter",
    "RateLimiterUnavailable",
    "ReplacementRefused",
    "Repository",
    "RepositoryProtocol",
    "RuntimeNotReady",
    "StackBusy",
    "StackEvent",
    "StackFailed",
    "StackManager",
    "StackNotFound",
    "StackNotOwned",
    "StackSettings",
    "StackSummary",
    "Statistics",
    "Sweep",
    "SyncLease",
    "SyncMemoryRepository",
    "SyncRateLimiter",
    "SyncRepository",
    "SyncRepositoryProtocol",
    "SyncStackManager",
    "Throttled",
    "UnreadableItem",
    "ValidationError",
    "__version__",
    "discover",
    "sync_discover",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
