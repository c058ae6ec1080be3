"""The values of the public interface: frozen, hashable, comparable."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from .core.limits import gcra
from .core.validation import MAX_AMOUNT, check_integer, check_name, shown
from .exceptions import ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping

SECOND, MINUTE, HOUR, DAY = 1.0, 60.0, 3_600.0, 86_400.0
_UNITS = {"s": SECOND, "sec": SECOND, "second": SECOND, "m": MINUTE, "min": MINUTE, "minute": MINUTE}
_UNITS |= {"h": HOUR, "hour": HOUR, "d": DAY, "day": DAY}
_TEXT = re.compile(
    r"(?:(?P<name>.*)=)?\s*(?P<amount>[0-9]{1,20}(?:_[0-9]{1,3}){0,6})\s*/\s*(?P<count>[0-9]{1,20}(?:\.[0-9]{1,40})?)?\s*"
    r"(?P<unit>[a-z]+?)s?(?:\s+burst\s+(?P<burst>[0-9]{1,20}(?:_[0-9]{1,3}){0,6}))?"
)
_MAX_TEXT = 1_000
"""Characters of a limit's text, more than any can need; the time to match it can grow with its square."""
_MAX_WINDOW = int(100 * 366 * DAY) * gcra.NANOSECONDS


@dataclass(frozen=True, slots=True)
class Limit:
    """A named rate: `refill_amount` units every `refill_period` seconds, of which up to `capacity` can be saved up.

    Bounds: at most 10^9 units per second, a capacity of at most 10^12, and an empty bucket fills within a hundred years.
    """

    name: str
    capacity: int
    refill_amount: int
    refill_period: float = MINUTE
    period_ns: int = field(init=False, repr=False, compare=False)
    window: int = field(init=False, repr=False, compare=False)

    DEFAULT_NAME: ClassVar[str] = "requests"

    def __post_init__(self) -> None:
        check_name("limit name", self.name)
        # First, since `per_minute` and `parse` make it the capacity too, which their caller has not mentioned.
        check_integer(f"refill_amount (the rate) of limit {self.name!r}", self.refill_amount, minimum=1)
        check_integer(f"capacity of limit {self.name!r}", self.capacity, minimum=1)
        period = self._checked_period()
        window = gcra.window(self.capacity, self.refill_amount, period)
        if window > _MAX_WINDOW:
            raise ValidationError(f"limit {self.name!r} would take over 100 years to fill; lower its capacity or raise its rate")
        object.__setattr__(self, "period_ns", period)
        object.__setattr__(self, "window", window)

    def _checked_period(self) -> int:
        period = self.refill_period
        if isinstance(period, bool) or not isinstance(period, int | float) or not 0 < period <= 100 * 366 * DAY:
            raise ValidationError(
                f"refill_period of limit {self.name!r} must be a number of seconds above 0, not {shown(period)}"
            )
        nanoseconds = round(period * gcra.NANOSECONDS)
        if self.refill_amount > nanoseconds:
            raise ValidationError(
                f"limit {self.name!r} refills {self.refill_amount} per {period} s; at most 10^9 per second are supported"
            )
        return nanoseconds

    @classmethod
    def per_second(cls, name: str, rate: int, *, burst: int | None = None) -> Limit:
        """`rate` units per second; `burst` is the capacity, by default the rate."""
        return cls(name, rate if burst is None else burst, rate, SECOND)

    @classmethod
    def per_minute(cls, name: str, rate: int, *, burst: int | None = None) -> Limit:
        """`rate` units per minute; `burst` is the capacity, by default the rate."""
        return cls(name, rate if burst is None else burst, rate, MINUTE)

    @classmethod
    def per_hour(cls, name: str, rate: int, *, burst: int | None = None) -> Limit:
        """`rate` units per hour; `burst` is the capacity, by default the rate."""
        return cls(name, rate if burst is None else burst, rate, HOUR)

    @classmethod
    def per_day(cls, name: str, rate: int, *, burst: int | None = None) -> Limit:
        """`rate` units per day; `burst` is the capacity, by default the rate."""
        return cls(name, rate if burst is None else burst, rate, DAY)

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Read `"tokens=10000/minute burst 50000"`, `"100/minute"` (named "requests") or `"api=5/10 seconds"`.

        Units are second, minute, hour and day, also as s, sec, m, min, h, d and in the plural.
        """
        found = _TEXT.fullmatch(text.strip()) if isinstance(text, str) and len(text) <= _MAX_TEXT else None
        unit = _UNITS.get(found["unit"]) if found else None
        if found is None or unit is None:
            raise ValidationError(
                f"{shown(text)} is not a limit; write it like 'tokens=10000/minute burst 50000' or '100/minute'"
            )
        amount = int(found["amount"])
        burst = amount if found["burst"] is None else int(found["burst"])
        name = cls.DEFAULT_NAME if found["name"] is None else found["name"].strip()
        return cls(name, burst, amount, float(found["count"] or 1) * unit)

    def __str__(self) -> str:
        """The text that `parse` reads back as an equal limit."""
        burst = "" if self.capacity == self.refill_amount else f" burst {self.capacity}"
        return f"{self.name}={self.refill_amount}/{_period_text(self.refill_period)}{burst}"


def _period_text(period: float) -> str:
    names = {SECOND: "second", MINUTE: "minute", HOUR: "hour", DAY: "day"}
    if period in names:
        return names[period]
    from decimal import Decimal

    return f"{Decimal(repr(float(period))):f}".removesuffix(".0") + " seconds"


@dataclass(frozen=True, slots=True)
class LimitStatus:
    """What one limit of one bucket said to one request.

    `available` counts units after the request when it was admitted, and before it when not; it is negative in debt.
    `retry_after` is in seconds: 0.0 when the limit was not exceeded, None when it can never be satisfied. `reset_after` is the
    seconds until the bucket is full.
    """

    entity_id: str
    resource: str
    limit: Limit
    requested: int
    available: int
    exceeded: bool
    retry_after: float | None
    reset_after: float


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a request was, or would be, admitted; true when it was.

    `retry_after` is the longest wait in seconds: 0.0 when admitted, None when no wait would help.
    """

    allowed: bool
    statuses: tuple[LimitStatus, ...]
    retry_after: float | None

    def __bool__(self) -> bool:
        return self.allowed


@dataclass(frozen=True, slots=True)
class Prefetch:
    """How much to take in advance: what the observed rate spends in `horizon` seconds, at most `fraction` of a capacity.

    What is not spent within the horizon is stale. Not for limits whose burst must be exact, and of no use to callers that run
    concurrently in one process, whose requests share writes anyway.
    """

    horizon: float = 0.1
    fraction: float = 0.1

    def __post_init__(self) -> None:
        for name, value, most in (("horizon", self.horizon, 60), ("fraction", self.fraction, 1)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
                raise ValidationError(f"prefetch {name} must be a number above 0 and at most {most}, not {shown(value)}")


@dataclass(frozen=True, slots=True)
class Entity:
    """Who is limited. With a `parent_id` and `cascade`, everything it takes is taken from the parent too."""

    entity_id: str
    parent_id: str | None = None
    cascade: bool = True
    name: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)


__all__ = ["DAY", "HOUR", "MAX_AMOUNT", "MINUTE", "SECOND", "Decision", "Entity", "Limit", "LimitStatus", "Prefetch"]
