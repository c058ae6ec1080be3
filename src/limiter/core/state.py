"""A bucket's state, and the conditional update that is the only way to change it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..exceptions import UnreadableItem
from .slots import NO_SLOTS, Side, Slots, SlotWrite, after, agree

if TYPE_CHECKING:
    from collections.abc import Mapping

UNBOUNDED = 1 << 200
"""Later than any time in nanoseconds, and larger than any number that a table holds."""


class Level(NamedTuple):
    """What is stored of one limit; -1 stands for absent.

    Of a rate all numbers are nanoseconds since the epoch: `tat` is the theoretical arrival time, `since` the start of the current
    busy period (its identity, for refunds), `booked` the latest start that a waiting caller was promised, and `floor` the `tat`
    that the last such promise was built up to. Of a quota, a session and a total `tat` is the units used since the opening, and
    `since` the time of the opening.
    """

    tat: int = -1
    since: int = -1
    booked: int = -1
    floor: int = -1


ABSENT = Level()


@dataclass(frozen=True, slots=True)
class BucketState:
    """All limits of one (entity, resource), by their `identity`.

    `ttl` is in seconds since the epoch; `stamp` names the last write, `earlier` the two before it, "" where there was none.
    `paused` is the time up to which nothing is admitted.
    `marks` maps the name of a limit to the identity whose account was born last. `unreadable` maps what makes no sense (an
    identity, a mark, TTL or PAUSED) to what is wrong with it; other limits are not concerned.
    """

    levels: Mapping[str, Level] = field(default_factory=dict)
    ttl: int = -1
    stamp: str = ""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    paused: int = -1
    marks: Mapping[str, str] = field(default_factory=dict)
    earlier: tuple[str, str] = ("", "")
    slots: Slots = NO_SLOTS

    def has_stamp(self, stamp: str) -> bool:
        """Whether one of the last three writes has this stamp; "" stands for the time before the first write."""
        return stamp == self.stamp or stamp in self.earlier

    def level(self, identity: str) -> Level:
        """What is stored of the limit with this identity."""
        return self.levels.get(identity, ABSENT)


EMPTY = BucketState()
TTL = ""
"""The identity under which a condition or change addresses what belongs to no limit: the bucket's `ttl` and `paused`."""
PAUSED = "paused"
"""Stands for the bucket's `paused` where that is unreadable."""
MARK = "m:"
"""Stands before a limit's name where its mark is unreadable."""


class View(NamedTuple):
    """What one plan starts from: a state at the table's time `now`, which may be wrong by `error` nanoseconds.

    `fresh` says that the batch has read or written the state itself. `slots` is the process's side of the bucket's slots.
    """

    state: BucketState
    now: int
    error: int = 0
    fresh: bool = True
    slots: Side | None = None


class Condition(NamedTuple):
    """One field of one limit must lie between `low` and `high`, both inclusive, or may be `absent`; without bounds it must be."""

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


class Mark(NamedTuple):
    """The mark of the limits called `name` must be the identity `seen`, or may be `absent`; it becomes the identity `new`."""

    name: str
    seen: str | None
    absent: bool
    new: str


class Draft(Protocol):
    """An update in the making. `reasons` are conditions that are asserted only where there is something to write."""

    conditions: list[Condition]
    reasons: list[Condition]
    changes: list[Change]
    marks: list[Mark]
    removals: list[tuple[str, str]]
    slots: tuple[SlotWrite, ...]


@dataclass(frozen=True, slots=True)
class Update:
    """One conditional write of a bucket. Every condition holds and all changes are made, or nothing is.

    The `stamp` is written as well, on condition that none of the last three writes has it: so an update whose answer was lost can
    be sent again, and is not applied twice while up to two others write. `removals` are the limits' fields that are absent
    afterwards.
    """

    stamp: str
    conditions: tuple[Condition, ...]
    changes: tuple[Change, ...]
    marks: tuple[Mark, ...] = ()
    removals: tuple[tuple[str, str], ...] = ()
    slots: tuple[SlotWrite, ...] = ()

    def holds(self, state: BucketState) -> bool:
        """Whether the update may be applied to `state`."""
        return (
            not state.has_stamp(self.stamp)
            and all(_holds(condition, state) for condition in self.conditions)
            and all(_agrees(mark, state) for mark in self.marks)
            and (not self.slots or agree(self.slots, state.slots))
        )

    def apply(self, state: BucketState) -> BucketState:
        """The state after the update; right-hand sides see the old one."""
        levels, ttl, paused = dict(state.levels), state.ttl, state.paused
        for limit, name, base, value in self.changes:
            if limit == TTL:
                ttl, paused = (value, paused) if name == "ttl" else (ttl, value)
            else:
                old = getattr(state.level(limit), base) if base else 0
                levels[limit] = levels.get(limit, ABSENT)._replace(**{name: old + value})
        for limit, name in self.removals:
            levels[limit] = levels.get(limit, ABSENT)._replace(**{name: -1})
            if levels[limit] == ABSENT:
                del levels[limit]  # No item can tell it from one that was never there.
        marks = {**state.marks, **{mark.name: mark.new for mark in self.marks}} if self.marks else state.marks
        slots, earlier = after(self.slots, state.slots) if self.slots else state.slots, (state.stamp, state.earlier[0])
        return BucketState(levels, ttl, self.stamp, paused=paused, marks=marks, earlier=earlier, slots=slots)


class WriteResult(NamedTuple):
    """Whether an update was applied, and the state after it, or the one that kept it from being applied."""

    applied: bool
    state: BucketState


def check_readable(state: BucketState, what: str) -> None:
    """Raise `UnreadableItem` when what is stored of an identity, a mark or the `ttl` makes no sense."""
    if what in state.unreadable:
        raise UnreadableItem(state.unreadable[what])


def _holds(condition: Condition, state: BucketState) -> bool:
    limit, name, low, high, absent = condition
    value: int = getattr(state if limit == TTL else state.level(limit), name)
    if value < 0:
        return absent
    if low is None and high is None:
        return not absent
    return (low is None or value >= low) and (high is None or value <= high)


def _agrees(mark: Mark, state: BucketState) -> bool:
    found = state.marks.get(mark.name)
    return mark.absent if found is None else found == mark.seen
