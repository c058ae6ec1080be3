"""A limit as the audit sees it, read from its text form in a record.

The audit has its own reader and its own arithmetic, so that it does not repeat an error of the limiter's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from ..core.units import NANOSECONDS
from ..exceptions import ValidationError

Kind = Literal["rate", "quota", "session", "total", "slots"]

_SECONDS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_SPAN = r"(?:(?P<count>[0-9.]+) )?(?P<unit>second|minute|hour|day)s?"
_FORMS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("quota", re.compile(r"(?P<units>[0-9]+)/(?P<period>hour|day|week|month) in (?P<zone>\S+)")),
    ("session", re.compile(rf"(?P<units>[0-9]+)/session of {_SPAN}")),
    ("total", re.compile(r"(?P<units>[0-9]+) in all")),
    ("slots", re.compile(r"(?P<units>[0-9]+) at once(?: ttl (?P<count>[0-9.]+))?")),
    ("rate", re.compile(rf"(?P<units>[0-9]+)/{_SPAN}(?: burst (?P<burst>[0-9]+))?(?: allotment (?P<allotment>[0-9.]+))?")),
)
_TTL = "60"
"""Seconds for which slots are held without a renewal, if the text does not say."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit: of a rate, `amount` units refill every `period` nanoseconds.

    `period` is also the length of a session, and the time that slots are held without a renewal. `calendar` is the period of a
    quota, in the time zone `zone`. Units of a rate may be taken up to `allotment` nanoseconds before they are used. A limit
    that is not `enforced` refuses no one.
    """

    kind: Kind
    name: str
    capacity: int
    amount: int = 0
    period: int = 0
    allotment: int = 0
    calendar: str = ""
    zone: str = ""
    enforced: bool = True

    @property
    def identity(self) -> tuple[object, ...]:
        """Equal for limits that count on the same account of a bucket, even if their capacities differ."""
        pace = Fraction(self.amount, self.period) if self.kind == "rate" else None
        return self.kind, self.name, pace, self.calendar, self.zone, self.period if self.kind == "session" else 0

    @property
    def window(self) -> int:
        """Nanoseconds in which the capacity refills, rounded down."""
        return self.worth(self.capacity)

    def cost(self, units: int) -> int:
        """Return the nanoseconds in which the units refill, rounded up; 0 for a limit that does not refill."""
        return -(-units * self.period // self.amount) if self.amount else 0

    def worth(self, units: int) -> int:
        """Return the nanoseconds in which the units refill, rounded down: the least worth of a refund."""
        return units * self.period // self.amount if self.amount else 0


@lru_cache(maxsize=10_000)
def rule(text: str) -> Rule:
    """Read a limit's text, such as `tokens=10000/minute burst 50000`; raises `ValidationError` for any other text."""
    whole = text.removesuffix(" shadow")
    name, _, terms = whole.rpartition("=")
    for kind, form in _FORMS:
        found = form.fullmatch(terms)
        if found is not None:
            return _rule(kind, name, found.groupdict(), enforced=whole == text)
    raise ValidationError(f"{text!r} is not the text of a limit; expected what str() returns for one")


def _rule(kind: Kind, name: str, found: dict[str, str | None], *, enforced: bool) -> Rule:
    units = int(found["units"] or 0)
    if kind == "rate":
        capacity = units if found["burst"] is None else int(found["burst"])
        period, allotment = _span(found), _nanoseconds(found["allotment"] or "0")
        return Rule(kind, name, capacity, units, period, allotment, enforced=enforced)
    if kind == "session":
        return Rule(kind, name, units, period=_span(found), enforced=enforced)
    if kind == "slots":
        return Rule(kind, name, units, period=_nanoseconds(found["count"] or _TTL), enforced=enforced)
    return Rule(kind, name, units, calendar=found.get("period") or "", zone=found.get("zone") or "", enforced=enforced)


def _span(found: dict[str, str | None]) -> int:
    return _nanoseconds(found["count"] or "1") * _SECONDS[found["unit"] or "second"]


def _nanoseconds(seconds: str) -> int:
    return round(Fraction(seconds) * NANOSECONDS)
