"""A limiter's statistics as OpenTelemetry metrics, read when they are collected, at no cost in between.

    instrument(limiter)
    limiter = RateLimiter(repository, on_decision=time_decisions())  # as well, or instead: how long decisions take

Needs opentelemetry-api: `pip install "dynamodb-limiter[otel]"`. The application's meter provider decides what is exported, and
where to. Call both functions in the process that they measure: after a fork, in the child.
"""

from __future__ import annotations

import operator
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from .._version import __version__
from ..exceptions import ConfigurationError
from ..statistics import DESCRIPTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

    from ..events import DecisionEvent
    from ..limiter import RateLimiter
    from ..statistics import Statistics
    from ..sync_limiter import SyncRateLimiter

    AnyLimiter = RateLimiter | SyncRateLimiter
    Reading = tuple[str | None, float | None]
    """The outcome that a value belongs to, if any, and the value, if it is known."""
    Read = Callable[[Statistics], Iterable[Reading]]
    Combine = Callable[[float, float], float]

__all__ = ["instrument", "time_decisions"]

DURATIONS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Seconds, the upper bounds of the histogram's buckets: from a decision without a call to one beyond the usual timeout."""
WAITS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
"""Seconds, the upper bounds of the buckets of waits."""

_UNITS = {
    "degraded": "{decision}",
    "calls": "{call}",
    "failures": "{call}",
    "throttled": "{call}",
    "batches": "{batch}",
    "cache_hits": "{request}",
    "corrections_lost": "{correction}",
}
"""The units of the counters that are fields of `Statistics`."""


class _Watched(NamedTuple):
    """A limiter, and the attributes of its metrics."""

    limiter: AnyLimiter
    attributes: dict[str, Any]


_providers: WeakKeyDictionary[Any, list[_Watched]] = WeakKeyDictionary()
"""The limiters of each provider: a provider asks only the first instrument of a name."""


def instrument(
    limiter: AnyLimiter, meter_provider: MeterProvider | None = None, attributes: Mapping[str, Any] | None = None
) -> None:
    """Report the limiter's statistics whenever the provider, by default the global one, collects.

    `attributes` are added to `limiter.namespace` and `limiter.table`; limiters with the same attributes are reported together. A
    limiter is reported for as long as its provider lives. Another call for the same limiter does nothing. Raises
    `ConfigurationError` when opentelemetry-api is not installed.
    """
    meter, key = _meter(meter_provider)
    new: list[_Watched] = []
    watched = _providers.setdefault(key, new)
    if any(each.limiter is limiter for each in watched):
        return
    watched.append(_Watched(limiter, _attributes(limiter) | dict(attributes or {})))
    if watched is new:
        _make_instruments(meter, watched)


def time_decisions(
    meter_provider: MeterProvider | None = None, attributes: Mapping[str, Any] | None = None
) -> Callable[[DecisionEvent], None]:
    """Return a hook for `on_decision` that records the seconds of each decision in the histogram `limiter.decision.duration`.

    The time that a caller waited for its turn is recorded separately, in `limiter.wait.duration`, for callers that waited. A
    refusal carries the name of the limit that refuses for longest, as `limit`. Raises `ConfigurationError` when opentelemetry-api
    is not installed.
    """
    meter, _ = _meter(meter_provider)
    histogram = meter.create_histogram(
        "limiter.decision.duration",
        unit="s",
        description="Time that a decision takes, without the wait for a granted start",
        explicit_bucket_boundaries_advisory=DURATIONS,
    )
    waits = meter.create_histogram(
        "limiter.wait.duration",
        unit="s",
        description="Time that callers waited for their turn, of those that waited",
        explicit_bucket_boundaries_advisory=WAITS,
    )
    given = dict(attributes or {})

    def record(event: DecisionEvent) -> None:
        outcome = given | {"outcome": _outcome(refused=not event.allowed), "degraded": event.degraded}
        if not event.allowed and (limit := _refusing_limit(event)) is not None:
            outcome["limit"] = limit
        histogram.record(event.seconds, outcome)
        if event.waited:
            waits.record(event.waited, given)

    return record


def _refusing_limit(event: DecisionEvent) -> str | None:
    """Return the name of the limit that refuses for longest; names of limits are bounded, unlike those of entities."""
    exceeded = [status for status in event.statuses if status.exceeded and status.limit.enforce]
    waits = [(inf if status.retry_after is None else status.retry_after, status.limit.name) for status in exceeded]
    return max(waits)[1] if waits else None


def _meter(provider: MeterProvider | None) -> tuple[Meter, object]:
    """Return the limiter's meter, and the key that stands for the provider."""
    try:
        from opentelemetry import metrics
    except ImportError as error:
        message = f'OpenTelemetry is not installed ({error}); run: pip install "dynamodb-limiter[otel]"'
        raise ConfigurationError(message) from error
    default = metrics.get_meter_provider()
    # The global provider may be set later, so its key must not be the present one.
    key = metrics if provider is None or provider is default else provider
    return (provider or default).get_meter("limiter", __version__), key


def _make_instruments(meter: Meter, watched: list[_Watched]) -> None:
    def callback(read: Read, combine: Combine = operator.add) -> list[Callable[[CallbackOptions], Iterable[Observation]]]:
        return [lambda _: _observe(watched, read, combine)]

    meter.create_observable_counter(
        "limiter.decisions", callback(_decisions), unit="{decision}", description=DESCRIPTIONS["decisions"]
    )
    for name, unit in _UNITS.items():
        meter.create_observable_counter(f"limiter.{name}", callback(_field(name)), unit=unit, description=DESCRIPTIONS[name])
    meter.create_observable_up_down_counter(
        "limiter.breaker.open",
        callback(lambda statistics: [(None, int(statistics.breaker != "closed"))]),
        unit="{breaker}",
        description=DESCRIPTIONS["breaker"],
    )
    meter.create_observable_gauge(
        "limiter.clock.skew",
        callback(lambda statistics: [(None, statistics.skew)], lambda *skews: max(skews, key=abs)),
        unit="s",
        description=DESCRIPTIONS["skew"],
    )


def _observe(watched: list[_Watched], read: Read, combine: Combine) -> list[Observation]:
    """Return one value for all limiters of the same attributes."""
    from opentelemetry.metrics import Observation

    values: dict[str, tuple[float, dict[str, Any]]] = {}
    for limiter, attributes in tuple(watched):
        for outcome, value in read(limiter.stats()):
            if value is None:
                continue
            own = attributes | ({"outcome": outcome} if outcome else {})
            place = repr(sorted(own.items()))
            values[place] = (combine(values[place][0], value) if place in values else value), own
    return [Observation(value, own) for value, own in values.values()]


def _decisions(statistics: Statistics) -> list[Reading]:
    refused = statistics.refusals
    return [(_outcome(refused=False), statistics.decisions - refused), (_outcome(refused=True), refused)]


def _field(name: str) -> Callable[[Statistics], list[Reading]]:
    return lambda statistics: [(None, getattr(statistics, name))]


def _outcome(*, refused: bool) -> str:
    return "refused" if refused else "admitted"


def _attributes(limiter: AnyLimiter) -> dict[str, Any]:
    repository: Any = limiter.repository
    table = getattr(repository, "stack", None)
    return {"limiter.namespace": repository.namespace} | ({} if table is None else {"limiter.table": table})
