"""The limiter in AWS Lambda's own runtime client, frozen between invocations and short of CPU."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from support.fault_proxy import FaultProxy, refuse
from support.lambda_runtime import Environment
from support.presence import need

from limiter import Limit, SyncRateLimiter, SyncRepository

if TYPE_CHECKING:
    from support.engines import Engine

SLOW = Limit("slow", 100, 1, 86400.0)


@pytest.mark.parametrize("handler", ["sync_handler", "async_handler"])
@pytest.mark.engines("dynoxide")
def test_a_frozen_function_decides_exactly(server_engine: Engine, table: str, handler: str) -> None:
    """Freezes, closed connections and a fourteenth of a CPU cause no outage, lose no unit and leave the time right."""
    need("awslambdaric")
    address = server_engine.endpoint_url
    assert address is not None
    with FaultProxy(address) as proxy, Environment(handler, {"STACK": table, "ENDPOINT": proxy.endpoint_url}) as function:
        answers = [function.invoke({"resource": "fast"}), function.invoke({"resource": "slow"})]
        for slowly in (False, True):
            proxy.inject(refuse())  # closes the connections that the frozen process keeps
            proxy.heal()
            time.sleep(1.1)  # the unit of the fast limit comes back
            answers += [function.invoke({"resource": each}, slowly=slowly) for each in ("fast", "slow")]
        log = function.log

    assert [each["allowed"] for each in answers] == [True] * 6
    assert {(each["failures"], each["degraded"]) for each in answers} == {(0, 0)}
    assert [word for word in ("Unclosed", "Traceback") if word in log] == [], log
    with SyncRateLimiter(SyncRepository(table, endpoint_url=address), [SLOW]) as limiter:
        assert limiter.check("user", "slow", {"slow": 97}, limits=[SLOW])
        assert not limiter.check("user", "slow", {"slow": 98}, limits=[SLOW])
