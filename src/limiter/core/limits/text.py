"""Shared parts of the text forms of limits: numbers, units, spans of time, and reasons why a text cannot be read.

Each kind's own form is in the kind's module.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..units import DAY, HOUR, MINUTE, SECOND
from ..validation import shown

if TYPE_CHECKING:
    from ...models import BaseLimit

DEFAULT_NAME = "requests"
"""The name of a limit whose text gives none."""
MAX_TEXT = 1_000
"""Characters of a limit's text. Longer texts are not matched, because the time of a match can grow with its square."""
UNITS = {"s": SECOND, "sec": SECOND, "second": SECOND, "m": MINUTE, "min": MINUTE, "minute": MINUTE}
UNITS |= {"h": HOUR, "hour": HOUR, "d": DAY, "day": DAY}
PERIODS = {"h": "hour", "hour": "hour", "d": "day", "day": "day", "w": "week", "week": "week", "month": "month"}
"""The periods of the calendar, by their names in a text."""

WHOLE = "[0-9]{1,20}(?:_[0-9]{1,3}){0,6}"
NUMBER = r"[0-9]{1,20}(?:\.[0-9]{1,40})?"
PER = r"(?:\s*/\s*|\s+per\s+)"
SPAN = rf"(?:(?P<count>{NUMBER})\s*)?(?P<unit>[a-z]+)"
AMOUNT = rf"(?P<amount>{WHOLE})"

_HINT = (
    "write a whole number, '/' and a unit (second, minute, hour or day), like 'tokens=10000/minute burst 50000' or '100/minute'"
)
_CALENDAR = "a week or a month needs the zone whose calendar counts: write '1000/{} in UTC', or another zone"
_WHOLE = re.compile(WHOLE)
_FIRST = re.compile(rf"(?P<amount>[^\s/]*)(?P<per>{PER})?\s*(?P<rest>.*)", re.DOTALL)
_PERIOD = re.compile(rf"(?:{NUMBER}\s*)?(?P<unit>[^\W\d_]*)\s*(?P<rest>.*)", re.DOTALL)
_OPTION = re.compile(r"(?P<option>burst|allotment)(?:\s+(?P<value>\S+))?\s*", re.DOTALL)


def singular(unit: str) -> str:
    """Return a unit without its plural `s`; single letters have no plural, because `ms` could be read as minutes."""
    return unit.removesuffix("s") if len(unit) > 2 else unit


def seconds(found: re.Match[str]) -> float | None:
    """Return the seconds of a matched SPAN; None if its unit is unknown."""
    unit = UNITS.get(singular(found["unit"]))
    return None if unit is None else float(found["count"] or 1) * unit


def number_text(number: float) -> str:
    """Format a number in decimal digits, without an exponent or a needless fraction, so that it reads back as the same number."""
    from decimal import Decimal

    return f"{Decimal(repr(float(number))):f}".removesuffix(".0")


def span_text(span: float) -> str:
    """Format seconds as a span that reads back as the same number: in days, hours or minutes if they are whole."""
    for unit, name in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")):
        if span % unit == 0:
            return f"{span // unit:.0f} {name}{'' if span == unit else 's'}"
    return f"{number_text(span)} second{'' if span == 1 else 's'}"


def shadow(limit: BaseLimit) -> str:
    """Return the end of a limit's text: " shadow" if the limit is not enforced."""
    return "" if limit.enforce else " shadow"


def explain(body: str) -> str:
    """Name the part of a limit's text, without its name, that no kind of limit can read, and the form that is expected."""
    return f"{_fault(body)}; {_HINT}"


def _fault(body: str) -> str:
    first = _FIRST.match(body)
    amount, per, rest = first.group("amount", "per", "rest") if first else ("", None, body)
    if not _WHOLE.fullmatch(amount.removesuffix("r")):
        digits = " of at most 20 digits" if amount.isdecimal() else ""
        return f"the amount {shown(amount)} is not a whole number{digits}" if amount else "the amount is missing"
    if per:
        return _fault_of_period(rest)
    if rest.startswith("at once"):
        return f"{shown(rest[7:].strip())} is not understood after 'at once', which 'ttl 60' and 'shadow' can follow"
    if not rest:
        return f"the period is missing, as in '{amount}/minute'; slots are written '{amount} at once', a total '{amount} in all'"
    return f"{shown(rest)} is not understood after the amount, which '/minute', 'at once' or 'in all' can follow"


def _fault_of_period(text: str) -> str:
    found = _PERIOD.match(text)
    unit, rest = found.group("unit", "rest") if found else ("", "")
    name = singular(unit)
    if not unit:
        return f"the period {shown(text)} has no unit"
    if name == "session":
        return "a session is written with its length in seconds, minutes, hours or days, as in '50/session of 5 hours'"
    if re.match(r"in\b", rest):
        return f"{shown(text)} is not an hour, a day, a week or a month, followed by 'in' and one zone, as '1000/day in UTC'"
    if name in PERIODS and name not in UNITS:
        return _CALENDAR.format(PERIODS[name])
    if name not in UNITS:
        return f"{shown(unit)} is not a unit"
    return _fault_of_options(rest)


def _fault_of_options(rest: str) -> str:
    while found := _OPTION.match(rest):
        option, value = found.group("option", "value")
        if not re.fullmatch(WHOLE if option == "burst" else NUMBER, value or ""):
            kind = "a whole number" if option == "burst" else "a number of seconds"
            return f"{option} {shown(value)} is not {kind}" if value else f"{option} has no number after it"
        rest = rest[found.end() :]
    return (
        f"{shown(rest)} is not understood after the period, which 'burst 10', 'allotment 0.1', 'in ZONE' and 'shadow' can follow,"
        " in this order"
    )
