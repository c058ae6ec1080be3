"""Reads limits and amounts from the command line, and shows limits and decisions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..core.records import Limits
    from ..models import BaseLimit, Decision, LimitStatus
    from .buckets import Seen
    from .output import Table

UNITS, SIGNED = re.compile("[0-9]+"), re.compile("[+-]?[0-9]+")

consume_option = click.option(
    "--consume",
    "-c",
    "amounts",
    multiple=True,
    metavar="LIMIT=UNITS",
    help="Units to consume of a limit; may be given several times.  [default: 1 of every limit]",
)

limit_option = click.option(
    "--limit",
    "-l",
    "limits",
    multiple=True,
    metavar="LIMIT",
    help='Use this limit instead of stored ones, such as "tokens=10000/minute burst 50000"; may be given several times.',
)


def read_amounts(texts: Sequence[str]) -> dict[str, int] | None:
    """Return amounts by the names of limits; None when none were given. Raises `BadParameter` when a name is given twice."""
    return _read_units(texts, UNITS, "LIMIT=UNITS, such as tokens=500", "--consume") or None


def read_changes(texts: Sequence[str]) -> dict[str, int]:
    """Return changes by the names of limits, each of either sign. Raises `BadParameter` when a name is given twice."""
    return _read_units(texts, SIGNED, "LIMIT=UNITS, such as tokens=-500 or requests=+1", "LIMIT=UNITS")


def _read_units(texts: Sequence[str], form: re.Pattern[str], expected: str, hint: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in texts:
        name, _, units = text.rpartition("=")
        if not name or not form.fullmatch(units):
            raise click.BadParameter(f"{text!r} is not {expected}", param_hint=hint)
        if name in found:
            raise click.BadParameter(f"{name!r} is given twice", param_hint=hint)
        found[name] = int(units)
    return found


def read_limits(texts: Sequence[str]) -> Limits | None:
    """Return the limits that were given, or the constant in their place; None when none were.

    Raises `ValidationError` when two have one name, or when a constant stands beside others.
    """
    from ..core.limits import Access, check_limits, parse

    given = [parse(text) for text in texts]
    if len(given) == 1 and isinstance(given[0], Access):
        return given[0]
    return check_limits(cast("list[BaseLimit]", given)) or None


def read_limit(text: str) -> BaseLimit:
    """Return the limit that a text states, of any kind."""
    from ..core.limits import Access, parse
    from ..exceptions import ValidationError

    limit = parse(text)
    if isinstance(limit, Access):
        raise ValidationError(f"{text!r} replaces a list of limits and cannot be part of one; pass it alone")
    return limit


def limit_texts(limits: Limits) -> list[str]:
    """Return each limit as text; `unlimited` or `blocked` for a level without limits."""
    from ..core.limits import Access

    return [str(limits)] if isinstance(limits, Access) else [str(limit) for limit in limits]


def limit_rows(limits: Limits) -> list[tuple[Any, ...]]:
    """Return rows for `LIMIT_COLUMNS`; only a rate has units per so many seconds."""
    from ..core.limits import Access, Limit

    if isinstance(limits, Access):
        return [(None, None, None, None, str(limits))]
    rates = [(each.refill_amount, each.refill_period) if isinstance(each, Limit) else (None, None) for each in limits]
    return [(each.name, *rate, each.capacity, str(each)) for each, rate in zip(limits, rates, strict=True)]


LIMIT_COLUMNS = ("limit", "units", "per seconds", "burst", "as text")


def limit_table(limits: Limits) -> Table:
    """Make a table of limits; the text says everything, so a narrow terminal shows it without the numbers."""
    from .output import Table

    numbers = LIMIT_COLUMNS[1:4]
    return Table(LIMIT_COLUMNS, limit_rows(limits), expendable=numbers, occasional=numbers)


def decision_table(decision: Decision, seen: Mapping[tuple[str, str], Seen]) -> Table:
    """Make a table of a decision, with a row for each limit; `seen` is what some of its buckets tell besides."""
    from .buckets import use_in
    from .holders import SLOT_COLUMNS, slot_cells
    from .output import Table

    columns = ("entity", "resource", "limit", "requested", "available", "allowed", "retry after s", "full after s")
    rows = [(*_status_row(status), *slot_cells(use_in(seen, status))) for status in decision.statuses]
    expendable = ("full after s", "requested", "entity", "resource", "retry after s")
    return Table((*columns, *SLOT_COLUMNS), rows, expendable=expendable, occasional=SLOT_COLUMNS)


def allowed_text(status: LimitStatus) -> str:
    """Return whether a limit allows what was asked; of a shadow, which refuses nothing, whether it would."""
    return "yes" if not status.exceeded else "no" if status.limit.enforce else "shadow: no"


def _status_row(status: LimitStatus) -> tuple[Any, ...]:
    retry = "never" if status.retry_after is None else status.retry_after
    return (
        status.entity_id,
        status.resource,
        str(status.limit),
        status.requested,
        status.available,
        allowed_text(status),
        retry,
        status.reset_after,
    )
