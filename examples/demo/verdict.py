"""Compares the allowed units with the limit, in the limiter's own integer arithmetic.

The span begins with `since`, the table's record of when the first unit was taken from the full bucket. It ends, for what may at
most have been admitted, when the last admission was answered, and for what could have been admitted, when the load ended. So
both ends err in favour of the programs by the few milliseconds of one answer, and no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from limiter import Limit

CLEARLY_LESS = 10
"""Percent of the possible units that may be left unused before something is wrong."""


@dataclass(slots=True)
class Tally:
    """The decisions of one program; `last` is when its last allowed request was answered, in nanoseconds since the epoch."""

    admitted: int = 0
    refused: int = 0
    failed: int = 0
    last: int = 0

    def admit(self, answered: int, units: int = 1) -> None:
        """Count one allowed request."""
        self.admitted += units
        self.last = max(self.last, answered)


@dataclass(frozen=True, slots=True)
class Verdict:
    """All numbers are units; `booked` is the table's own count of consumed units."""

    admitted: int
    booked: int
    failed: int
    allowed: int
    possible: int

    @property
    def complaints(self) -> tuple[str, ...]:
        """Return what does not agree, in words; empty if everything does."""
        found = {
            f"{self.admitted} units were admitted, and the limit allows {self.allowed}": self.admitted > self.allowed,
            f"{self.admitted} units were admitted, and {self.possible} were possible": self._is_clearly_less(),
            f"the programs count {self.admitted} units, and the table {self.booked}": self.admitted != self.booked,
            f"{self.failed} calls failed": self.failed > 0,
        }
        return tuple(words for words, is_so in found.items() if is_so)

    def _is_clearly_less(self) -> bool:
        return self.admitted * 100 < self.possible * (100 - CLEARLY_LESS)


def units_within(limit: Limit, span: int) -> int:
    """Return the most units that a bucket full at the start allows in `span` nanoseconds: capacity + rate × span."""
    return (limit.window + span) * limit.refill_amount // limit.period_ns


def judge(limit: Limit, tallies: list[Tally], since: int, tat: int, ended: int) -> Verdict:
    """Compare the programs' tallies with the limit and with the bucket, whose `since` and `tat` are read after the end."""
    last = max(tally.last for tally in tallies)
    return Verdict(
        admitted=sum(tally.admitted for tally in tallies),
        booked=(tat - since) * limit.refill_amount // limit.period_ns,
        failed=sum(tally.failed for tally in tallies),
        allowed=units_within(limit, last - since),
        possible=units_within(limit, ended - since),
    )
