"""Every error that the limiter raises on purpose, all derived from `LimiterError`, and its one warning."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .models import Decision, LimitStatus


class LimiterError(Exception):
    """The base of every error that the limiter raises on purpose."""

    def __str__(self) -> str:
        """Return the message, with characters escaped that could deceive the reader of a log."""
        from .core.visible import visible

        return visible(super().__str__())


class ValidationError(LimiterError, ValueError):
    """A value from the caller is not usable. The message names the value and the remedy. Nothing was consumed."""


class EntityNotFound(ValidationError):
    """An entity that a call refers to is not stored."""


class EntityExists(ValidationError):
    """An entity that a call wants to create is stored already."""


class EntityChanged(LimiterError):
    """An entity was modified concurrently, in every attempt; nothing was written."""


class LeaseClosed(LimiterError):
    """A lease was used after the end of its `with` block."""


class LeaseLost(LimiterError):
    """A lease was used after its slots had expired unrenewed, so that other callers may hold them; nothing was written."""


class StackNotFound(LimiterError):
    """The table does not exist in this account and region. The message names the command that deploys it."""


class ConfigurationError(LimiterError):
    """Credentials, a region or a library could not be found. The message says where to put them."""


class RuntimeNotReady(LimiterError):
    """gevent or eventlet patched this process too late or in part. The message says where to patch. Nothing was called."""


class PermissionDenied(LimiterError):
    """AWS refused the credentials or the action. The message names the action."""


class UnreadableItem(LimiterError):
    """An item in the table has a shape that this version cannot read. The message names its key."""


class RateLimiterUnavailable(LimiterError):
    """The store could not be reached in time; `__cause__` is the error of the last attempt.

    `unsent` is true if the request certainly had no effect (refused connection, throttling), and false if its response was lost,
    so that it may have been applied.
    """

    def __init__(self, message: str, unsent: bool = False) -> None:
        super().__init__(message)
        self.unsent = unsent

    def __reduce__(self) -> tuple[type[RateLimiterUnavailable], tuple[object, ...]]:
        """Rebuild from the message and the flag, so that the error crosses process boundaries."""
        return type(self), (str(self), self.unsent)


class CircuitOpen(RateLimiterUnavailable):
    """The store has failed repeatedly, so it was not called; `__cause__` is its last failure. Nothing was consumed."""

    def __init__(self, message: str, unsent: bool = True) -> None:
        super().__init__(message, unsent)


class Throttled(RateLimiterUnavailable):
    """DynamoDB accepts no more calls for now. Nothing was consumed.

    `hot_key` is true if the partition of one key has reached its 1,000 write units a second, rather than the table or the account
    its own bound.
    """

    def __init__(self, message: str, unsent: bool = True, hot_key: bool = False) -> None:
        super().__init__(message, unsent)
        self.hot_key = hot_key

    def __reduce__(self) -> tuple[type[Throttled], tuple[object, ...]]:
        """Rebuild from all parts, so that the error crosses process boundaries."""
        return type(self), (str(self), self.unsent, self.hot_key)


class RateLimitExceeded(LimiterError):
    """At least one limit refused the request.

    `statuses` holds every limit that was consulted, and `violations` those that refused. `retry_after` is the seconds until all
    of them would allow the same amounts, if no other caller came first; None if they never would. `degraded` is true if an
    acquire was refused without the table, by the share that this process allows.
    """

    def __init__(self, statuses: tuple[LimitStatus, ...], degraded: bool = False) -> None:
        super().__init__()
        self.statuses = statuses
        self.degraded = degraded

    def __str__(self) -> str:
        """Name each limit that refused, the requested amount, and the remedy. Formatted only when shown."""
        from .core.visible import visible

        return visible(self._describe())

    @property
    def decision(self) -> Decision:
        """The refusal as a `Decision`, as `try_acquire` returns it."""
        from .models import Decision

        return Decision.refused(self.statuses)

    @property
    def violations(self) -> tuple[LimitStatus, ...]:
        """The limits that refused; shadow limits only where their bucket is paused and nothing else refuses."""
        exceeded = tuple(status for status in self.statuses if status.exceeded)
        return tuple(status for status in exceeded if status.limit.enforce) or exceeded

    @property
    def retry_after(self) -> float | None:
        """Seconds until all violations have passed; None if one of them never will."""
        return self.decision.retry_after

    def __reduce__(self) -> tuple[Callable[..., RateLimitExceeded], tuple[object, ...]]:
        """Rebuild from all parts, so that the error crosses process boundaries."""
        return type(self), (self.statuses, self.degraded)

    def _describe(self) -> str:
        return "; ".join(
            f"{status.limit} on {status.entity_id}/{status.resource}: requested {status.requested}, {_remedy(status)}"
            for status in self.violations
        )


class NeverSatisfiable(RateLimitExceeded):
    """The amount is larger than a limit's capacity, so no wait would help; `retry_after` is None and no call was made."""


