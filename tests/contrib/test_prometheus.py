"""A collector of statistics, scraped through prometheus-client's registry, and the dashboard that shows them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.presence import needed

from limiter import Limit, SyncMemoryRepository, SyncRateLimiter
from limiter.contrib.prometheus import LimiterCollector

prometheus_client = needed("prometheus_client")

if TYPE_CHECKING:
    import pytest
    from support.engines import FakeClock

GRID = 24
"""Columns of a dashboard."""
DASHBOARD = Path(__file__).parents[2] / "docs" / "integrations" / "grafana.json"


def new(clock: FakeClock, namespace: str = "default") -> SyncRateLimiter:
    """A limiter in memory that admits two."""
    return SyncRateLimiter(SyncMemoryRepository(namespace=namespace, clock=clock), [Limit.parse("requests=2/hour")])


def registry(*limiters: SyncRateLimiter) -> Any:
    """A registry of a collector of limiters."""
    made = prometheus_client.CollectorRegistry(auto_describe=True)
    made.register(LimiterCollector(*limiters))
    return made


def test_each_statistic_is_a_metric(clock: FakeClock) -> None:
    """What is scraped is what `stats()` says at that moment."""
    limiter = new(clock)
    scraped = registry(limiter)
    for _ in range(5):
        limiter.try_acquire("user")
    statistics, place = limiter.stats(), {"namespace": "default", "table": ""}
    for name in ("degraded", "calls", "failures", "throttled", "batches", "cache_hits", "corrections_lost"):
        assert scraped.get_sample_value(f"limiter_{name}_total", place) == getattr(statistics, name)
    assert scraped.get_sample_value("limiter_decisions_total", place | {"outcome": "admitted"}) == 2
    assert scraped.get_sample_value("limiter_decisions_total", place | {"outcome": "refused"}) == 3
    assert scraped.get_sample_value("limiter_breaker_open", place) == 0
    assert scraped.get_sample_value("limiter_clock_skew_seconds", place) is None
    limiter.try_acquire("other")
    assert scraped.get_sample_value("limiter_decisions_total", place | {"outcome": "admitted"}) == 3


def test_limiters_are_told_apart_or_added_up(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limiters of equal namespaces are added up, others are reported separately; the largest skew is shown."""
    limiters = [new(clock, "a"), new(clock, "b"), new(clock, "b")]
    for limiter, skew in zip(limiters, (0.5, -2.5, 2.0), strict=True):
        limiter.try_acquire("user")
        monkeypatch.setattr(limiter.repository, "skew", skew, raising=False)
    scraped = registry(*limiters)
    samples = {
        (name, value)
        for name in "ab"
        if (value := scraped.get_sample_value("limiter_calls_total", {"namespace": name, "table": ""}))
    }
    assert samples == {("a", 2.0), ("b", 4.0)}
    assert scraped.get_sample_value("limiter_clock_skew_seconds", {"namespace": "b", "table": ""}) == -2.5


def test_the_text_is_what_prometheus_reads(clock: FakeClock) -> None:
    """The client's own exposition takes it."""
    text = prometheus_client.generate_latest(registry(new(clock))).decode()
    assert "# TYPE limiter_decisions_total counter" in text
    assert 'limiter_decisions_total{namespace="default",outcome="refused",table=""} 0.0' in text


def test_the_dashboard_shows_metrics_that_exist(clock: FakeClock) -> None:
    """Each name in its queries is one that the collector reports, and no two panels overlap, and each has a title and a unit."""
    text = prometheus_client.generate_latest(registry(new(clock))).decode()
    known = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    used = {name for query in queries for name in re.findall(r"limiter_\w+", query)}
    assert used <= known
    assert {"limiter_decisions_total", "limiter_degraded_total", "limiter_breaker_open"} <= used
    places = [covered(panel["gridPos"]) for panel in panels]
    assert sum(map(len, places)) == len(set().union(*places))
    assert all(x < GRID for place in places for x, _ in place)
    assert len({panel["title"] for panel in panels}) == len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in panels)


def test_the_dashboard_defines_its_variables() -> None:
    """Each variable in its queries and data sources is one that the dashboard asks for, or one of Grafana's own."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    defined = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard["panels"])))
    assert used == defined | {"__rate_interval"}


def covered(place: dict[str, int]) -> set[tuple[int, int]]:
    """The cells of the grid that a panel covers."""
    columns, rows = (range(place[start], place[start] + place[length]) for start, length in (("x", "w"), ("y", "h")))
    return {(x, y) for x in columns for y in rows}


def test_prometheus_client_is_imported_at_the_first_scrape() -> None:
    """Without it the error names the extra."""
    code = (
        "import sys\n"
        "from limiter import SyncMemoryRepository, SyncRateLimiter\n"
        "from limiter.contrib.prometheus import LimiterCollector\n"
        "collector = LimiterCollector(SyncRateLimiter(SyncMemoryRepository()))\n"
        "assert 'prometheus_client' not in sys.modules\n"
        "sys.modules['prometheus_client'] = None\n"
        "try: list(collector.collect())\n"
        "except Exception as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "dynamodb-limiter[prometheus]"' in done.stdout
