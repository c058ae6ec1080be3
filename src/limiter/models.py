"""The values of the public interface: frozen, hashable, comparable."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class BaseLimit:
    """What every kind of limit has: a name, a capacity in whole units, and whether it is enforced.

    A limit with `enforce=False` is a shadow: it decides, is counted and reported as if it were enforced, and refuses nothing.
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
    """What one limit of one bucket said to one request.

    `available` counts units after the request when it was admitted, and before it when not; it is negative in debt.
    `retry_after` is in seconds: 0.0 when the limit was not exceeded, None when it can never be satisfied. `reset_after` is the
    seconds until the bucket is full; None for a total and for slots.
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
    """Whether a request was, or would be, admitted; true when it was.

    `retry_after` is the longest wait in seconds: 0.0 when admitted, None when no wait would help.
    """

    allowed: bool
    statuses: tuple[LimitStatus, ...]
    retry_after: float | None

    @classmethod
    def of(cls, statuses: Iterable[LimitStatus]) -> Decision:
        """The decision that the statuses add up to; shadows are left out of it."""
        consulted = tuple(statuses)
        waits = [status.retry_after for status in consulted if status.exceeded and status.limit.enforce]
        retry_after = None if None in waits else max([wait for wait in waits if wait is not None], default=0.0)
        return cls(not waits, consulted, retry_after)

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True, slots=True)
class Entity:
    """Who is limited. With a `parent_id` and `cascade`, everything it takes is taken from the parent too."""

    entity_id: str
    parent_id: str | None = None
    cascade: bool = True
    name: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)
