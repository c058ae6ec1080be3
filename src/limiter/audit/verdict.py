"""The result of an audit: the verdict, the broken promises, and the interval that came nearest to its limit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from ..core.units import NANOSECONDS

Promise = Literal["capacity", "refusals", "refunds", "order", "chains"]


@dataclass(frozen=True, slots=True)
class Span:
    """The `units` allowed in an interval, less its refunds and refill, beside the `capacity`.

    `begin` and `end` are nanoseconds of the repository's clock.
    """

    entity_id: str
    resource: str
    limit: str
    begin: int
    end: int
    units: float
    capacity: int

    def __str__(self) -> str:
        length = (self.end - self.begin) / NANOSECONDS
        return (
            f"{self.entity_id}/{self.resource} {self.limit}: {_number(self.units)} units of {self.capacity} "
            f"in {length:.6g} s from {moment(self.begin)}"
        )


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken promise: which, of which limit of which bucket, what happened, and the ids of the calls that show it.

    `excess` is the number of units that were allowed beyond the limit, if that is the fault.
    """

    promise: Promise
    entity_id: str
    resource: str
    limit: str
    message: str
    begin: int
    end: int
    ids: tuple[str, ...] = ()
    excess: float = 0.0

    def __str__(self) -> str:
        where = " ".join(filter(None, (f"{self.entity_id}/{self.resource}", self.limit)))
        return f"{self.promise}: {where}: {self.message}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for a set of records: true if no promise was broken.

    `events` is the number of lines, and `decisions` that of decisions; `degraded` of them were made without the table, and
    `failed` raised an error: these are not judged. `cut` lines were incomplete. `worst` is the interval nearest to its limit, or
    furthest beyond it.
    """

    events: int
    decisions: int
    degraded: int
    failed: int
    cut: int
    limits: int
    findings: tuple[Finding, ...]
    worst: Span | None

    def __bool__(self) -> bool:
        return not self.findings


def moment(time: int) -> str:
    """Format a time in nanoseconds for people."""
    try:
        return f"{datetime.fromtimestamp(time // 1000 / 1e6, tz=UTC):%Y-%m-%d %H:%M:%S.%f} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{time} ns"


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
