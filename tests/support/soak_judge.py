"""What must hold of a soak, worked out from what its processes have said; no process, no clock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Event(NamedTuple):
    """Units that were taken, or with a negative sign given back, at some moment from `began` to `ended`; seconds."""

    units: int
    began: float
    ended: float


def most_beyond(events: Iterable[Event], rate: float) -> float:
    """The most, over all spans of time, of what was surely taken in the span, less what can have been given back, and the refill.

    Where the limit is kept it is at most the capacity, however long calls took. What is taken counts in the spans that contain
    the whole call, what is given back in those that touch it.
    """
    # By the time at which it counts in spans that end then or later; what is given back first.
    order = sorted(events, key=lambda each: (each.ended, 1) if each.units > 0 else (each.began, 0))
    starts = sorted({each.began for each in order if each.units > 0})
    tree = _Suffixes(len(starts))
    most, active = 0.0, 0
    for units, began, ended in order:
        now, reach = (ended, began) if units > 0 else (began, ended)
        while active < len(starts) and starts[active] <= now:
            tree.activate(active, rate * starts[active])
            active += 1
        last = _last_at_most(starts, reach)
        if last >= 0:
            tree.add(last, units)
        if units > 0:
            most = max(most, tree.best - rate * now)
    return most


def _last_at_most(sorted_values: Sequence[float], value: float) -> int:
    import bisect

    return bisect.bisect_right(sorted_values, value) - 1


class _Suffixes:
    """The greatest, over all active positions, of the position's base and all that was added there or behind it."""

    def __init__(self, size: int) -> None:
        self._size = 1 << max(0, size - 1).bit_length()
        self._sums = [0] * (2 * self._size)
        self._bases = [-math.inf] * self._size
        self._best = [-math.inf] * (2 * self._size)

    @property
    def best(self) -> float:
        return self._best[1]

    def activate(self, index: int, base: float) -> None:
        self._bases[index] = base
        self.add(index, 0)

    def add(self, index: int, units: int) -> None:
        node = self._size + index
        self._sums[node] += units
        self._best[node] = self._bases[index] + self._sums[node]
        while node > 1:
            node //= 2
            left, right = 2 * node, 2 * node + 1
            self._sums[node] = self._sums[left] + self._sums[right]
            self._best[node] = max(self._best[left] + self._sums[right], self._best[right])


@dataclass(frozen=True)
class Sample:
    """What one process uses at a moment: bytes, blocks of memory that Python has given out, descriptors, sockets, keys so far."""

    at: float
    rss: int
    blocks: int
    descriptors: int
    sockets: int
    keys: int
    statistics: Mapping[str, int | float | str | None]


class Growth(NamedTuple):
    """By how much each figure went up from the middle third of the samples to the last, in their medians."""

    rss: float
    blocks: float
    descriptors: float
    keys: float
    decisions: float


def growth(samples: Sequence[Sample]) -> Growth:
    """How a process has grown since it was warm."""
    third = len(samples) // 3
    early, late = ([_figures(each) for each in part] for part in (samples[third : 2 * third], samples[2 * third :]))
    return Growth(
        *(median(after) - median(before) for before, after in zip(zip(*early, strict=True), zip(*late, strict=True), strict=True))
    )


def _figures(sample: Sample) -> Growth:
    return Growth(sample.rss, sample.blocks, sample.descriptors, sample.keys, float(sample.statistics["decisions"] or 0))


def faults_of_use(samples: Sequence[Sample], max_connections: int, own: int) -> list[str]:
    """What is wrong with how a process used memory, descriptors and connections.

    `own` descriptors are not for connections.
    """
    grown = growth(samples)
    wrong = []
    if grown.rss > MOST_BYTES:
        wrong.append(f"grew by {grown.rss / 1e6:.1f} MB")
    if grown.blocks > MOST_BLOCKS + MOST_BLOCKS_A_KEY * grown.keys + MOST_BLOCKS_A_DECISION * grown.decisions:
        wrong.append(f"grew by {grown.blocks:.0f} blocks for {grown.decisions:.0f} decisions and {grown.keys:.0f} new keys")
    if grown.descriptors > MOST_DESCRIPTORS:
        wrong.append(f"grew by {grown.descriptors:.0f} descriptors")
    most = max(each.sockets for each in samples)
    if most > max_connections + OWN_SOCKETS:
        wrong.append(f"had {most} sockets, with max_connections={max_connections}")
    most = max(each.descriptors for each in samples)
    if most > max_connections + own:
        wrong.append(f"had {most} descriptors, with max_connections={max_connections}")
    return wrong


def faults_of_statistics(statistics: Mapping[str, int | float | str | None], admitted: int) -> list[str]:
    """What makes no sense in the statistics of a process that said that it made at least so many admissions."""
    count = {name: int(value) for name, value in statistics.items() if isinstance(value, int | float)}
    rules = {
        "decisions >= refusals + admitted": count["decisions"] >= count["refusals"] + admitted,
        "calls >= failures + throttled": count["calls"] >= count["failures"] + count["throttled"],
        "batches > 0": count["batches"] > 0,
        "no degraded": count["degraded"] == 0,
        "cache_hits > 0": count["cache_hits"] > 0,
    }
    return [f"{rule} is not so: {dict(count)}" for rule, holds in rules.items() if not holds]


MOST_BYTES = 8_000_000
"""Bytes of memory by which a process that is warm may grow: what the allocator keeps for itself, and goes up and down."""
MOST_BLOCKS = 3_000
"""Blocks of memory by which a process that is warm may grow for no reason."""
MOST_BLOCKS_A_KEY = 50
"""What is remembered of a bucket, its limits and its entity, with room to spare."""
MOST_BLOCKS_A_DECISION = 0.25
"""A leak of a single object in each decision is more."""
MOST_DESCRIPTORS = 4
"""Connections come and go."""
OWN_SOCKETS = 2
"""With which asyncio wakes itself."""
