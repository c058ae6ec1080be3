"""Processes of every runtime share one bucket, and together they stay within its limit exactly, on engines with atomic writes."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from support.exactness_workers import Worker

from limiter import Limit, SyncRateLimiter, SyncRepository
from limiter.audit import judge
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from support.engines import Engine, FakeClock

PROCESSES = 8
CALLERS = 8
CREWS = {
    "threads": ("threads",) * PROCESSES,
    "greenlets": ("greenlets",) * PROCESSES,
    "tasks": ("tasks",) * PROCESSES,
    "all at once": ("threads", "greenlets", "tasks", "threads", "greenlets", "tasks", "greenlets", "tasks"),
}
MILLISECOND = 1_000_000


@pytest.fixture(scope="module")
def crew() -> Iterator[Callable[[str], list[Worker]]]:
    """Eight processes at a time, started once for all tests and engines."""
    started: dict[str, list[Worker]] = {runtime: [] for runtime in ("threads", "greenlets", "tasks")}

    def gather(name: str) -> list[Worker]:
        chosen = []
        places = {runtime: itertools.count() for runtime in started}
        for runtime in CREWS[name]:
            place = next(places[runtime])
            if place == len(started[runtime]):
                started[runtime].append(Worker("exactness_worker.py", runtime))
            chosen.append(started[runtime][place])
        return chosen

    yield gather
    for worker in itertools.chain(*started.values()):
        worker.stop()


@pytest.fixture
def bucket(atomic_engine: Engine, table_name: str, tmp_path: Path) -> dict[str, Any]:
    """Return what a job has to know: a new table, and the record that all processes write to."""
    create_table(table_name, endpoint_url=atomic_engine.endpoint_url)
    record = str(tmp_path / "decisions.jsonl")
    return {"endpoint_url": atomic_engine.endpoint_url, "table": table_name, "callers": CALLERS, "record": record}


def run(workers: Sequence[Worker], job: dict[str, Any], limit: Limit) -> list[dict[str, Any]]:
    """Run one job in all workers at once, and audit what they recorded."""
    numbers = [limit.name, limit.capacity, limit.refill_amount, limit.refill_period]
    for seed, worker in enumerate(workers):
        worker.send(job | {"limits": [numbers], "seed": seed})
    answers = [worker.receive() for worker in workers]
    assert sum(answer["turns"] for answer in answers) == PROCESSES * job["acquires"]
    # Each process has its own clock here, so the refusals of one process say nothing about the time of another.
    verdict = judge(job["record"], skip=["refusals"] if job["step"] else [])
    assert not verdict.findings
    assert verdict.decisions >= PROCESSES * job["acquires"]
    return answers


@pytest.mark.parametrize("name", CREWS)
def test_a_frozen_clock_admits_exactly_the_capacity(
    name: str, crew: Callable[[str], list[Worker]], bucket: dict[str, Any], clock: FakeClock
) -> None:
    """While time stands still, 64 callers in 8 processes try 2,000 acquires; exactly the capacity is allowed."""
    limit = Limit.per_second("requests", 800)
    answers = run(crew(name), bucket | {"now": clock(), "step": 0, "acquires": 250}, limit)
    assert sum(answer["held"] for answer in answers) == limit.capacity


@pytest.mark.parametrize("name", CREWS)
def test_a_moving_clock_admits_no_more_than_refills(
    name: str, crew: Callable[[str], list[Worker]], bucket: dict[str, Any], clock: FakeClock
) -> None:
    """Each process has a clock of a different speed: at most the capacity, plus what refilled, plus one unit is allowed."""
    limit = Limit("requests", 50, 1_000, 1.0)
    answers = run(crew(name), bucket | {"now": clock(), "step": MILLISECOND // 2, "acquires": 150}, limit)
    elapsed = max(answer["last"] for answer in answers) - min(answer["first"] for answer in answers)
    admitted = sum(answer["held"] for answer in answers)
    assert limit.capacity <= admitted <= limit.capacity + elapsed * limit.refill_amount / limit.period_ns + 1


def test_real_time_admits_no_more_than_refills(crew: Callable[[str], list[Worker]], bucket: dict[str, Any]) -> None:
    """In real time, all runtimes together are allowed at most the capacity, plus what refilled, plus one unit."""
    limit = Limit("requests", 100, 200, 1.0)
    answers = run(crew("all at once"), bucket | {"now": None, "step": 0, "acquires": 250}, limit)
    elapsed = max(answer["last"] for answer in answers) - min(answer["first"] for answer in answers)
    admitted = sum(answer["held"] for answer in answers)
    assert limit.capacity <= admitted <= limit.capacity + elapsed * limit.refill_amount / limit.period_ns + 1


def test_refunds_and_settlements_add_up(crew: Callable[[str], list[Worker]], bucket: dict[str, Any], clock: FakeClock) -> None:
    """After random acquires, corrections, releases and failures, the available units are the capacity minus what is held."""
    limit = Limit.per_second("requests", 1_000_000)
    answers = run(crew("all at once"), bucket | {"now": clock(), "step": 0, "acquires": 40, "settles": True}, limit)
    patient = {"connect_timeout": 30.0, "read_timeout": 30.0}
    with SyncRepository(bucket["table"], endpoint_url=bucket["endpoint_url"], clock=clock, **patient) as repository:
        status = SyncRateLimiter(repository, [limit], decision_timeout=60).check("user", "api").statuses[0]
    assert limit.capacity - status.available == sum(answer["held"] for answer in answers) > 0
