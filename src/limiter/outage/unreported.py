"""Usage that was allowed locally and has yet to be charged to the table."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from ..core.request import Charge
from ..core.share import is_reported, local_limit, unreported_units
from ..core.state import ABSENT, Level
from ..core.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..core.records import BucketKey
    from ..core.state import BucketState
    from ..models import BaseLimit

RECENT = 10 * NANOSECONDS
"""Nanoseconds for which a bucket counts as in use, because its local write may be in progress after it was noted."""


class _Noted(NamedTuple):
    """The limits of a bucket that was used locally, and when that was last noted."""

    limits: dict[str, BaseLimit]
    at: int


class UnreportedUsage:
    """Usage that was allowed locally and is not yet charged to the table, by bucket. Safe for threads.

    It follows from the local states: what a limit has in use beyond the level that was reported last. So a local lease that takes
    more after the table is back is included, and nothing is charged twice. What a rate has refilled, and what a quota or session
    counted in a period that has ended, is in use no more and has nothing to report. A bucket is forgotten when that is so of all
    its limits; one with a total that was used stays, since its local share is used up for good.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits: OrderedDict[BucketKey, _Noted] = OrderedDict()
        self._reported: dict[BucketKey, dict[str, Level]] = {}
        self.any = False
        """Whether anything was ever allowed locally. Read by every call, so not computed."""

    def __contains__(self, key: BucketKey) -> bool:
        return key in self._limits

    def __len__(self) -> int:
        return len(self._limits)

    def record(self, key: BucketKey, limits: Iterable[BaseLimit], now: int) -> None:
        """Record that units of these limits are about to be allowed locally."""
        with self._lock:
            self.any = True
            noted = self._limits.pop(key, _Noted({}, now))
            self._limits[key] = _Noted(noted.limits | {limit.name: limit for limit in limits if is_reported(limit)}, now)

    def oldest(self, now: int) -> BucketKey | None:
        """Return a bucket that may be unused by now, a different one each time; None if all were used just now."""
        with self._lock:
            key = next(iter(self._limits), None)
            if key is None or 0 <= now - self._limits[key].at < RECENT:
                return None
            self._limits.move_to_end(key)
            return key

    def forget(self, key: BucketKey, now: int) -> None:
        """Forget a bucket of which nothing is in use, unless it is about to be used again."""
        with self._lock:
            if key in self._limits and not 0 <= now - self._limits[key].at < RECENT:
                del self._limits[key]
                self._reported.pop(key, None)
                self.any = bool(self._limits)

    def take(self, key: BucketKey, share: float, state: BucketState, now: int) -> UsageReport:
        """Return the usage to charge to the table; no other caller gets it too."""
        with self._lock:
            noted, before = self._limits.get(key), self._reported.get(key, {})
            limits = {} if noted is None else noted.limits
            levels = {name: state.level(local_limit(limit, share).identity) for name, limit in limits.items()}
            earlier = {name: _same_opening(before.get(name, ABSENT), level) for name, level in levels.items()}
            if noted is not None:
                # Units that were given back here stay charged there, so that they pay for what is taken next.
                self._reported[key] = {
                    name: level._replace(tat=max(level.tat, earlier[name].tat)) for name, level in levels.items()
                }
        units = {name: unreported_units(limit, share, levels[name], earlier[name], now) for name, limit in limits.items()}
        return UsageReport(key, tuple(Charge(limits[name], count) for name, count in units.items() if count > 0), earlier)

    def put_back(self, report: UsageReport) -> None:
        """Restore a report whose charges could not be made."""
        with self._lock:
            reported = self._reported.get(report.key, {})
            for name, before in report.before.items():
                if name in reported and reported[name].since == before.since:
                    reported[name] = before._replace(tat=min(reported[name].tat, before.tat))


class UsageReport(NamedTuple):
    """Charges to make to a bucket for local usage, and the level of each limit up to which it was reported before."""

    key: BucketKey
    charges: tuple[Charge, ...]
    before: Mapping[str, Level]


def _same_opening(before: Level, level: Level) -> Level:
    """Return what was reported of a level; nothing where that was of an older busy period, or of another opening."""
    return before if before.since == level.since else Level(since=level.since)
