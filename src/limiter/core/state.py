"""A bucket's state, and the conditional update that is the only way to change it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..exceptions import UnreadableItem
from .slots import NO_SLOTS, Side, Slots, SlotWrite, after, agree

if TYPE_CHECKING:
    from collections.abc import Mapping

UNBOUNDED = 1 << 200
"""Later than any time in nanoseconds, and larger than any number in a table."""


class Level(NamedTuple):
    """The stored numbers of one limit; -1 stands for absent.

    For a rate, all numbers are nanoseconds since the epoch: `tat` is the theoretical arrival time, `since` the start of the
    current busy period (which refunds refer to), `booked` the latest start that a waiting caller was promised, and `floor` the
    `tat` that this promise depends on. For a quota, a session and a total, `tat` is the units used since the opening, and `since`
    the time of the opening.
    """

    tat: int = -1
    since: int = -1
    booked: int = -1
    floor: int = -1


ABSENT = Level()


@dataclass(frozen=True, slots=True)
class BucketState:
    """All limits of one (entity, resource), by their `identity`.

    `ttl` is in seconds since the epoch. `stamp` names the last write, `earlier` the two before it; "" stands for no write.
    `paused` is the time until which nothing is admitted. `marks` maps the name of a limit to the identity whose account was
    opened last. `count` tells how much all processes write to the bucket; see `Pace`. `unreadable` maps each malformed part (an
    identity, a mark, TTL, PAUSED or COUNT) to a description of the fault; other limits are not affected.
    """

    levels: Mapping[str, Level] = field(default_factory=dict)
    ttl: int = -1
    stamp: str = ""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    paused: int = -1
    marks: Mapping[str, str] = field(default_factory=dict)
    earlier: tuple[str, str] = ("", "")
    slots: Slots = NO_SLOTS
    count: int = 0

    def has_stamp(self, stamp: str) -> bool:
        """Tell whether one of the last three writes has this stamp; "" stands for the time before the first write."""
        return stamp == self.stamp or stamp in self.earlier

    def level(self, identity: str) -> Level:
        """Return the stored level of the limit with this identity."""
        return self.levels.get(identity, ABSENT)


EMPTY = BucketState()
TTL = ""
"""The identity by which a condition or change addresses the bucket's own `ttl` and `paused`."""
PAUSED = "paused"
"""The key of the bucket's `paused` in `unreadable`."""
COUNT = "count"
"""The key of the bucket's `count` in `unreadable`."""
MARK = "m:"
"""The prefix of a limit's name in `unreadable` whose mark cannot be read."""


class View(NamedTuple):
    """The basis of one plan: a state at the table's time `now`, which may be wrong by `error` nanoseconds.

    `fresh` means that the batch has read or written the state itself. `slots` is what the process knows of its slots.
    """

    state: BucketState
    now: int
    error: int = 0
    fresh: bool = True
    slots: Side | None = None


class Condition(NamedTuple):
    """One field of one limit must be from `low` to `high`, or may be `absent`; without bounds, it must be absent or present."""

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
    """An update that is being built. `reasons` are conditions that are asserted only if there is something to write."""

    conditions: list[Condition]
    reasons: list[Condition]
    changes: list[Change]
    marks: list[Mark]
    removals: list[tuple[str, str]]
    slots: tuple[SlotWrite, ...]


@dataclass(frozen=True, slots=True)
class Update:
    """One conditional write of a bucket. If every condition holds, all changes are made; otherwise none.

    The `stamp` is written too, on condition that none of the last three writes has it. So an update whose response was lost can
    be sent again, and is not applied twice while up to two other processes write. `removals` are the limits' fields that are
    absent afterwards. `count` is added to the bucket's.
    """

    stamp: str
    conditions: tuple[Condition, ...]
    changes: tuple[Change, ...]
    marks: tuple[Mark, ...] = ()
    removals: tuple[tuple[str, str], ...] = ()
    slots: tuple[SlotWrite, ...] = ()
    count: int = 0

    def holds(self, state: BucketState) -> bool:
        """Tell whether the update may be applied to `state`."""
        return (
            not state.has_stamp(self.stamp)
            and all(_holds(condition, state) for condition in self.conditions)
            and all(_agrees(mark, state) for mark in self.marks)
            and (not self.slots or agree(self.slots, state.slots))
        )

    def apply(self, state: BucketState) -> BucketState:
        """Return the state after the update. All changes are computed from the old state."""
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
                del levels[limit]  # An item has the same form if the limit was never stored.
        marks = {**state.marks, **{mark.name: mark.new for mark in self.marks}} if self.marks else state.marks
        slots, earlier = after(self.slots, state.slots) if self.slots else state.slots, (state.stamp, state.earlier[0])
        count = state.count + self.count
        return BucketState(levels, ttl, self.stamp, paused=paused, marks=marks, earlier=earlier, slots=slots, count=count)


class WriteResult(NamedTuple):
    """Whether an update was applied; and the state after it, or the state that prevented it."""

    applied: bool
    state: BucketState


def check_readable(state: BucketState, what: str) -> None:
    """Raise `UnreadableItem` if the stored form of an identity, a mark or the `ttl` is malformed."""
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
