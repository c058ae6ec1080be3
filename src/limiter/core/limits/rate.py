"""Rates: units that refill continuously, with a burst."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from itertools import count
from math import gcd
from typing import TYPE_CHECKING, ClassVar

from ...exceptions import ValidationError
from ...models import BaseLimit
from ..units import DAY, HOUR, MINUTE, NANOSECONDS, SECOND
from ..validation import check_integer, shown
from . import gcra
from .checks import MAX_SPAN, check_common, check_span, derive
from .text import AMOUNT, DEFAULT_NAME, NUMBER, PER, SPAN, WHOLE, number_text, seconds, shadow

if TYPE_CHECKING:
    from .access import Access

_MAX_WINDOW = int(MAX_SPAN) * NANOSECONDS
_FORM = re.compile(rf"{AMOUNT}r?{PER}{SPAN}(?:\s+burst\s+(?P<burst>{WHOLE}))?(?:\s+allotment\s+(?P<allotment>{NUMBER}))?")
_PERIODS = {SECOND: "second", MINUTE: "minute", HOUR: "hour", DAY: "day"}


@dataclass(frozen=True, slots=True)
class Limit(BaseLimit):
    """A named rate: `refill_amount` units every `refill_period` seconds, of which up to `capacity` can be saved up.

    Bounds: at most 10^9 units per second, a capacity of at most 10^12, and an empty bucket fills within a hundred years.

    `allotment` is for a limit that many processes share: each may take units up to so many seconds before it spends them. What
    refills in that time is kept free, so that no span allows more than without it; one request can use the rest of the capacity.
    It is at most half of the time that an empty bucket takes to fill, and leaves room for a request of one unit.
    """

    refill_amount: int
    refill_period: float = MINUTE
    allotment: float | None = field(default=None, kw_only=True)
    period_ns: int = field(init=False, repr=False, compare=False)
    window: int = field(init=False, repr=False, compare=False)
    allotment_ns: int = field(init=False, repr=False, compare=False)
    depth: int = field(init=False, repr=False, compare=False)

    DEFAULT_NAME: ClassVar[str] = DEFAULT_NAME

    def __post_init__(self) -> None:
        # First, because `per_minute` and `parse` use it as the capacity too, which their caller has not passed.
        check_integer(f"refill_amount (the rate) of limit {shown(self.name)}", self.refill_amount, minimum=1)
        check_common(self)
        period = self._checked_period()
        window = gcra.window(self.capacity, self.refill_amount, period)
        if window > _MAX_WINDOW:
            raise ValidationError(f"limit {self.name!r} would take over 100 years to fill; lower its capacity or raise its rate")
        derive(
            self, period_ns=period, window=window, identity=f"{self.name}|{_fraction(self.refill_amount * NANOSECONDS, period)}"
        )
        allotment = self._checked_allotment()
        derive(self, allotment_ns=allotment, depth=window - allotment)

    def _checked_period(self) -> int:
        nanoseconds = check_span(f"refill_period of limit {self.name!r}", self.refill_period)
        if self.refill_amount > nanoseconds:
            raise ValidationError(
                f"limit {self.name!r} refills {self.refill_amount} per {self.refill_period} s; at most 10^9 per second"
                " are supported: count in larger units"
            )
        return nanoseconds

    def _checked_allotment(self) -> int:
        if self.allotment is None:
            return 0
        most = min(self.window // 2, (self.capacity - 1) * self.period_ns // self.refill_amount)
        if most < 1:
            raise ValidationError(
                f"limit {self.name!r} with capacity {self.capacity} can have no allotment, not {shown(self.allotment)}: leave it"
                " out, or raise the burst"
            )
        return max(
            1,
            check_span(
                f"allotment of limit {self.name!r}",
                self.allotment,
                maximum=most / NANOSECONDS,
                form=f"above 0 and at most {number_text(most / NANOSECONDS)} (half of the time to refill, with one unit left)",
            ),
        )

    @classmethod
    def per_second(
        cls, name: str, rate: int, *, burst: int | None = None, allotment: float | None = None, enforce: bool = True
    ) -> Limit:
        """Return a limit of `rate` units per second; `burst` is the capacity, by default the rate."""
        return cls(name, rate if burst is None else burst, rate, SECOND, allotment=allotment, enforce=enforce)

    @classmethod
    def per_minute(
        cls, name: str, rate: int, *, burst: int | None = None, allotment: float | None = None, enforce: bool = True
    ) -> Limit:
        """Return a limit of `rate` units per minute; `burst` is the capacity, by default the rate."""
        return cls(name, rate if burst is None else burst, rate, MINUTE, allotment=allotment, enforce=enforce)

    @classmethod
    def per_hour(
        cls, name: str, rate: int, *, burst: int | None = None, allotment: float | None = None, enforce: bool = True
    ) -> Limit:
        """Return a limit of `rate` units per hour; `burst` is the capacity, by default the rate."""
        return cls(name, rate if burst is None else burst, rate, HOUR, allotment=allotment, enforce=enforce)

    @classmethod
    def per_day(
        cls, name: str, rate: int, *, burst: int | None = None, allotment: float | None = None, enforce: bool = True
    ) -> Limit:
        """Return a limit of `rate` units per day; `burst` is the capacity, by default the rate."""
        return cls(name, rate if burst is None else burst, rate, DAY, allotment=allotment, enforce=enforce)

    @classmethod
    def at_most(cls, name: str, n: int, period: float, burst: int | None = None, *, enforce: bool = True) -> Limit:
        """Return a rate under which no half-open span of `period` seconds allows more than `n` units.

        The capacity is `burst`, by default half of `n` rounded up, and `n - burst + 1` units refill every period: a span that
        begins with a full bucket allows the burst and what refills before the span's end. A larger burst allows more at once and
        less in the long run. If a unit would not be a whole number of nanoseconds, the refill period is the shortest above
        `period` for which it is, because rounding could allow one unit more.
        """
        check_integer(f"n of limit {shown(name)}", n, minimum=1)
        burst = (n + 1) // 2 if burst is None else check_integer(f"burst of limit {shown(name)}", burst, minimum=1, maximum=n)
        limit = cls(name, burst, n - burst + 1, period, enforce=enforce)
        return replace(limit, refill_period=_divisible(limit)) if limit.period_ns % limit.refill_amount else limit

    @classmethod
    def parse(cls, text: str) -> BaseLimit | Access:
        """Read any kind of limit as people write it; a limit without a name is called "requests".

        - a rate: `"tokens=10000/minute burst 50000"`, `"100/minute"`, `"api=5/10 seconds"`, `"100 per minute"`, `"5r/m"`
        - a quota: `"tokens=1000000/day in America/Los_Angeles"`; a session: `"messages=50/session of 5 hours"`
        - a total: `"credits=10000 in all"`; slots: `"calls=20 at once"`, `"calls=20 at once ttl 30"`
        - `"unlimited"` and `"blocked"` are the constants; any other text followed by `" shadow"` is `enforce=False`

        Units of a rate are second, minute, hour and day, also as s, sec, m, min, h, d and in the plural.
        """
        from . import parse

        return parse(text)

    @classmethod
    def read(cls, name: str, body: str, enforce: bool) -> Limit | None:
        """Return the limit that the text after a name describes; None if the text has another form."""
        found = _FORM.fullmatch(body)
        period = seconds(found) if found else None
        if found is None or period is None:
            return None
        amount = int(found["amount"])
        burst = amount if found["burst"] is None else int(found["burst"])
        allotment = None if found["allotment"] is None else float(found["allotment"])
        return cls(name, burst, amount, period, allotment=allotment, enforce=enforce)

    def __str__(self) -> str:
        """Return the text that `parse` reads back as an equal limit."""
        burst = "" if self.capacity == self.refill_amount else f" burst {int(self.capacity)}"
        allotment = "" if self.allotment is None else f" allotment {number_text(self.allotment)}"
        return f"{self.name}={int(self.refill_amount)}/{_period_text(self.refill_period)}{burst}{allotment}{shadow(self)}"


def _fraction(amount: int, period: int) -> str:
    """Return the units per second as a reduced fraction, so that 60 per minute and 1 per second are one rate."""
    common = gcd(amount, period)
    return f"{amount // common}/{period // common}"


def _period_text(period: float) -> str:
    return _PERIODS[period] if period in _PERIODS else f"{number_text(period)} seconds"


def _divisible(limit: Limit) -> float:
    """Return the seconds of the shortest period, not below the limit's, in which each unit takes whole nanoseconds."""
    amount = limit.refill_amount
    for unit in count(-(-limit.period_ns // amount)):
        period = unit * amount / NANOSECONDS
        if round(period * NANOSECONDS) == unit * amount:  # Above 104 days a float cannot represent each nanosecond.
            return period
    raise AssertionError("unreachable")
