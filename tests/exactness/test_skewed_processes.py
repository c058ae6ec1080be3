"""Processes on machines whose clocks are a minute apart share one limit."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engines import Engine

WORKER = str(Path(__file__).with_name("skewed_worker.py"))
PATIENCE = 60.0
LIMIT = Limit("requests", 3_000, 100, 1.0)
ERROR = 1.0
"""Seconds by which the clocks of two such processes may differ: half a second each, and less after the first answers."""


class Worker:
    """One process, whose clock is `skew` seconds ahead."""

    def __init__(self, skew: float) -> None:
        command = [sys.executable, WORKER, str(skew)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def send(self, job: dict[str, Any]) -> None:
        """Give it something to do."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """What it answers; it is killed when it takes too long."""
        assert self.process.stdout is not None
        alarm = threading.Timer(PATIENCE, self.process.kill)
        alarm.start()
        try:
            line = self.process.stdout.readline()
        finally:
            alarm.cancel()
        assert line, f"worker ended with status {self.process.wait()}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def worker_of() -> Iterator[Callable[[float], Worker]]:
    """Processes by their skew, each started once."""
    started: dict[float, Worker] = {}

    def get(skew: float) -> Worker:
        if skew not in started:
            started[skew] = Worker(skew)
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
    for worker, seconds in zip(workers, (2.0, 4.0), strict=True):
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
        worker.send(job | {"seconds": 3.0})
    admitted = sum(worker.receive()["admitted"] for worker in workers)
    for worker in workers:
        worker.send(job | {"seconds": 2.0})
        alone = worker.receive()["admitted"]
        assert alone > 0
        admitted += alone
    span = time.monotonic() - start
    assert LIMIT.capacity <= admitted <= LIMIT.capacity + LIMIT.refill_amount * (span + ERROR) + 1
