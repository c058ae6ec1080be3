"""The limiter in AWS Lambda's own runtime client, frozen between invocations and short of CPU."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.fault_proxy import FaultProxy, refuse
from support.lambda_runtime import Environment
from support.presence import need
from support.processes import PATIENCE

from limiter import Concurrency, Limit, SyncRateLimiter, SyncRepository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.engines import Engine

DAY = 86400.0
SLOW, FAST = Limit("slow", 1000, 1, DAY), Limit("fast", 1, 1, 60.0)
ALLOTTED, CALLS = Limit("allotted", 2000, 1, DAY, allotment=0.5), Concurrency("calls", 1, ttl=1.0)
WELL = {"failures": 0, "degraded": 0, "corrections_lost": 0}
SLACK = 0.1
"""Seconds by which the times of two processes may differ; those of a freeze differ by more."""
TIMES = 60
"""Units that an invocation with little CPU consumes: enough that it rests several times."""


class Function:
    """A function, the proxy between it and the engine, and a limiter of another process at the same table."""

    def __init__(self, stack: ExitStack, address: str, table: str, handler: str, *, stops_time: bool = False) -> None:
        self.proxy = stack.enter_context(FaultProxy(address))
        environment = {"STACK": table, "ENDPOINT": self.proxy.endpoint_url}
        self.runtime = stack.enter_context(Environment(handler, environment, stops_time=stops_time))
        options: dict[str, Any] = {"connect_timeout": PATIENCE, "read_timeout": PATIENCE}
        repository = stack.enter_context(SyncRepository(table, endpoint_url=address, **options))
        self.other = stack.enter_context(SyncRateLimiter(repository, decision_timeout=PATIENCE, config_ttl=0))

    def invoke(self, *steps: list[Any], slowly: bool = False) -> Any:
        """Return what the steps resulted in. No call of the function has failed so far, and nothing was lost."""
        answer = self.runtime.invoke(*steps, slowly=slowly)
        assert answer["counted"] == WELL, self.runtime.log
        return answer

    def left(self, limit: Limit) -> int:
        """Return the units that the item has left."""
        (status,) = self.other.check("user", limit.name, limits=[limit]).statuses
        return status.available

    def retry_after(self, limit: Limit) -> float:
        """Return after how many seconds another process would be allowed a unit of a limit that is used up."""
        return self.other.try_acquire("user", limit.name, limits=[limit]).retry_after


@pytest.fixture
def address(server_engine: Engine) -> str:
    """The engine's address."""
    assert server_engine.endpoint_url is not None
    return server_engine.endpoint_url


@contextmanager
def function(address: str, table: str, handler: str, *, stops_time: bool = False) -> Iterator[Function]:
    """A function that prints neither warnings nor errors."""
    need("awslambdaric")
    with ExitStack() as stack:
        yield (running := Function(stack, address, table, handler, stops_time=stops_time))
        log = running.runtime.log
        assert [word for word in ("Unclosed", "Traceback", "Warning", "Error") if word in log] == [], log


@pytest.mark.engines("dynoxide")
def test_a_freeze_ends_what_a_function_remembers(address: str, table: str) -> None:
    """Monotonic time stood still. Connections, allotments, limits, refusals are out of date, and no unit is lost or too many."""
    with function(address, table, "sync_handler", stops_time=True) as frozen:
        frozen.other.set_limits([Limit("stored", 1, 1, DAY)], resource="stored")
        first = frozen.invoke(["consume", "stored", 2], ["consume", "slow", 3], ["stock", "allotted"], ["consume", "fast", 2])
        assert allowed(first, 0, 1, 3) == [[True, False], [True] * 3, [True, False]]
        connections = hang_up(frozen.proxy)
        frozen.other.set_limits([Limit("stored", 3, 1, DAY)], resource="stored")
        time.sleep(1.2)  # A shorter freeze may be within the clock's error, which is a second after the first responses.
        taken = 2000 - frozen.left(ALLOTTED)
        assert taken > first["results"][2], "nothing was taken in advance"
        before = frozen.retry_after(FAST)
        second = frozen.invoke(
            ["consume", "fast", 1], ["consume", "allotted", 1], ["consume", "stored", 3], ["consume", "slow", 2]
        )
        refused = second["results"][0][0]
        assert frozen.retry_after(FAST) - SLACK <= refused["retry_after"] <= before + SLACK
        assert allowed(second, 0, 1, 2, 3) == [[False], [True], [True, True, False], [True, True]]
        assert 2000 - frozen.left(ALLOTTED) > taken, "it spent a unit that had expired"
        assert frozen.left(SLOW) == 995
        assert frozen.proxy.counts().connections > connections


@pytest.mark.engines("dynoxide")
def test_a_slot_does_not_outlive_a_freeze(address: str, table: str) -> None:
    """Monotonic time went on. Another process has the slot, with a later number, and the function learns that."""
    with function(address, table, "async_handler") as frozen:
        first = frozen.invoke(["consume", "slow", 3], ["consume", "fast", 2], ["hold"])
        assert allowed(first, 0, 1) == [[True] * 3, [True, False]]
        frozen.proxy.inject(refuse())  # resets the connections that the frozen process keeps
        frozen.proxy.heal()
        with frozen.other.acquire("user", "calls", limits=[CALLS], timeout=PATIENCE) as lease:
            assert (lease.fence or 0) > first["results"][2] > 0
            before = frozen.retry_after(FAST)
            second = frozen.invoke(["consume", "fast", 1], ["leave"], ["hold"], ["consume", "slow", 2])
            (refused,), lost, fence, _ = second["results"]
            assert frozen.retry_after(FAST) - SLACK <= refused["retry_after"] <= before + SLACK
            assert (lost, fence, lease.lost) == (True, None, False)
        assert allowed(second, 0, 3) == [[False], [True, True]]
        assert frozen.left(SLOW) == 995


@pytest.mark.engines("dynoxide")
def test_a_fourteenth_of_a_cpu_is_no_outage(address: str, table: str) -> None:
    """A function that is short of CPU connects and decides; that takes long, and no call of it fails or is repeated."""
    with function(address, table, "sync_handler") as slow:
        slow.invoke(["open"], ["consume", "slow", 1])
        hang_up(slow.proxy)  # The limits are known and the clock is right, so the next call writes.
        units = decide_slowly(slow)
        assert slow.left(SLOW) == 999 - units


def allowed(answer: Any, *places: int) -> list[list[bool]]:
    """Return which decisions of the steps at these places were allowed."""
    return [[each["allowed"] for each in answer["results"][place]] for place in places]


def hang_up(proxy: FaultProxy) -> int:
    """Close the connections that the frozen process keeps, and return how many there have been."""
    counts = proxy.counts()
    assert counts.open > 0
    proxy.hang_up()
    return counts.connections


def decide_slowly(function: Function) -> int:
    """Invoke the function with a fourteenth of a CPU, and return the units that it has consumed.

    If the machine stalled when the function's CPU was to be taken away, that proves nothing and is done again.
    """
    for attempt in range(1, 10):
        answer = function.invoke(["consume", "slow", TIMES], slowly=True)
        assert all(each["allowed"] for each in answer["results"][0])
        if is_limited(answer):
            return attempt * TIMES
    raise AssertionError(answer)


def is_limited(answer: Any) -> bool:
    """Tell whether an invocation got a tenth of a CPU at most."""
    return bool(10 * answer["cpu"] <= answer["seconds"])
