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
"""Seconds by which the clocks of two such processes may differ: half a second each, and less after the first answers."""


@pytest.fixture(scope="module")
def worker_of() -> Iterator[Callable[[float], Worker]]:
    """Processes by their skew, each started once."""
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
    """What a worker has to know of a new table."""
    create_table(table_name, endpoint_url=atomic_engine.endpoint_url)
    limit = [LIMIT.name, LIMIT.capacity, LIMIT.refill_amount, LIMIT.refill_period]
    return {"endpoint_url": atomic_engine.endpoint_url, "table": table_name, "limit": limit, "units": 50}


@pytest.mark.parametrize("order", [(-30.0, 30.0), (30.0, -30.0)], ids=str)
def test_one_after_another(order: tuple[float, float], worker_of: Callable[[float], Worker], job: dict[str, Any]) -> None:
    """The first takes all there is; the other then gets what refills, no more, and at once."""
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
    """Two that are thirty seconds off, either way, and one that is right get what one alone would; then each gets some."""
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
