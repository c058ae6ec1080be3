"""The kinds of limits, one module for each: its public value, its text, and its account in a batch.

`KINDS` is the whole table of them. Here also: reading any kind from text, and the checks of lists of limits and of amounts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, overload

from ...exceptions import ValidationError
from ...models import BaseLimit
from ..validation import shown
from .access import BLOCKED, UNLIMITED, Access
from .concurrency import Concurrency
from .quota import CalendarQuota, Quota
from .rate import Limit
from .session import SessionQuota
from .text import DEFAULT_NAME, MAX_TEXT, explain
from .total import TotalQuota

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind = type[Limit] | type[CalendarQuota] | type[SessionQuota] | type[TotalQuota] | type[Concurrency]

KINDS: dict[str, Kind] = {
    "rate": Limit,
    "quota": CalendarQuota,
    "session": SessionQuota,
    "total": TotalQuota,
    "concurrency": Concurrency,
}
"""Every kind of limit by its name."""

MAX_LIMITS = 25
"""Limits of one bucket. Each takes up to ten of the 300 operators that DynamoDB allows in an expression."""

_CLASSES = tuple(KINDS.values())
_CONSTANTS = {str(access): access for access in Access}
_Each = TypeVar("_Each", bound=BaseLimit)


def parse(text: object) -> BaseLimit | Access:
    """Read a limit of any kind, or a constant, as people write it; `Limit.parse` lists the forms."""
    if not isinstance(text, str) or len(text) > MAX_TEXT:
        raise ValidationError(f"{shown(text)} is not a limit; write it as text, like '100/minute'")
    whole = text.strip()
    if whole in _CONSTANTS:
        return _CONSTANTS[whole]
    before, sign, body = whole.rpartition("=")
    name = before.strip() if sign else DEFAULT_NAME
    return read_limit(name, body.strip(), text)


def read_limit(name: str, body: str, whole: object = None) -> BaseLimit:
    """Return the limit that the text after a name describes; an error shows the `whole` text."""
    form, enforce = _without_shadow(body)
    for kind in _CLASSES if len(body) <= MAX_TEXT else ():
        if (limit := kind.read(name, form, enforce)) is not None:
            return limit
    raise ValidationError(f"{shown(body if whole is None else whole)} is not a limit: {explain(form[:MAX_TEXT])}")


def text_of(limit: BaseLimit) -> str:
    """Return the text of a limit without its name, which `read_limit` reads."""
    return str(limit).rpartition("=")[2]


@overload
def check_limits(limits: Access) -> Access: ...
@overload
def check_limits(limits: Iterable[_Each]) -> tuple[_Each, ...]: ...
def check_limits(limits: Iterable[_Each] | Access) -> tuple[_Each, ...] | Access:
    """Return the limits as a tuple if each is a limit and no two share a name; UNLIMITED and BLOCKED unchanged."""
    if isinstance(limits, Access):
        return limits
    # The class of a list has __iter__ too, and cannot be iterated.
    if isinstance(limits, str | BaseLimit | type) or not hasattr(limits, "__iter__"):
        raise ValidationError(f"limits must be a list of Limit, not {shown(limits)}; wrap a single one in a list")
    checked: dict[str, _Each] = {}
    for limit in limits:
        _check_limit(limit)
        if limit.name in checked:
            raise _same_name(limit.name)
        checked[limit.name] = limit
        if len(checked) > MAX_LIMITS:
            raise ValidationError(f"too many limits for one bucket (maximum {MAX_LIMITS})")
    return tuple(checked.values())


@overload
def check_level(limits: Access) -> Access: ...
@overload
def check_level(limits: Iterable[_Each]) -> tuple[_Each, ...]: ...
def check_level(limits: Iterable[_Each] | Access) -> tuple[_Each, ...] | Access:
    """Return the limits if they make up a level that can be stored: as `check_limits`, and at least one."""
    checked = check_limits(limits)
    if checked == ():
        raise ValidationError("a level needs at least one limit, or UNLIMITED; use delete_limits to remove a level")
    return checked


def unknown_limit(name: str, known: Iterable[str]) -> ValidationError:
    """Return the error for an amount whose limit the bucket does not have."""
    return ValidationError(f"unknown limit {name!r}; this call is limited by: {', '.join(sorted(known)) or 'nothing'}")


def _without_shadow(body: str) -> tuple[str, bool]:
    """Return the text of a limit without its `shadow`, and whether it is enforced."""
    words = body.rsplit(maxsplit=1)
    return (words[0], False) if words[1:] == ["shadow"] else (body, True)


def _check_limit(limit: object) -> None:
    if isinstance(limit, Access):
        raise ValidationError(f"{limit!r} replaces a list of limits and cannot be part of one: pass {limit!r} alone")
    if not isinstance(limit, _CLASSES):
        raise ValidationError(f"{shown(limit)} is not a Limit; build one with Limit.per_minute(...) or Limit.parse(...)")


def _same_name(name: str) -> ValidationError:
    return ValidationError(
        f"limit {shown(name)} is given twice; names must be unique within a list of limits: give the two different names, such as"
        f" {shown(name + '_per_second')} and {shown(name + '_per_day')}"
    )


__all__ = [
    "BLOCKED",
    "KINDS",
    "MAX_LIMITS",
    "UNLIMITED",
    "Access",
    "CalendarQuota",
    "Concurrency",
    "Kind",
    "Limit",
    "Quota",
    "SessionQuota",
    "TotalQuota",
    "check_level",
    "check_limits",
    "parse",
    "read_limit",
    "text_of",
    "unknown_limit",
]
