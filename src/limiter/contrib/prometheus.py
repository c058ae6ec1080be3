"""A limiter's statistics as Prometheus metrics, read when they are scraped, at no cost in between.

    REGISTRY.register(LimiterCollector(limiter))

Needs prometheus-client: `pip install "dynamodb-limiter[prometheus]"`, which is imported at the first scrape. Register it in the
process that is scraped: after a fork, in the child. The multiprocess mode of prometheus-client does not know collectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..statistics import DESCRIPTIONS
from .extras import not_installed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from .. import RateLimiter, SyncRateLimiter

    AnyLimiter = RateLimiter | SyncRateLimiter

__all__ = ["LimiterCollector"]

_COUNTERS = ("degraded", "calls", "failures", "throttled", "batches", "cache_hits", "corrections_lost")
_LABELS = ("namespace", "table")


class LimiterCollector:
    """Reports the statistics of some limiters, each by its namespace and table; limiters of the same two are added up.

    Entities and resources are not labels because their number is unbounded.
    """

    def __init__(self, limiter: AnyLimiter, *others: AnyLimiter) -> None:
        self._limiters = (limiter, *others)

    def collect(self) -> Iterator[Metric]:
        """Yield the current metrics; the registry calls this."""
        try:
            from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
        except ImportError as error:
            raise not_installed("prometheus-client", "prometheus", error) from error
        places: dict[tuple[str, str], list[Any]] = {}
        for limiter in self._limiters:
            places.setdefault(_place(limiter), []).append(limiter.stats())

        decisions = CounterMetricFamily("limiter_decisions", DESCRIPTIONS["decisions"], labels=(*_LABELS, "outcome"))
        counters = {name: CounterMetricFamily(f"limiter_{name}", DESCRIPTIONS[name], labels=_LABELS) for name in _COUNTERS}
        breaker = GaugeMetricFamily("limiter_breaker_open", DESCRIPTIONS["breaker"], labels=_LABELS)
        skew = GaugeMetricFamily("limiter_clock_skew_seconds", DESCRIPTIONS["skew"], labels=_LABELS)
        for place, statistics in places.items():
            refused = sum(each.refusals for each in statistics)
            decisions.add_metric((*place, "admitted"), sum(each.decisions for each in statistics) - refused)
            decisions.add_metric((*place, "refused"), refused)
            for name, counter in counters.items():
                counter.add_metric(place, sum(getattr(each, name) for each in statistics))
            breaker.add_metric(place, sum(each.breaker != "closed" for each in statistics))
            if skews := [each.skew for each in statistics if each.skew is not None]:
                skew.add_metric(place, max(skews, key=abs))
        yield from (decisions, *counters.values(), breaker, skew)


def _place(limiter: AnyLimiter) -> tuple[str, str]:
    repository: Any = limiter.repository
    return repository.namespace, getattr(repository, "stack", "")