class Blocked(RateLimitExceeded):
    """The level that applies to a bucket is BLOCKED, so nothing is allowed. No wait helps, and no call was made."""

    def __init__(
        self, statuses: tuple[LimitStatus, ...] = (), degraded: bool = False, entity_id: str = "", resource: str = ""
    ) -> None:
        self.entity_id = entity_id
        self.resource = resource
        super().__init__(statuses, degraded)

    @property
    def decision(self) -> Decision:
        """The refusal as a value, without statuses."""
        from .models import Decision

        return Decision(False, (), None)

    def __reduce__(self) -> tuple[Callable[..., Blocked], tuple[object, ...]]:
        """Rebuild from all parts, so that the error crosses process boundaries."""
        return type(self), (self.statuses, self.degraded, self.entity_id, self.resource)

    def _describe(self) -> str:
        return f"{self.entity_id}/{self.resource} is blocked; to unblock it, store other limits for it or delete the level"


def anew(error: Exception) -> Exception:
    """Return a copy of an error that several callers share, so that tracebacks do not mix; the error itself if uncopyable."""
    try:
        return copy.copy(error)
    except Exception:
        return error


def _remedy(status: LimitStatus) -> str:
    if status.retry_after is None:
        allotment = getattr(status.limit, "allotment", None)
        kept = f", less what refills in its allotment of {allotment} s" if allotment else ""
        return f"which exceeds the capacity of {status.limit.capacity}{kept}; reduce the amount or raise the burst"
    return f"available {status.available}, retry after {status.retry_after:.3f} s"


class StackNotOwned(LimiterError):
    """A stack of this name exists, but the limiter did not deploy it. Nothing was done to it."""


class StackBusy(LimiterError):
    """An operation on the stack took longer than the timeout. It continues in AWS."""


class StackFailed(LimiterError):
    """An operation on the stack failed. `resource` and `reason` are the first failure, which caused the others.

    `status` is the stack's own, such as ROLLBACK_COMPLETE. `resource` is None when the stack as a whole was refused.
    """

    def __init__(self, message: str, stack: str = "", status: str = "", resource: str | None = None, reason: str = "") -> None:
        super().__init__(message)
        self.stack = stack
        self.status = status
        self.resource = resource
        self.reason = reason

    def __reduce__(self) -> tuple[type[StackFailed], tuple[str, str, str, str | None, str]]:
        """Rebuild from all parts, so that the error crosses process boundaries."""
        return type(self), (str(self), self.stack, self.status, self.resource, self.reason)


class DeletionProtected(LimiterError):
    """The stack or its table is protected from deletion; the message says how to remove the protection. Nothing was deleted."""


class ReplacementRefused(LimiterError):
    """The change would delete the table with its items, so nothing was changed."""


class BlockingCallWarning(RuntimeWarning):
    """A sync call blocks the event loop that runs in its thread, and all its tasks. Given once for each place."""
