"""`limiter top`: watches buckets."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from .amounts import limit_option, read_limits
from .exit_codes import OK
from .gauges import Gauge, busiest, gauges
from .options import aws_options, stack_option
from .output import Table, console, fitting_table, say, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..core.limits import Limit
    from ..core.records import BucketKey
    from ..core.state import BucketState
    from ..models import LimitStatus
    from ..sync_limiter import SyncRateLimiter
    from .options import Target

_BAR = 10
_REST = 4.0
"""Seconds of pause for each second that reading the whole table takes."""
_COLUMNS = ("entity", "resource", "limit", "rate", "fill", "available", "of", "used per s", "full in s")
_EXPENDABLE = ("rate", "of", "full in s", "fill", "used per s")
_IN_CODE = "in code: pass --limit"
_EMPTY = "No buckets found. A bucket exists from its first acquire until some time after it is full."


@click.command()
@click.option("--entity", "-e", metavar="ID", help="Show the buckets of this entity.")
@click.option("--resource", "-r", metavar="NAME", help="Show the buckets for this resource.")
@limit_option
@click.option("--most", "-m", type=click.IntRange(1, 1000), default=20, show_default=True, help="Show at most this many buckets.")
@click.option("--interval", "-i", type=click.FloatRange(min=0.2), default=2.0, show_default=True, help="Seconds between looks.")
@click.option("--count", "-n", type=click.IntRange(min=1), help="Number of looks.  [default: endless in a terminal, otherwise 1]")
@stack_option
@aws_options
def top(stack: str, target: Target, limits: tuple[str, ...], interval: float, count: int | None, **which: Any) -> int:
    """Watch buckets: how full they are, how fast they are used, and when they will be full. Consumes nothing.

    Without --entity, shows the busiest buckets; each look then reads the whole table, and the looks are further apart when that
    takes long. Pass --limit when programs give their limits in code. Ctrl-C ends the command with exit code 0.
    """
    live = target.output == "table" and sys.stdout.isatty()
    looks = count or (None if live else 1)
    given = read_limits(limits)
    try:
        with target.limiter(stack) as limiter:
            views = View(limiter, given, **which).looks(looks, interval)
            if live:
                _show_live(views)
            else:
                for found in views:
                    _show(target, found)
    except KeyboardInterrupt:
        pass  # The usual way to end it.
    return OK


class View:
    """Looks at the same choice of buckets again and again."""

    def __init__(
        self, limiter: SyncRateLimiter, limits: Sequence[Limit] | None, *, entity: str | None, resource: str | None, most: int
    ) -> None:
        self._limiter = limiter
        self._limits = limits
        self._entity = entity
        self._resource = resource
        self._most = most
        self._states: Mapping[BucketKey, BucketState] = {}
        self._since: int | None = None

    def looks(self, count: int | None, interval: float) -> Iterator[list[Gauge]]:
        """Yield the gauges of each look; without `count`, endlessly."""
        before: list[Gauge] = []
        then = time.monotonic()
        while count is None or count > 0:
            begin = time.monotonic()
            buckets = self._buckets()
            effort = time.monotonic() - begin
            before = self._gauges(buckets, before, then)
            then = time.monotonic()
            yield before
            count = None if count is None else count - 1
            if count != 0:
                time.sleep(interval if self._entity is not None else max(interval, _REST * effort))

    def _buckets(self) -> list[tuple[str, str]]:
        if self._entity is not None:
            resources = self._limiter.list_resources(self._entity) if self._resource is None else [self._resource]
            return [(self._entity, each) for each in resources][: self._most]
        found = self._limiter.repository.buckets()
        states = {key: state for key, state in found.items() if self._resource in {None, key.resource}}
        keys = busiest(states, self._states, self._since, self._most)
        self._states, self._since = states, self._limiter.repository.clock()
        return [(key.entity_id, key.resource) for key in keys]

    def _gauges(self, buckets: list[tuple[str, str]], before: list[Gauge], then: float) -> list[Gauge]:
        statuses = {bucket: self._statuses(*bucket) for bucket in buckets}
        known = [status for found in statuses.values() for status in found]
        unknown = [Gauge(*bucket) for bucket, found in statuses.items() if not found]
        return gauges(known, before, time.monotonic() - then) + unknown

    def _statuses(self, entity: str, resource: str) -> tuple[LimitStatus, ...]:
        """Return the statuses of a bucket and of its parents' buckets; none when its limits are not known."""
        from ..core.limits import Access

        limits = self._limits or self._limiter.resolve_limits(entity, resource)
        if not limits or isinstance(limits, Access):
            return ()
        # Zero units are asked for, so that the statuses show what is available now.
        return self._limiter.check(
            entity, resource, dict.fromkeys((each.name for each in limits), 0), limits=self._limits
        ).statuses


def _show(target: Target, found: list[Gauge]) -> None:
    if not found:
        say(_EMPTY)
    show(target.output, [_document(each) for each in found], _table(found))


def _show_live(views: Iterator[list[Gauge]]) -> None:
    from rich.live import Live

    with Live(console=console(), screen=False, auto_refresh=False) as live:
        for each in views:
            live.update(fitting_table(_table(each), live.console) if each else _EMPTY, refresh=True)


def _table(found: list[Gauge]) -> Table:
    return Table(_COLUMNS, [_row(each) for each in found], expendable=_EXPENDABLE)


def _row(gauge: Gauge) -> tuple[Any, ...]:
    if gauge.limit is None:
        return (gauge.entity_id, gauge.resource, _IN_CODE, *[None] * (len(_COLUMNS) - 3))
    bar = round((gauge.fill or 0.0) * _BAR)
    return (
        gauge.entity_id,
        gauge.resource,
        gauge.limit.name,
        str(gauge.limit).partition("=")[2],
        "#" * bar + "." * (_BAR - bar),
        gauge.available,
        gauge.limit.capacity,
        None if gauge.rate is None else round(gauge.rate, 1),
        None if gauge.reset_after is None else round(gauge.reset_after, 1),
    )


def _document(gauge: Gauge) -> dict[str, Any]:
    from .documents import limit_document

    return {
        "entity_id": gauge.entity_id,
        "resource": gauge.resource,
        "limit": None if gauge.limit is None else limit_document(gauge.limit),
        "available": gauge.available,
        "fill": gauge.fill,
        "used_per_second": gauge.rate,
        "reset_after": gauge.reset_after,
    }
