"""How limits and amounts are written on the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.limits import Limit
    from ..models import Decision, LimitStatus
    from .output import Table

consume_option = click.option(
    "--consume",
    "-c",
    "amounts",
    multiple=True,
    metavar="LIMIT=UNITS",
    help="What to take; may be given several times.  [default: 1 of every limit]",
)

limit_option = click.option(
    "--limit",
    "-l",
    "limits",
    multiple=True,
    metavar="LIMIT",
    help='In place of stored limits, such as "tokens=10000/minute burst 50000"; may be given several times.',
)


def read_amounts(texts: Sequence[str]) -> dict[str, int] | None:
    """Amounts by the names of limits; None when none were given."""
    return dict(map(_read_amount, texts)) or None


def _read_amount(text: str) -> tuple[str, int]:
    name, equals, units = text.partition("=")
    if not equals or not units.isascii() or not units.isdecimal():
        raise click.BadParameter(f"{text!r} is not LIMIT=UNITS, such as tokens=500", param_hint="--consume")
    return name, int(units)


def read_limits(texts: Sequence[str]) -> tuple[Limit, ...] | None:
    """The limits that were given; None when none were."""
    return tuple(map(read_limit, texts)) or None


def read_limit(text: str) -> Limit:
    """The rate that a text says."""
    from ..core.limits import Limit
    from ..exceptions import ValidationError

    limit = Limit.parse(text)
    if not isinstance(limit, Limit):
        raise ValidationError(f"{text!r} is not a rate, which is all that the command can use so far; write it like '100/minute'")
    return limit


def limit_rows(limits: Sequence[Limit]) -> list[tuple[Any, ...]]:
    """Rows for `LIMIT_COLUMNS`."""
    return [(each.name, each.refill_amount, each.refill_period, each.capacity, str(each)) for each in limits]


LIMIT_COLUMNS = ("limit", "units", "per seconds", "burst", "as text")


def decision_table(decision: Decision) -> Table:
    """What every limit said."""
    from .output import Table

    columns = ("entity", "resource", "limit", "requested", "available", "admits", "retry after", "full after")
    return Table(columns, [_status_row(status) for status in decision.statuses])


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
