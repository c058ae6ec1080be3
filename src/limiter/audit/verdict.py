"""What an audit finds: the verdict, the broken promises, and the span of time that came nearest to its limit."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from ..core.units import NANOSECONDS

Promise = Literal["capacity", "refusals", "refunds", "order", "chains"]


@dataclass(frozen=True, slots=True)
class Span:
    """The `units` admitted in a span of time, less the refunds and the refill of that span, beside the `capacity`.

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

    `excess` is the units that were admitted beyond the limit, where that is what is wrong.
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
    """What an audit says of records: true when no promise was broken.

    `events` are lines, of which `decisions` are decisions; `degraded` of them were made without the table, and `failed` raised an
    error: these are not judged. `cut` lines were incomplete. `worst` is the span nearest to its limit, or furthest beyond it.
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
    """A time in nanoseconds as people read it."""
    try:
        return f"{datetime.fromtimestamp(time // 1000 / 1e6, tz=UTC):%Y-%m-%d %H:%M:%S.%f} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{time} ns"


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
