"""Slots as a bucket stores them: how many slots of a limit are held, by which processes and until when, and the fence.

A process holds slots by one *entry* for each limit: one number that contains the time until which it holds them, and how many. An
entry is compared as a whole. It grows with every write of its process, so it identifies the write that left it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .limits.concurrency import Concurrency

NONE = -1
"""The value of an absent entry or fence."""
HOLDER_LENGTH = 8
"""Characters of a holder's id."""
COUNTED = 1_000_000
"""The factor of an entry's time, which leaves room for its count."""
MILLISECOND = 1_000_000
"""Nanoseconds."""
RESERVE = 1_000
"""Fence numbers that a write draws beyond its own grants, for slots that pass between callers without a write."""


class Slots(NamedTuple):
    """All slots of a bucket: how many are `held`, by the limit's name, and the `entries`, by name and holder.

    `fence` is the last number that was drawn.
    """

    held: Mapping[str, int] = {}
    entries: Mapping[str, Mapping[str, int]] = {}
    fence: int = NONE

    def entry(self, name: str, holder: str) -> int:
        """Return a holder's entry for the limit of that name."""
        return self.entries.get(name, {}).get(holder, NONE)


NO_SLOTS = Slots()


class SlotWrite(NamedTuple):
    """What one update does to the slots of a limit.

    The entry of `holder` must be as it was `seen`, and becomes `entry`; if `entry` is None, it is neither compared nor changed.
    The number of slots held changes by `change`. It must be at most `most`, if that is given, and at least `least`. Each of
    `dead`, a holder and its entry, must be as it was seen, and is removed. The write draws `numbers` numbers of the fence, which
    starts after `first`; the first `taken` of them are for the slots that are taken.
    """

    limit: Concurrency
    holder: str
    seen: int
    entry: int | None
    change: int = 0
    most: int | None = None
    least: int = 0
    dead: tuple[tuple[str, int], ...] = ()
    taken: int = 0
    numbers: int = 0
    first: int = 0

    @property
    def name(self) -> str:
        """The limit's name."""
        return self.limit.name


class Own(NamedTuple):
    """What a process knows of its own slots of one limit: how many its open `leases` hold, and in which `generation`.

    `last` is the latest time, in milliseconds, until which one of its entries held slots. A slot is expected to be free after
    `wait` nanoseconds; None if that is not known.
    """

    leases: int = 0
    generation: int = 1
    last: int = 0
    wait: int | None = None


class Side(NamedTuple):
    """What a plan needs to know of its process: its `holder` id, and its `own` slots by the limit's name.

    A response has shown the state at the table's time `confirmed`, or later. The plan is made at the monotonic time `mono`. Any
    write also writes the limits in `due`: it frees slots whose leases have ended, or renews slots. With `draws` the write draws
    fence numbers too.
    """

    holder: str
    confirmed: int
    mono: int
    own: Mapping[str, Own]
    due: tuple[Concurrency, ...] = ()
    draws: bool = False


def entry_of(until: int, count: int) -> int:
    """Return the entry for `count` slots that are held until a time in milliseconds; NONE if there are no slots."""
    return until * COUNTED + count if count else NONE


def count_of(entry: int) -> int:
    """Return the slots that an entry holds."""
    return entry % COUNTED if entry >= 0 else 0


def until_of(entry: int) -> int:
    """Return the time until which an entry holds its slots, in nanoseconds."""
    return entry // COUNTED * MILLISECOND


def agree(writes: Sequence[SlotWrite], slots: Slots) -> bool:
    """Tell whether everything that the writes assert is true."""
    return all(_agrees(each, slots) for each in writes)


def _agrees(write: SlotWrite, slots: Slots) -> bool:
    held = slots.held.get(write.name)
    own = write.entry is None or slots.entry(write.name, write.holder) == write.seen
    most = write.most is None or held is None or held <= write.most
    least = not write.least or (held is not None and held >= write.least)
    return own and most and least and all(slots.entry(write.name, holder) == entry for holder, entry in write.dead)


def after(writes: Sequence[SlotWrite], slots: Slots) -> Slots:
    """Return the slots once the writes are made."""
    held, entries, fence = dict(slots.held), dict(slots.entries), slots.fence
    for write in writes:
        others = dict(entries.get(write.name, {}))
        for holder, _ in write.dead:
            del others[holder]
        if write.entry is not None:
            others[write.holder] = write.entry
        entries[write.name] = {holder: entry for holder, entry in others.items() if entry >= 0}
        if write.change or write.name in held:
            held[write.name] = held.get(write.name, 0) + write.change
        if write.numbers:
            fence = (write.first if fence < 0 else fence) + write.numbers
    return Slots(held, {name: each for name, each in entries.items() if each}, fence)


def drawn(writes: Sequence[SlotWrite], fence: int) -> dict[str, int]:
    """Return, by the limit's name, the number before the first one that a write drew; the fence is now at `fence`."""
    before, found = fence - sum(write.numbers for write in writes), {}
    for write in writes:
        if write.numbers:
            found[write.name] = before
            before += write.numbers
    return found
