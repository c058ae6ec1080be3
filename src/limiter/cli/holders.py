"""Slots of buckets: how many are held, by how many processes, and which of these processes have not renewed theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.slots import count_of, until_of
from ..core.units import NANOSECONDS
from .output import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..core.state import BucketState

LONG_AGO = 3_600 * NANOSECONDS
"""Nanoseconds after which expired slots are worth a note: no process has needed them since."""

_EXPIRED_REMEDY = (
    "the slots are free for the next process that needs them; find out why the processes that held them died or froze"
)
_SUM_REMEDY = "another program has written to the item; delete the item when no lease is open"


SLOT_COLUMNS = ("held", "expired")


@dataclass(frozen=True, slots=True)
class SlotUse:
    """What is held of one limit: `held` slots by `holders` processes.

    Slots of the `expired` processes are not among them, because they were not renewed in time and count as free.
    """

    held: int
    holders: int
    expired: int


UNUSED = SlotUse(0, 0, 0)


def slot_uses(state: BucketState, now: int) -> dict[str, SlotUse]:
    """Return the use of the slots of each limit of a bucket, by the limit's name."""
    names = state.slots.held.keys() | state.slots.entries.keys()
    return {name: _use(state.slots.entries.get(name, {}), now) for name in sorted(names)}


def slot_cells(use: SlotUse | None) -> tuple[int | None, int | None]:
    """Return the cells of the columns `held` and `expired`; without expired holders, the second one is empty."""
    return (None, None) if use is None else (use.held, use.expired or None)


def slot_notes(state: BucketState, now: int) -> Iterator[tuple[str, str]]:
    """Yield what is worth knowing of a bucket's slots, each with its remedy."""
    for name, held in sorted(state.slots.held.items()):
        entries = state.slots.entries.get(name, {}).values()
        old = [each for each in entries if until_of(each) < now - LONG_AGO]
        if old:
            slots, holders = counted(sum(map(count_of, old)), "slot"), counted(len(old), "holder")
            hours = (now - max(map(until_of, old))) / LONG_AGO
            yield f"limit {name!r}: {slots} of {holders} expired at least {hours:.1f} hours ago", _EXPIRED_REMEDY
        total = sum(map(count_of, entries))
        if total != held:
            yield f"limit {name!r}: {held} slots are held in all, but processes hold {total}", _SUM_REMEDY


def _use(entries: Mapping[str, int], now: int) -> SlotUse:
    """Return the use of one limit's slots, from the entries of its holders."""
    valid = [count_of(entry) for entry in entries.values() if until_of(entry) >= now]
    return SlotUse(sum(valid), len(valid), len(entries) - len(valid))
