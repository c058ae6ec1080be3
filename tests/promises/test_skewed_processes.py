"""Processes on machines whose clocks are a minute apart share one limit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from support.exactness_workers import Worker

from limiter import Limit
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.engines import Engine

LIMIT = Limit("requests", 3_000, 100, 1.0)
ERROR = 1.0
"""Seconds by which two such processes may differ: at most half a second each, and less after the first responses."""


@pytest.fixture(scope="module")
def worker_of() -> Iterator[Callable[[float], Worker]]:
    """Worker processes by clock skew, each started once."""
    started: dict[float, Worker] = {}

    def get(skew: float) -> Worker:
        if skew not in started:
            started[skew] = Worker("skewed_worker.py", str(skew))
        return started[skew]

    yield get
    for worker in started.values():
        worker.stop()


@pytest.fixture
def job(atomic_engine: Engine, table_name: str) -> dict[str, Any]:
    """Return what a worker has to know about a new table."""
    create_table(table_name, endpoint_url=atomic_engine.endpoint_url)
    limit = [LIMIT.name, LIMIT.capacity, LIMIT.refill_amount, LIMIT.refill_period]
    return {"endpoint_url": atomic_engine.endpoint_url, "table": table_name, "limit": limit, "units": 50}


@pytest.mark.parametrize("order", [(-30.0, 30.0), (30.0, -30.0)], ids=str)
def test_one_after_another(order: tuple[float, float], worker_of: Callable[[float], Worker], job: dict[str, Any]) -> None:
    """The first process consumes all units; the second then gets exactly what refills, without delay."""
    workers = [worker_of(skew) for skew in order]
    start = time.monotonic()
    answers = []
    for worker, seconds in zip(workers, (1.5, 2.5), strict=True):
        worker.send(job | {"seconds": seconds})
        answers.append(worker.receive())
    span = time.monotonic() - start
    admitted = sum(answer["admitted"] for answer in answers)
    assert LIMIT.capacity <= admitted <= LIMIT.capacity + LIMIT.refill_amount * (span + ERROR) + 1
    assert answers[1]["admitted"] > 0
    assert [answer["skew"] for answer in answers] == pytest.approx(order, abs=2)


def test_all_at_once(worker_of: Callable[[float], Worker], job: dict[str, Any]) -> None:
    """Two clocks are 30 s off and one is right: together the processes get what one would get, and each gets a share."""
    workers = [worker_of(skew) for skew in (-30.0, 0.0, 30.0)]
    start = time.monotonic()
    for worker in workers:
        worker.send(job | {"seconds": 2.0})
    admitted = sum(worker.receive()["admitted"] for worker in workers)
    for worker in workers:
        worker.send(job | {"seconds": 1.5})
        alone = worker.receive()["admitted"]
        assert alone > 0
        admitted += alone
    span = time.monotonic() - start
    assert LIMIT.capacity <= admitted <= LIMIT.capacity + LIMIT.refill_amount * (span + ERROR) + 1
