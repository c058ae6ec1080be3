"""Decisions as lines of CloudWatch's embedded metric format."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from limiter import Limit, SyncMemoryRepository, SyncRateLimiter
from limiter.contrib.emf import METRICS, emit

if TYPE_CHECKING:
    import pytest
    from support.engines import FakeClock


def decide(clock: FakeClock, hook: Any) -> None:
    """Admit, refuse, and admit after a wait."""
    limits = [Limit.parse("requests=2/minute"), Limit.parse("tokens=100/minute")]
    limiter = SyncRateLimiter(SyncMemoryRepository(clock=clock), limits, on_decision=hook, sleep=clock.advance)
    limiter.try_acquire("ann", "search", {"requests": 2})
    limiter.try_acquire("ann", "search")
    limiter.try_acquire("ann", "search", timeout=60)


def test_each_decision_is_a_line_on_standard_output(clock: FakeClock, capsys: pytest.CaptureFixture[str]) -> None:
    """The function itself is a hook."""
    decide(clock, emit)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["Decisions"], line["Refusals"], line["Degraded"], line["WaitTime"]) for line in lines] == [
        (1, 0, 0, 0.0),
        (1, 1, 0, 0.0),
        (1, 0, 0, 30_000.0),
    ]
    assert [line["RefusedBy"] for line in lines] == [[], ["requests"], []]
    assert {(line["EntityId"], line["Resource"]) for line in lines} == {("ann", "search")}


def test_a_line_is_what_cloudwatch_reads(clock: FakeClock) -> None:
    """Every metric and every dimension that the header names is a member of the line."""
    written: list[str] = []
    decide(clock, emit(namespace="app", dimensions={"Service": "web"}, by_resource=True, write=written.append))
    line = json.loads(written[0])
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "app"
    assert directive["Dimensions"] == [["Service"], ["Service", "Resource"]]
    assert line["Service"] == "web"
    assert {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]} == METRICS
    assert all(isinstance(line[name], int | float) for name in METRICS)
    assert isinstance(line["_aws"]["Timestamp"], int)
    assert line["_aws"]["Timestamp"] > 1_700_000_000_000


def test_without_dimensions_metrics_are_of_the_whole(clock: FakeClock) -> None:
    """One empty set of dimensions, so that each metric exists once."""
    written: list[str] = []
    decide(clock, emit(write=written.append))
    (directive,) = json.loads(written[0])["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("limiter", [[]])
