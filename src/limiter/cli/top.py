"""`limiter top`: buckets, as they fill and drain."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from .options import aws_options, stack_option
from .output import Table, console, rich_table, show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..models import BaseLimit, LimitStatus
    from ..sync_limiter import SyncRateLimiter
    from .options import Target

_BAR = 20
COLUMNS = ("entity", "resource", "limit", "fill", "available", "of", "used per second", "full after")


@dataclass(frozen=True, slots=True)
class Gauge:
    """One limit of one bucket; `rate` is what was used per second since the last look, None at the first."""

    entity_id: str
    resource: str
    limit: BaseLimit
    available: int
    reset_after: float | None
    rate: float | None = None

    @property
    def fill(self) -> float:
        """The share of the capacity that is available; 0 in debt."""
        return max(0.0, self.available / self.limit.capacity)


@click.command()
@click.option("--entity", "-e", metavar="ID", help="The buckets of this entity.")
@click.option(
    "--resource", "-r", metavar="NAME", help="The buckets for this resource; without --entity, of entities with own limits."
)
@click.option("--interval", "-i", type=click.FloatRange(min=0.2), default=2.0, show_default=True, help="Seconds between looks.")
@click.option(
    "--count", "-n", type=click.IntRange(min=1), help="How many looks.  [default: without end in a terminal, 1 elsewhere]"
)
@stack_option
@aws_options
def top(stack: str, target: Target, entity: str | None, resource: str | None, interval: float, count: int | None) -> None:
    """Watch the buckets of an entity or a resource: how full, how fast they are used, when they are full. Takes nothing."""
    if entity is None and resource is None:
        raise click.UsageError("say --entity, --resource or both")
    live = target.output == "table" and sys.stdout.isatty()
    looks = count or (None if live else 1)
    with target.limiter(stack) as limiter:
        views = _views(limiter, entity, resource, interval, looks)
        if live:
            _show_live(views)
        else:
            for gauges in views:
                show(target.output, [_document(each) for each in gauges], _table(gauges))


def _views(
    limiter: SyncRateLimiter, entity: str | None, resource: str | None, interval: float, looks: int | None
) -> Iterator[list[Gauge]]:
    before: list[Gauge] = []
    then = time.monotonic()
    while looks is None or looks > 0:
        statuses = [status for pair in _buckets(limiter, entity, resource) for status in _statuses(limiter, *pair)]
        now = time.monotonic()
        before = gauges(statuses, before, now - then)
        yield before
        then = now
        looks = None if looks is None else looks - 1
        if looks != 0:
            time.sleep(interval)


def _buckets(limiter: SyncRateLimiter, entity: str | None, resource: str | None) -> list[tuple[str, str]]:
    if entity is None:
        return [(each, str(resource)) for each in limiter.list_entities(str(resource))]
    return [(entity, resource)] if resource is not None else [(entity, each) for each in limiter.list_resources(entity)]


def _statuses(limiter: SyncRateLimiter, entity: str, resource: str) -> tuple[LimitStatus, ...]:
    from ..exceptions import ValidationError

    try:
        names = [limit.name for limit in limiter.resolve_limits(entity, resource)]
        # Nothing is asked for; of an entity's ancestors, only what they limit as well is shown.
        return limiter.check(entity, resource, dict.fromkeys(names, 0)).statuses
    except ValidationError:  # Programs that give their limits with each call leave buckets without stored ones.
        return ()


def gauges(statuses: list[LimitStatus], before: list[Gauge], seconds: float) -> list[Gauge]:
    """What is shown of the statuses, given what was seen `seconds` before."""
    seen = {(each.entity_id, each.resource, each.limit): each for each in before}
    found: dict[tuple[str, str, BaseLimit], Gauge] = {}
    for status in statuses:
        key = (status.entity_id, status.resource, status.limit)
        rate = _rate(seen[key], status, seconds) if key in seen and seconds > 0 else None
        found[key] = Gauge(*key, status.available, status.reset_after, rate)
    return list(found.values())


def _rate(before: Gauge, status: LimitStatus, seconds: float) -> float:
    """What was used per second: what went missing, and what was refilled meanwhile."""
    from ..core.limits import Limit

    limit = status.limit
    refilled = limit.refill_amount / limit.refill_period * seconds if isinstance(limit, Limit) else 0.0
    expected = min(status.limit.capacity, before.available + refilled)
    return max(0.0, (expected - status.available) / seconds)


def _show_live(views: Iterator[list[Gauge]]) -> None:
    from rich.live import Live

    with Live(console=console(), screen=False, auto_refresh=False) as live:
        for each in views:
            live.update(rich_table(_table(each)), refresh=True)


def _table(found: list[Gauge]) -> Table:
    return Table(COLUMNS, [_row(each) for each in found])


def _row(gauge: Gauge) -> tuple[Any, ...]:
    bar = round(gauge.fill * _BAR)
    rate = None if gauge.rate is None else round(gauge.rate, 1)
    fill = "#" * bar + "." * (_BAR - bar)
    full = None if gauge.reset_after is None else round(gauge.reset_after, 1)
    limit = gauge.limit
    return (gauge.entity_id, gauge.resource, str(limit), fill, gauge.available, limit.capacity, rate, full)


def _document(gauge: Gauge) -> dict[str, Any]:
    from .documents import limit_document

    return {
        "entity_id": gauge.entity_id,
        "resource": gauge.resource,
        "limit": limit_document(gauge.limit),
        "available": gauge.available,
        "fill": gauge.fill,
        "used_per_second": gauge.rate,
        "reset_after": gauge.reset_after,
    }
