"""Slots in processes of every runtime: renewed while their process lives, free soon after its end, lost while it is stopped.

The test of `limiter.runtime.heartbeat`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support import processes
from support.processes import PATIENCE, Script

from limiter import Concurrency, RateLimitExceeded, SyncRateLimiter, SyncRepository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.engines import Engine

RUNTIMES = ("asyncio", "threads", "gevent", "eventlet")
TTL = 3.0


class Holder:
    """A process that holds a slot."""

    def __init__(self, runtime: str, environment: dict[str, str]) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = processes.start(["slot_worker.py", runtime, "hold"], environment, **pipes)

    def read(self) -> list[str]:
        """Return the words of the next line that it says."""
        assert self.process.stdout is not None
        return str(self.process.stdout.readline()).split()

    def go_on(self) -> None:
        """Have it free its slot."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@contextmanager
def holder(runtime: str, engine: Engine, table: str, entity: str, ttl: float = TTL) -> Iterator[Holder]:
    """A process that holds the one slot of an entity."""
    environment = {"STACK": table, "ENDPOINT": str(engine.endpoint_url), "ENTITY": entity, "TTL": str(ttl)}
    started = Holder(runtime, environment)
    try:
        assert started.read()[:1] == ["held"]
        yield started
    finally:
        processes.end(started.process)
        for pipe in (started.process.stdin, started.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def limiter(server_engine: Engine, table: str) -> Iterator[SyncRateLimiter]:
    """A limiter of another process than those that hold slots."""
    options: dict[str, Any] = {"connect_timeout": PATIENCE, "read_timeout": PATIENCE}
    repository = SyncRepository(table, endpoint_url=str(server_engine.endpoint_url), **options)
    with repository, SyncRateLimiter(repository, [Concurrency("calls", 1, ttl=TTL)], decision_timeout=PATIENCE) as limiter:
        yield limiter


@pytest.mark.one_server
@pytest.mark.engines("dynoxide", "dynamodb-local")
def test_a_process_keeps_its_slots_until_it_is_killed(server_engine: Engine, table: str, limiter: SyncRateLimiter) -> None:
    """In every runtime a holder that makes no call renews its slot; killed, it renews no more, and its slot is free."""
    with ExitStack() as stack:
        holders = {each: stack.enter_context(holder(each, server_engine, table, each)) for each in RUNTIMES}
        time.sleep(2 * TTL + 2)
        for runtime in RUNTIMES:
            with pytest.raises(RateLimitExceeded):
                limiter.acquire(runtime).__enter__()
        for each in holders.values():
            os.kill(each.process.pid, signal.SIGKILL)
        for runtime in RUNTIMES:
            with limiter.acquire(runtime, timeout=PATIENCE) as lease:
                assert lease.waited <= TTL + 2 + 10  # The rest is for machines that stall.


@pytest.mark.engines("dynoxide", "dynamodb-local")
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_process_that_was_stopped_learns_that_its_slot_is_lost(
    runtime: str, server_engine: Engine, table: str, limiter: SyncRateLimiter
) -> None:
    """Stopped beyond its time, a holder is overtaken by one with a higher number, and finds so when it goes on."""
    with holder(runtime, server_engine, table, "user", ttl=1.0) as stopped:
        os.kill(stopped.process.pid, signal.SIGSTOP)
        with limiter.acquire("user", timeout=PATIENCE):
            os.kill(stopped.process.pid, signal.SIGCONT)
            stopped.go_on()
            assert stopped.read() == ["LeaseLost"]
            assert stopped.read() == ["ended", "True"]
            with pytest.raises(RateLimitExceeded):
                limiter.acquire("user").__enter__()


@pytest.mark.engines("dynoxide")
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_renewal_keeps_no_process_alive(
    runtime: str, server_engine: Engine, table: str, run_script: Callable[..., Script]
) -> None:
    """A program that ends while it holds a slot ends at once."""
    result = run_script("slot_worker.py", runtime, "leave", STACK=table, ENDPOINT=str(server_engine.endpoint_url), TTL="3600")
    assert result.status == 0, result.errors


@pytest.mark.engines("dynoxide")
def test_a_forked_child_holds_slots_of_its_own(server_engine: Engine, table: str, run_script: Callable[..., Script]) -> None:
    """A child frees nothing that is its parent's, which goes on renewing it."""
    result = run_script("slot_worker.py", "threads", "fork", STACK=table, ENDPOINT=str(server_engine.endpoint_url))
    words = [line.split() for line in result.output.splitlines()]
    assert [line[0] for line in words] == ["held", "child", "left", "ended"]
    assert int(words[1][1]) > int(words[0][1])
    assert words[2][1:] == ["1", "False"]
    assert words[3][1:] == ["2"]
