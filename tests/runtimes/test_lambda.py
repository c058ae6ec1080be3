"""The limiter in AWS Lambda's own runtime client, frozen between invocations and short of CPU."""

from __future__ import annotations

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
STEPS = 60
"""Units of the allotted limit that each invocation consumes: enough that some are taken in advance."""


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


@pytest.mark.parametrize(("handler", "stops_time"), [("sync_handler", True), ("async_handler", False)])
@pytest.mark.engines("dynoxide")
def test_a_function_goes_on_after_a_freeze(address: str, table: str, handler: str, stops_time: bool) -> None:
    """Frozen until its connections, slots, allotments and cached limits are out of date, a function loses and exceeds nothing."""
    with function(address, table, handler, stops_time=stops_time) as frozen:
        frozen.other.set_limits([Limit("stored", 1, 1, DAY)], resource="stored")
        first = frozen.invoke(
            ["consume", "stored", 2], ["consume", "slow", 3], ["consume", "fast", 2], ["consume", "allotted", STEPS], ["hold"]
        )["results"]
        assert [[each["allowed"] for each in one] for one in first[:3]] == [[True, False], [True] * 3, [True, False]]
        assert all(each["allowed"] for each in first[3])
        assert any(not each["calls"] for each in first[3]), "nothing was taken in advance"
        assert frozen.left(SLOW) == 997
        taken = 2000 - frozen.left(ALLOTTED)
        connections = close_connections(frozen.proxy, in_order=stops_time)
        frozen.other.set_limits([Limit("stored", 3, 1, DAY)], resource="stored")
        # This waits until the slot of the frozen function has expired, which outlives all else that it holds.
        with frozen.other.acquire("user", "calls", limits=[CALLS], timeout=PATIENCE) as lease:
            assert first[4] is not None
            assert lease.fence is not None
            assert lease.fence > first[4]
            before = frozen.other.try_acquire("user", "fast", limits=[FAST]).retry_after
            second = frozen.invoke(
                ["consume", "allotted", 1],
                ["consume", "fast", 1],
                ["leave"],
                ["hold"],
                ["consume", "stored", 3],
                ["consume", "slow", 2],
            )["results"]
            after = frozen.other.try_acquire("user", "fast", limits=[FAST]).retry_after
            assert not lease.lost
        assert frozen.proxy.counts().connections > connections
        assert second[0][0]["allowed"]
        assert second[0][0]["calls"], "it spent a unit that had expired"
        assert 2000 - frozen.left(ALLOTTED) > taken
        assert after - 0.1 <= second[1][0]["retry_after"] <= before + 0.1
        assert second[2:4] == [True, None]  # its slot is lost, and another process has it
        assert [each["allowed"] for each in second[4]] == [True, True, False]
        assert [each["allowed"] for each in second[5]] == [True, True]
        assert frozen.left(SLOW) == 995
        consumed = decide_slowly(frozen)
        assert frozen.left(SLOW) == 995 - consumed


def close_connections(proxy: FaultProxy, *, in_order: bool) -> int:
    """Close the connections that the frozen process keeps, and return how many there have been."""
    counts = proxy.counts()
    assert counts.open > 0
    if in_order:
        proxy.hang_up()
    else:
        proxy.inject(refuse())
        proxy.heal()
    return counts.connections


def decide_slowly(function: Function) -> int:
    """Invoke the function with a fourteenth of a CPU, and return the units that it has consumed.

    If the machine stalled when the function's CPU was to be taken away, that proves nothing and is done again.
    """
    for attempt in range(1, 10):
        answer = function.invoke(["consume", "slow", STEPS], slowly=True)
        assert all(each["allowed"] for each in answer["results"][0])
        if is_limited(answer):
            return attempt * STEPS
    raise AssertionError(answer)


def is_limited(answer: Any) -> bool:
    """Tell whether an invocation got a tenth of a CPU at most."""
    return bool(10 * answer["cpu"] <= answer["seconds"])
