"""Reads limits and amounts from the command line, and shows limits and decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.limits import Limit
    from ..core.records import Limits
    from ..models import Decision, LimitStatus
    from .output import Table

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
    """Return amounts by the names of limits; None when none were given."""
    return dict(map(_read_amount, texts)) or None


def _read_amount(text: str) -> tuple[str, int]:
    name, equals, units = text.partition("=")
    if not equals or not units.isascii() or not units.isdecimal():
        raise click.BadParameter(f"{text!r} is not LIMIT=UNITS, such as tokens=500", param_hint="--consume")
    return name, int(units)


def read_limits(texts: Sequence[str]) -> tuple[Limit, ...] | None:
    """Return the limits that were given; None when none were. Raises `ValidationError` when two have one name."""
    from ..core.limits import check_limits

    return check_limits(map(read_limit, texts)) or None


def read_limit(text: str) -> Limit:
    """Return the rate that a text states."""
    from ..core.limits import Limit
    from ..exceptions import ValidationError

    limit = Limit.parse(text)
    if not isinstance(limit, Limit):
        raise ValidationError(f"{text!r} is not a rate; the command supports rates only, such as '100/minute'")
    return limit


def limit_texts(limits: Limits) -> list[str]:
    """Return each limit as text; `unlimited` or `blocked` for a level without limits."""
    from ..core.limits import Access

    return [str(limits)] if isinstance(limits, Access) else [str(limit) for limit in limits]


def limit_rows(limits: Limits) -> list[tuple[Any, ...]]:
    """Return rows for `LIMIT_COLUMNS`."""
    from ..core.limits import Access

    if isinstance(limits, Access):
        return [(None, None, None, None, str(limits))]
    return [(each.name, each.refill_amount, each.refill_period, each.capacity, str(each)) for each in limits]


LIMIT_COLUMNS = ("limit", "units", "per seconds", "burst", "as text")


def decision_table(decision: Decision) -> Table:
    """Make a table of a decision, with a row for each limit."""
    from .output import Table

    columns = ("entity", "resource", "limit", "requested", "available", "allowed", "retry after s", "full after s")
    rows = [_status_row(status) for status in decision.statuses]
    return Table(columns, rows, expendable=("full after s", "requested", "entity", "resource", "retry after s"))


def _status_row(status: LimitStatus) -> tuple[Any, ...]:
    retry = "never" if status.retry_after is None else status.retry_after
    return (
        status.entity_id,
        status.resource,
        str(status.limit),
        status.requested,
        status.available,
        not status.exceeded,
        retry,
        status.reset_after,
    )
