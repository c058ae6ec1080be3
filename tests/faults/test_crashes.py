"""Processes of every runtime are killed at any moment: nothing is over-admitted, and what is lost is what the dead held.

`LIMITER_SOAK_SECONDS` says for how long to go on killing; a few seconds are the default.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from support.crash_play import ADVANCE, MOST_UNITS, QUOTA, RATE
from support.crowd import RUNTIMES, START, Crowd
from support.engines import wait_until
from support.presence import need
from support.turns import CALLERS

from limiter import Limit, SyncRepository
from limiter.core.limits import gcra
from limiter.core.records import BucketKey
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.engines import Engine, FakeClock

SECONDS = float(os.environ.get("LIMITER_SOAK_SECONDS", "10"))
HOLDER = """
import os, signal, sys
from limiter import Limit, SyncRateLimiter, SyncRepository
now = int(sys.argv[3])
repository = SyncRepository(sys.argv[1], endpoint_url=sys.argv[2], read_timeout=60, clock=lambda: now)
limits = [Limit.parse("requests=100/minute allotment 10")]
limiter = SyncRateLimiter(repository, limits, decision_timeout=60)
for _ in range(5):
    limiter.acquire("user").__enter__()
os.kill(os.getpid(), signal.SIGKILL)
"""


def start_one(crowd: Crowd) -> None:
    """Start one more process, with a seed that no other has."""
    crowd.start(str(time.time_ns()))


@pytest.fixture
def crowds(atomic_engine: Engine, table_name: str) -> Iterator[list[Crowd]]:
    """For each runtime, a crowd of which two processes are at work."""
    need("gevent", "eventlet")
    create_table(table_name, endpoint_url=atomic_engine.endpoint_url)
    job = {"endpoint_url": atomic_engine.endpoint_url, "table": table_name}
    started = [Crowd(runtime, "support.crash_play", job) for runtime in RUNTIMES]
    try:
        for crowd in started:
            start_one(crowd)
            start_one(crowd)
        assert wait_until(lambda: all(crowd.lines > 10 for crowd in started), START), [crowd.complaints for crowd in started]
        yield started
    finally:
        for crowd in started:
            crowd.stop()


def missing(repository: SyncRepository, limit: Limit, entity: str, resource: str = "api") -> int:
    """Return the units that a bucket lacks according to the table, including those above its capacity."""
    level = repository.read_bucket(BucketKey("default", entity, resource)).level(limit.identity)
    return -(-max(0, level.tat - repository.clock()) // gcra.cost(limit, 1))


@pytest.mark.engines("dynoxide")
@pytest.mark.timeout(SECONDS + 4 * START)
def test_what_the_dead_held_is_lost_and_no_more(crowds: list[Crowd], table_name: str, atomic_engine: Engine) -> None:
    """After kills, the table counts all units that were allowed, and at most those beyond that the killed processes held."""
    chance, deadline = random.Random(), time.monotonic() + SECONDS  # noqa: S311 - no secret
    while time.monotonic() < deadline:
        time.sleep(chance.uniform(0.0, 0.5))
        crowd = chance.choice(crowds)
        crowd.kill(chance)
        start_one(crowd)
    for crowd in crowds:
        crowd.stop()
    span = time.monotonic() - crowds[0].began
    reported: dict[str, int] = defaultdict(int)
    for crowd in crowds:
        assert not crowd.complaints
        for entity, units in crowd.reported.items():
            reported[entity] += units
    lost = 0
    with SyncRepository(table_name, endpoint_url=atomic_engine.endpoint_url, read_timeout=START) as repository:
        quotas = [entity for entity in reported if entity.startswith("quota-")]
        for entity in quotas:
            taken = missing(repository, QUOTA, entity)
            assert reported[entity] <= taken <= QUOTA.capacity
            lost += taken - reported[entity]
        advance = missing(repository, ADVANCE, "advance")
    deaths, lines = sum(crowd.started for crowd in crowds), {crowd.runtime: crowd.lines for crowd in crowds}
    print(f"{span:.1f} s, {deaths} deaths, {lines} lines, {dict(reported)}, lost {lost}, in advance {advance}")  # noqa: T201 - shown by -s
    assert all(crowd.started > 2 for crowd in crowds)
    assert len(quotas) > 1
    assert lost <= deaths * CALLERS * MOST_UNITS
    # What a process has not spent of a block within its allotment is lost, and what the dead held.
    assert reported["advance"] <= advance <= 2 * reported["advance"] + deaths * CALLERS * MOST_UNITS
    assert RATE.capacity < reported["rate"] <= RATE.capacity + span * RATE.refill_amount / RATE.refill_period + 1


def test_the_units_in_advance_of_a_dead_holder_come_back_by_time(
    atomic_engine: Engine, table_name: str, clock: FakeClock
) -> None:
    """If a process is killed with units in advance, they count as spent, and the bucket refills by time."""
    url: str = atomic_engine.endpoint_url or ""
    create_table(table_name, endpoint_url=url)
    ended = subprocess.run([sys.executable, "-c", HOLDER, table_name, url, str(clock())], check=False, timeout=START)
    assert ended.returncode == -signal.SIGKILL
    limit = Limit.parse("requests=100/minute")
    with SyncRepository(table_name, endpoint_url=url, clock=clock, read_timeout=START) as repository:
        held = missing(repository, limit, "user", "default")
        assert 5 < held <= 5 + 5 * 10 // 2
        clock.advance(held * 0.6 / 2)
        assert missing(repository, limit, "user", "default") == held - held // 2
        clock.advance(held * 0.6)
        assert missing(repository, limit, "user", "default") == 0
