"""What must hold of a soak, computed from the reports of its processes; no process, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


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
    """How much each figure grew from the middle third of the samples to the last, in their medians."""

    rss: float
    blocks: float
    descriptors: float
    keys: float
    decisions: float


def growth(samples: Sequence[Sample]) -> Growth:
    """Return how a process has grown since it was warm."""
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
    """Return what makes no sense in the statistics of a process that reported at least so many admissions."""
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
"""Bytes of memory by which a warm process may grow: the allocator's own, which vary."""
MOST_BLOCKS = 3_000
"""Blocks of memory by which a warm process may grow for no reason."""
MOST_BLOCKS_A_KEY = 50
"""Memory for one bucket, its limits and its entity, with a margin."""
MOST_BLOCKS_A_DECISION = 0.25
"""A leak of one object in each decision is more."""
MOST_DESCRIPTORS = 4
"""Connections come and go."""
OWN_SOCKETS = 2
"""asyncio wakes itself by them."""
