"""A limiter's statistics as OpenTelemetry metrics, read by the SDK."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.presence import need

from limiter import ConfigurationError, Limit, MemoryRepository, RateLimiter, SyncMemoryRepository, SyncRateLimiter
from limiter.contrib.opentelemetry import DURATIONS, WAITS, instrument, time_decisions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.engines import FakeClock

LIMITS = [Limit.parse("requests=2/hour")]
SAME = ("degraded", "calls", "failures", "throttled", "batches", "cache_hits", "corrections_lost")
"""Statistics whose metric is one number."""


class Meters:
    """A meter provider of the SDK, and what it collects."""

    def __init__(self) -> None:
        need("opentelemetry.sdk")
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader

        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def collect(self) -> dict[str, Any]:
        """The metrics by name."""
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def values(self, name: str) -> list[tuple[Any, dict[str, Any]]]:
        """The values of a metric, with the attributes that not all have."""
        metric = self.collect().get(name)
        points = metric.data.data_points if metric else []
        return [(point.value, {key: each for key, each in point.attributes.items() if "." not in key}) for point in points]


@pytest.fixture
def meters() -> Iterator[Meters]:
    """A provider, shut down at the end."""
    meters = Meters()
    yield meters
    meters.provider.shutdown()


def new(clock: FakeClock, namespace: str = "default", **options: Any) -> SyncRateLimiter:
    """A synchronous limiter in memory."""
    return SyncRateLimiter(SyncMemoryRepository(namespace=namespace, clock=clock), LIMITS, **options)


def test_each_statistic_is_a_metric(clock: FakeClock, meters: Meters) -> None:
    """What is collected is what `stats()` says at that moment, with units and attributes."""
    limiter = new(clock, "tenant")
    instrument(limiter, meters.provider)
    for _ in range(5):
        limiter.try_acquire("user")
    statistics, metrics = limiter.stats(), meters.collect()
    assert set(metrics) == {"limiter.decisions", "limiter.breaker.open", *(f"limiter.{name}" for name in SAME)}
    assert meters.values("limiter.decisions") == [(2, {"outcome": "admitted"}), (3, {"outcome": "refused"})]
    for name in SAME:
        (point,) = metrics[f"limiter.{name}"].data.data_points
        assert (point.value, dict(point.attributes)) == (getattr(statistics, name), {"limiter.namespace": "tenant"})
        assert metrics[f"limiter.{name}"].data.is_monotonic
    assert statistics.cache_hits == 3
    assert metrics["limiter.decisions"].unit == "{decision}"
    limiter.try_acquire("other")
    assert meters.values("limiter.decisions")[0] == (3, {"outcome": "admitted"})


async def test_an_asynchronous_limiter_is_read_from_outside_its_loop(clock: FakeClock, meters: Meters) -> None:
    """Collection needs no event loop."""
    limiter = RateLimiter(MemoryRepository(clock=clock), LIMITS)
    instrument(limiter, meters.provider)
    await limiter.try_acquire("user")

    import asyncio

    values = await asyncio.to_thread(meters.values, "limiter.decisions")
    assert values == [(1, {"outcome": "admitted"}), (0, {"outcome": "refused"})]


def test_nothing_is_read_but_at_collection(clock: FakeClock, meters: Meters, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decisions of a limiter that is reported look up nothing for it."""
    limiter, looks = new(clock), []
    stats = limiter.stats
    monkeypatch.setattr(limiter, "stats", lambda: looks.append(1) or stats())
    instrument(limiter, meters.provider)
    for _ in range(5):
        limiter.try_acquire("user")
    assert looks == []
    meters.collect()
    assert looks


def test_limiters_are_told_apart_or_added_up(clock: FakeClock, meters: Meters) -> None:
    """Limiters with equal attributes are added up, others are reported separately, and each limiter counts once."""
    for namespace, attributes, times in (("a", {}, 1), ("b", {}, 1), ("b", {}, 1), ("b", {"pool": ("x", "y")}, 2)):
        limiter = new(clock, namespace)
        for _ in range(times):
            instrument(limiter, meters.provider, attributes)
        limiter.try_acquire("user")
    points = meters.collect()["limiter.calls"].data.data_points
    assert [(point.value, dict(point.attributes)) for point in points] == [
        (2, {"limiter.namespace": "a"}),
        (4, {"limiter.namespace": "b"}),
        (2, {"limiter.namespace": "b", "pool": ("x", "y")}),
    ]


def test_breaker_and_skew(clock: FakeClock, meters: Meters, monkeypatch: pytest.MonkeyPatch) -> None:
    """An open breaker is 1; a skew is there once it is known, and of one clock that several limiters use it is not added up."""
    from limiter.commit.breaker import Breaker

    limiters = [new(clock), new(clock)]
    for limiter in limiters:
        instrument(limiter, meters.provider)
    assert meters.values("limiter.breaker.open") == [(0, {})]
    assert meters.values("limiter.clock.skew") == []
    monkeypatch.setattr(Breaker, "state", "half-open")
    for limiter, skew in zip(limiters, (-2.5, -2.0), strict=True):
        monkeypatch.setattr(limiter.repository, "skew", skew, raising=False)
    assert meters.values("limiter.breaker.open") == [(2, {})]
    assert meters.values("limiter.clock.skew") == [(-2.5, {})]


