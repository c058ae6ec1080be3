"""The record that a driver writes, and the figures that follow from it."""

from __future__ import annotations

import gc
import math
import os
import resource
import statistics
import time
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TURN = 25
"""Calls of one side before the other side's turn."""


@dataclass(slots=True)
class Record:
    """The decisions of one phase: the nanoseconds of each, and how many were allowed.

    `order` holds, of callers who waited, their number by arrival, in the order of their starts; `turns`, of sides that took
    turns, the nanoseconds of CPU time that each turn took.
    """

    latencies: array[int] = field(default_factory=lambda: array("Q"))
    admissions: array[int] = field(default_factory=lambda: array("B"))
    order: list[int] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    turns: dict[str, list[int]] = field(default_factory=dict)
    began: float = 0.0
    elapsed: float = 0.0
    cpu_user: float = 0.0
    cpu_system: float = 0.0

    def add(self, began: int, admitted: bool) -> None:
        """Record one decision that began at `began` on the performance counter."""
        self.latencies.append(time.perf_counter_ns() - began)
        self.admissions.append(admitted)

    def figures(self) -> dict[str, Any]:
        """Return all figures of the phase, in JSON's types."""
        count = len(self.latencies)
        ordered = sorted(self.latencies)
        cpu = self.cpu_user + self.cpu_system
        return {
            "decisions": count,
            "admitted": sum(self.admissions),
            "seconds": self.elapsed,
            "per_second": count / self.elapsed if self.elapsed else 0.0,
            "cpu_us": 1e6 * cpu / count if count else 0.0,
            "cpu_user_s": self.cpu_user,
            "cpu_system_s": self.cpu_system,
            "p50_ms": quantile(ordered, 0.50) / 1e6,
            "p99_ms": quantile(ordered, 0.99) / 1e6,
            "max_ms": (ordered[-1] if ordered else 0) / 1e6,
        }

    def ratio(self, side: str, other: str) -> float:
        """Return the CPU time of one side's turns over that of another's, as the median of all rounds."""
        return statistics.median(a / b for a, b in zip(self.turns[side], self.turns[other], strict=True))


class Stopwatch:
    """Adds the wall time and this process's CPU time of a `with` block to a record."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def __enter__(self) -> Record:
        gc.collect()
        self._usage = resource.getrusage(resource.RUSAGE_SELF)
        self._record.began = time.perf_counter()
        return self._record

    def __exit__(self, *_: object) -> None:
        record, usage = self._record, resource.getrusage(resource.RUSAGE_SELF)
        record.elapsed = time.perf_counter() - record.began
        record.cpu_user = usage.ru_utime - self._usage.ru_utime
        record.cpu_system = usage.ru_stime - self._usage.ru_stime


def quantile(ordered: list[int], fraction: float) -> float:
    """Return the value below which a fraction of a sorted list lies; 0 for an empty list."""
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))] if ordered else 0.0


def resident_bytes() -> int:
    """Return the resident memory of this process now, or, if that is not available, its maximum so far."""
    gc.collect()
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def late(order: list[int], starts: list[float], slack: float) -> int:
    """Return how many callers started more than `slack` seconds after one that arrived later."""
    count, earliest = 0, math.inf
    for _, start in sorted(zip(order, starts, strict=True), reverse=True):
        count += start > earliest + slack
        earliest = min(earliest, start)
    return count
