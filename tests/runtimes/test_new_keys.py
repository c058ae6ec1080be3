"""A burst of new keys in a real process of each runtime, with default options, before an engine that is well, and one that hangs.

The keys of `make soak` are ten times as many in asyncio.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from support.fault_proxy import FaultProxy, black_hole, passing
from support.presence import need

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import Engine
    from support.processes import Script

CALLERS = 2_000
MANY = 20_000 if "LIMITER_SOAK_SECONDS" in os.environ else CALLERS
SHARING, CAPACITY = 20, 5
RUNTIMES = ["tasks", "threads", "gevent", "eventlet"]
SLACK = 5.0
"""Seconds in which a burst ends without a table: the decision timeout of 1 s, and what a loaded machine adds.

If each caller waited for the timeout, it would take 20.
"""

pytestmark = [pytest.mark.engines("dynoxide"), pytest.mark.timeout(600)]


@pytest.mark.parametrize(("runtime", "callers"), [("tasks", MANY), *((each, CALLERS) for each in RUNTIMES[1:])])
def test_a_burst_of_new_keys_is_decided_by_the_table(
    run_script: Callable[..., Script], server_engine: Engine, table: str, runtime: str, callers: int
) -> None:
    """Every caller, none by a fallback and none after a failure; those who share a key are allowed in the order of their calls.

    Tasks of different keys overtake each other by no more than what four reads of 100 keys and 64 connections hold; threads and
    greenlets take connections in any order. Threads begin in the order of the operating system. Nothing is left open in the end.
    """
    need("gevent", "eventlet")
    report = burst(run_script, table, str(server_engine.endpoint_url), runtime, callers)
    refused = SHARING - CAPACITY
    assert report["outcomes"] == {"allowed": callers - refused, "refused": refused}
    assert (report["degraded"], report["failures"]) == (0, 0)
    assert len(report["shared"]) == CAPACITY
    if runtime != "threads":
        assert report["shared"] == [place * callers // SHARING for place in range(CAPACITY)]
    if runtime == "tasks":
        assert report["late"] < 500
    assert report["left"] == {"tasks": 0, "threads": 0, "sockets": 0}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_engine_that_hangs_in_the_middle_of_a_burst_fails_nobody_late(
    run_script: Callable[..., Script], server_engine: Engine, table: str, runtime: str
) -> None:
    """Those in line are told at once, together, when the first calls have waited in vain, and none is let through uncounted."""
    need("gevent", "eventlet")
    with FaultProxy(str(server_engine.endpoint_url)) as proxy:
        proxy.inject(passing(times=CALLERS // 3), black_hole())
        report = burst(run_script, table, proxy.endpoint_url, runtime, CALLERS)
    assert sum(report["outcomes"].values()) == CALLERS
    assert set(report["outcomes"]) <= {"allowed", "refused", "RateLimiterUnavailable", "CircuitOpen"}
    assert 0 < report["outcomes"]["allowed"] < CALLERS // 3
    assert report["outcomes"]["CircuitOpen"] > CALLERS // 4
    assert report["degraded"] == 0
    assert report["seconds_without_table"] < SLACK
    assert report["left"] == {"tasks": 0, "threads": 0, "sockets": 0}


def burst(run_script: Callable[..., Script], table: str, url: str, runtime: str, callers: int) -> dict[str, Any]:
    """What a process reports of its callers."""
    report: dict[str, Any] = run_script("burst.py", runtime, str(callers), STACK=table, ENDPOINT=url, timeout=500).result
    return report
