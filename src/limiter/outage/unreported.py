"""Usage that was allowed locally and has yet to be charged to the table."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from ..core.limits import Limit
from ..core.request import Charge
from ..core.share import local_limit, local_units
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

    limits: dict[str, Limit]
    at: int


class UnreportedUsage:
    """Usage that was allowed locally and is not yet charged to the table, by bucket. Safe for threads.

    It follows from the local states: the part of a limit's `tat` that lies ahead, beyond the one that was reported last. So a
    local lease that consumes more after the table is back is included, and nothing is charged twice. A bucket that has refilled
    has nothing to report, and is forgotten.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits: OrderedDict[BucketKey, _Noted] = OrderedDict()
        self._reported: dict[BucketKey, dict[str, int]] = {}
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
            self._limits[key] = _Noted(noted.limits | {limit.name: limit for limit in limits if isinstance(limit, Limit)}, now)

    def oldest(self, now: int) -> BucketKey | None:
        """Return a bucket that may have refilled, a different one each time; None if all were used just now."""
        with self._lock:
            key = next(iter(self._limits), None)
            if key is None or 0 <= now - self._limits[key].at < RECENT:
                return None
            self._limits.move_to_end(key)
            return key

    def forget(self, key: BucketKey, now: int) -> None:
        """Forget a bucket that has refilled, unless it is about to be used again."""
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
            tats = {name: state.level(local_limit(limit, share).identity).tat for name, limit in limits.items()}
            ahead = {name: tat for name, tat in tats.items() if tat > now}
            if noted is not None:
                self._reported[key] = ahead
        spans = {name: tat - max(now, before.get(name, now)) for name, tat in ahead.items()}
        charges = (Charge(limits[name], local_units(limits[name], share, span)) for name, span in spans.items())
        return UsageReport(key, tuple(charge for charge in charges if charge.units > 0), before)

    def put_back(self, report: UsageReport) -> None:
        """Restore a report whose charges could not be made."""
        with self._lock:
            reported = self._reported.get(report.key, {})
            for name in reported:
                reported[name] = min(reported[name], report.before.get(name, 0))


class UsageReport(NamedTuple):
    """Charges to make to a bucket for local usage, and the `tat` of each limit up to which it was reported before."""

    key: BucketKey
    charges: tuple[Charge, ...]
    before: Mapping[str, int]