def test_decisions_are_timed_by_a_hook(clock: FakeClock, meters: Meters) -> None:
    """Each decision is one recording in seconds, by outcome, in buckets that fit."""
    limiter = new(clock, on_decision=time_decisions(meters.provider, {"service": "web"}))
    for _ in range(5):
        limiter.try_acquire("user")
    metric = meters.collect()["limiter.decision.duration"]
    points = {point.attributes["outcome"]: point for point in metric.data.data_points}
    assert metric.unit == "s"
    assert {outcome: point.count for outcome, point in points.items()} == {"admitted": 2, "refused": 3}
    assert dict(points["admitted"].attributes) == {"service": "web", "outcome": "admitted", "degraded": False}
    assert points["admitted"].explicit_bounds == DURATIONS
    assert 0 < points["admitted"].sum < 60


def test_a_refusal_names_its_limit(clock: FakeClock, meters: Meters) -> None:
    """Of several the one that refuses for longest."""
    limits = [Limit.parse("requests=1/minute"), Limit.parse("tokens=10/day"), Limit.parse("words=10/day")]
    limiter = SyncRateLimiter(SyncMemoryRepository(clock=clock), limits, on_decision=time_decisions(meters.provider))
    limiter.try_acquire("user", consume={"requests": 1, "tokens": 10})
    limiter.try_acquire("user", consume={"requests": 1})
    limiter.try_acquire("user", consume={"requests": 1, "tokens": 1})
    limiter.try_acquire("user", consume={"words": 11})
    points = meters.collect()["limiter.decision.duration"].data.data_points
    assert [point.attributes.get("limit") for point in points] == [None, "requests", "tokens", "words"]


def test_waits_are_a_histogram_of_their_own(clock: FakeClock, meters: Meters) -> None:
    """Only callers that waited are recorded, by the seconds of their wait."""
    hook = time_decisions(meters.provider, {"service": "web"})
    limiter = SyncRateLimiter(
        SyncMemoryRepository(clock=clock), [Limit.parse("requests=1/second")], on_decision=hook, sleep=clock.advance
    )
    for _ in range(3):
        limiter.try_acquire("user", timeout=60)
    metric = meters.collect()["limiter.wait.duration"]
    (point,) = metric.data.data_points
    assert (metric.unit, point.count, point.sum) == ("s", 2, 2.0)
    assert point.explicit_bounds == WAITS
    assert dict(point.attributes) == {"service": "web"}


def test_without_the_extra_the_remedy_is_named(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both functions say what to install."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ConfigurationError, match=r'pip install "dynamodb-limiter\[otel\]"'):
        instrument(new(clock))
    with pytest.raises(ConfigurationError, match=r'pip install "dynamodb-limiter\[otel\]"'):
        time_decisions()


def run(code: str) -> str:
    """What a program of its own prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip() + done.stderr


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    """OpenTelemetry is not imported by the package, a decision or the adapter's module."""
    code = (
        "import sys, limiter, limiter.contrib.opentelemetry\n"
        "limiter.SyncRateLimiter(limiter.SyncMemoryRepository(), [limiter.Limit.per_second('requests', 1)]).try_acquire()\n"
        "print('opentelemetry' in sys.modules)"
    )
    assert run(code) == "False"


def test_the_global_provider_may_be_set_later() -> None:
    """Limiters that are reported before and after it was set, with and without naming it, are all collected."""
    need("opentelemetry.sdk")
    code = (
        "from opentelemetry import metrics\n"
        "from opentelemetry.sdk.metrics import MeterProvider\n"
        "from opentelemetry.sdk.metrics.export import InMemoryMetricReader\n"
        "from limiter import Limit, SyncMemoryRepository, SyncRateLimiter\n"
        "from limiter.contrib.opentelemetry import instrument\n"
        "limits = [Limit.per_second('requests', 1)]\n"
        "one, two, three = (SyncRateLimiter(SyncMemoryRepository(namespace=name), limits) for name in ('a', 'b', 'c'))\n"
        "instrument(one)\n"
        "reader = InMemoryMetricReader()\n"
        "provider = MeterProvider([reader])\n"
        "metrics.set_meter_provider(provider)\n"
        "instrument(two)\n"
        "instrument(three, provider)\n"
        "(resource,) = reader.get_metrics_data().resource_metrics\n"
        "points = resource.scope_metrics[0].metrics[1].data.data_points\n"
        "print(*sorted(point.attributes['limiter.namespace'] for point in points))\n"
    )
    assert run(code) == "a b c"
