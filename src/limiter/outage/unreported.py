"""Usage that was allowed locally and has yet to be charged to the table."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from ..core.request import Charge
from ..core.share import local_units

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ..core.limits import Limit
    from ..core.records import BucketKey
    from ..core.state import BucketState


class UnreportedUsage:
    """What was allowed locally and has yet to be charged to the table, bucket by bucket. Safe for threads.

    It follows from the local states: the part of a limit's `tat` that lies ahead, beyond the one that was reported last. So a
    local lease that takes more after the table is back is included, and nothing is charged twice.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits: dict[BucketKey, dict[str, Limit]] = {}
        self._reported: dict[BucketKey, dict[str, int]] = {}

    @property
    def any(self) -> bool:
        """Whether anything was ever allowed locally."""
        return bool(self._limits)

    def __contains__(self, key: BucketKey) -> bool:
        return key in self._limits

    def record(self, key: BucketKey, limits: Iterable[Limit]) -> None:
        """Note that units of these limits are about to be allowed locally."""
        with self._lock:
            self._limits[key] = self._limits.get(key, {}) | {limit.name: limit for limit in limits}

    def take(self, key: BucketKey, share: float, state: BucketState, now: int) -> UsageReport:
        """The usage to charge to the table; no other caller gets it too."""
        with self._lock:
            limits, before = self._limits.get(key, {}), self._reported.get(key, {})
            ahead = {name: state.level(name).tat for name in limits if state.level(name).tat > now}
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
