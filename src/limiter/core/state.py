"""A bucket's state, and the conditional update that is the only way to change it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..exceptions import UnreadableItem

if TYPE_CHECKING:
    from collections.abc import Mapping


class Level(NamedTuple):
    """The state of one limit; all numbers are nanoseconds since the epoch, and -1 stands for absent.

    `tat` is the theoretical arrival time, `since` the start of the current busy period (its identity, for refunds), `booked` the
    latest start that a waiting caller was promised, and `floor` the `tat` that the last such promise was built up to.
    """

    tat: int = -1
    since: int = -1
    booked: int = -1
    floor: int = -1


ABSENT = Level()


@dataclass(frozen=True, slots=True)
class BucketState:
    """All limits of one (entity, resource). `ttl` is in seconds since the epoch; `stamp` names the last write.

    `unreadable` maps the limits whose stored state makes no sense, or TTL, to what is wrong; the other limits are not concerned.
    """

    levels: Mapping[str, Level] = field(default_factory=dict)
    ttl: int = -1
    stamp: str = ""
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def level(self, name: str) -> Level:
        """The state of the limit `name`."""
        return self.levels.get(name, ABSENT)


EMPTY = BucketState()
TTL = ""
"""The limit name under which a condition or change addresses the bucket's `ttl`."""


class Condition(NamedTuple):
    """One field of one limit must lie between `low` and `high`, both inclusive, or may be `absent`."""

    limit: str
    field: str
    low: int | None
    high: int | None
    absent: bool = False


class Change(NamedTuple):
    """One field of one limit becomes `value`, plus the old value of the field `base` of the same limit when that is given."""

    limit: str
    field: str
    base: str | None
    value: int


class Draft(Protocol):
    """An update in the making. `reasons` are conditions that are asserted only where there is something to write."""

    conditions: list[Condition]
    reasons: list[Condition]
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class Update:
    """One conditional write of a bucket. Every condition holds and all changes are made, or nothing is.

    The `stamp` is written as well, on condition that it is not there already: so an update whose answer was lost can be sent
    again without being applied twice in a row.
    """

    stamp: str
    conditions: tuple[Condition, ...]
    changes: tuple[Change, ...]

    def holds(self, state: BucketState) -> bool:
        """Whether the update may be applied to `state`."""
        return state.stamp != self.stamp and all(_holds(condition, state) for condition in self.conditions)

    def apply(self, state: BucketState) -> BucketState:
        """The state after the update; right-hand sides see the old one."""
        levels, ttl = dict(state.levels), state.ttl
        for limit, name, base, value in self.changes:
            if limit == TTL:
                ttl = value
            else:
                old = getattr(state.level(limit), base) if base else 0
                levels[limit] = levels.get(limit, ABSENT)._replace(**{name: old + value})
        return BucketState(levels, ttl, self.stamp)


class WriteResult(NamedTuple):
    """Whether an update was applied, and the state after it, or the one that kept it from being applied."""

    applied: bool
    state: BucketState


def check_readable(state: BucketState, name: str) -> None:
    """Raise `UnreadableItem` when what is stored of the limit, or the `ttl`, makes no sense."""
    if name in state.unreadable:
        raise UnreadableItem(state.unreadable[name])


def _holds(condition: Condition, state: BucketState) -> bool:
    limit, name, low, high, absent = condition
    value: int = state.ttl if limit == TTL else getattr(state.level(limit), name)
    if value < 0:
        return absent
    return (low is None or value >= low) and (high is None or value <= high)
