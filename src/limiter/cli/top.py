"""`limiter top`: watches buckets."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from ..core.limits import Access
from ..models import BaseLimit
from .amounts import limit_option, read_limits
from .buckets import look_at
from .exit_codes import OK
from .gauges import Gauge, busiest, gauges
from .holders import SLOT_COLUMNS, slot_cells
from .options import aws_options, stack_option
from .output import Table, console, fitting_table, say, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..core.records import BucketKey, Limits
    from ..core.state import BucketState
    from ..models import LimitStatus
    from ..sync_limiter import SyncRateLimiter
    from .options import Target

_BAR = 10
_REST = 4.0
"""Seconds of pause for each second that reading the whole table takes."""
_COLUMNS = (
    "entity",
    "resource",
    "limit",
    "as text",
    "fill",
    "available",
    "of",
    "used per s",
    "full in s",
    "paused s",
    *SLOT_COLUMNS,
)
_EXPENDABLE = ("as text", "of", "full in s", "fill", "used per s")
_OCCASIONAL = ("paused s", *SLOT_COLUMNS)
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

    Of slots, shows how many are held, and the expired holders: processes that have not renewed theirs, which count as free.
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
        self, limiter: SyncRateLimiter, limits: Limits | None, *, entity: str | None, resource: str | None, most: int
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
        looks = {bucket: self._look(*bucket) for bucket in buckets}
        known = [status for found in looks.values() if isinstance(found, tuple) for status in found]
        seen = look_at(self._limiter, [*buckets, *((status.entity_id, status.resource) for status in known)])
        others = [(bucket, found) for bucket, found in looks.items() if not isinstance(found, tuple)]
        unknown = [Gauge(*bucket, access, paused_for=seen[bucket].paused_for) for bucket, access in others]
        return gauges(known, before, time.monotonic() - then, seen) + unknown

    def _look(self, entity: str, resource: str) -> tuple[LimitStatus, ...] | Access | None:
        """Return the statuses of a bucket and of its parents' buckets; None when its limits are not known, or its constant."""
        limits = self._limits or self._limiter.resolve_limits(entity, resource)
        if isinstance(limits, Access):
            return limits
        if not limits:
            return None
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
    return Table(_COLUMNS, [_row(each) for each in found], expendable=_EXPENDABLE, occasional=_OCCASIONAL)


def _row(gauge: Gauge) -> tuple[Any, ...]:
    if not isinstance(gauge.limit, BaseLimit):
        what = _IN_CODE if gauge.limit is None else str(gauge.limit)
        return (gauge.entity_id, gauge.resource, what, *[None] * (len(_COLUMNS) - 6), _tenths(gauge.paused_for), None, None)
    bar = round((gauge.fill or 0.0) * _BAR)
    return (
        gauge.entity_id,
        gauge.resource,
        gauge.limit.name,
        str(gauge.limit).rpartition("=")[2],
        "#" * bar + "." * (_BAR - bar),
        gauge.available,
        gauge.limit.capacity,
        _tenths(gauge.rate),
        _tenths(gauge.reset_after),
        _tenths(gauge.paused_for),
        *slot_cells(gauge.use),
    )


def _tenths(number: float | None) -> float | None:
    return None if number is None else round(number, 1)


def _document(gauge: Gauge) -> dict[str, Any]:
    from .documents import limit_document, limit_documents, use_document

    limit = gauge.limit
    return {
        "entity_id": gauge.entity_id,
        "resource": gauge.resource,
        "limit": limit_document(limit) if isinstance(limit, BaseLimit) else limit and limit_documents(limit)[0],
        "available": gauge.available,
        "fill": gauge.fill,
        "used_per_second": gauge.rate,
        "reset_after": gauge.reset_after,
        "paused_for": gauge.paused_for,
        "slots": use_document(gauge.use),
    }
