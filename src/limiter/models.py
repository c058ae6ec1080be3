"""The values of the public interface: frozen, hashable, comparable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class BaseLimit:
    """The base of every kind of limit: a name, a capacity in whole units, and whether it is enforced.

    A limit with `enforce=False` is a shadow: it is counted and reported as if it were enforced, and refuses nothing.
    """

    name: str
    capacity: int
    enforce: bool = field(default=True, kw_only=True)
    identity: str = field(init=False, repr=False, compare=False)
    """Names what is stored of the limit: its name, and the rate or period that units are counted by.

    The capacity and `enforce` can change without a change of identity.
    """
    holds: ClassVar[bool] = False
    """Whether units are held until their lease ends, as slots are."""


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """The response of one limit of one bucket to one request.

    `available` counts units after an allowed request, or before a refused one; it is negative in debt. `retry_after` is in
    seconds: 0.0 if the limit was not exceeded, None if it can never be satisfied. `reset_after` is the seconds until the bucket
    is full; None for a total and for slots.
    """

    entity_id: str
    resource: str
    limit: BaseLimit
    requested: int
    available: int
    exceeded: bool
    retry_after: float | None
    reset_after: float | None


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request was, or would be, allowed; true if so.

    `retry_after` is the longest wait in seconds: 0.0 if allowed, None if no wait would help.
    """

    allowed: bool
    statuses: tuple[LimitStatus, ...]
    retry_after: float | None

    @classmethod
    def of(cls, statuses: Iterable[LimitStatus]) -> Decision:
        """Return the decision that the statuses add up to. Shadow limits do not count."""
        consulted = tuple(statuses)
        waits = [status.retry_after for status in consulted if status.exceeded and status.limit.enforce]
        retry_after = None if None in waits else max([wait for wait in waits if wait is not None], default=0.0)
        return cls(not waits, consulted, retry_after)

    @classmethod
    def refused(cls, statuses: Iterable[LimitStatus]) -> Decision:
        """Return the decision of a refused call; if a pause refuses it and no enforced limit, the shadows show the pause."""
        consulted = tuple(statuses)
        told = cls.of(consulted)
        waits = [status.retry_after for status in consulted if status.exceeded and status.retry_after is not None]
        return cls(False, consulted, max(waits, default=None) if told.allowed else told.retry_after)

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True, slots=True)
class Entity:
    """An id that limits apply to. With a `parent_id` and `cascade`, its parent is charged for everything that it consumes."""

    entity_id: str
    parent_id: str | None = None
    cascade: bool = True
    name: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep has found: items that had expired; those that were deleted; those that were used again, and so kept."""

    expired: int = 0
    deleted: int = 0
    renewed: int = 0
