"""The guard of clients of boto3 and aiobotocore, in front of an engine."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.memory_limiters import left, new_limiter, wait
from support.presence import need

from limiter import RateLimitExceeded, ValidationError
from limiter.contrib.botocore import guard

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import Engine, FakeClock

pytestmark = pytest.mark.engines("moto", "dynoxide")


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of client and limiter."""
    if request.param == "async":
        need("aiobotocore")
    return str(request.param)


def call(kind: str, engine: Engine, limiter: Any, do: Callable[[Any], Any], **terms: Any) -> Any:
    """Guard DescribeTable on a new client, do something with it, and return the result."""
    if kind == "sync":
        import boto3

        client = boto3.client("dynamodb", endpoint_url=engine.endpoint_url)
        with contextlib.closing(client):
            guard(client, limiter, ["DescribeTable"], **({"entity": "me"} | terms))
            return do(client)

    async def run() -> Any:
        from aiobotocore.session import get_session

        async with get_session().create_client("dynamodb", endpoint_url=engine.endpoint_url) as client:
            guard(client, limiter, ["DescribeTable"], **({"entity": "me"} | terms))
            return await do(client)

    return asyncio.run(run())


def describe(client: Any) -> Any:
    """Make a call that the service refuses, but that was made."""
    return client.describe_table(TableName="no-such-table")


def attempt(kind: str, engine: Engine, limiter: Any, **terms: Any) -> None:
    """Make that call."""
    with pytest.raises(Exception, match="ResourceNotFound"):
        call(kind, engine, limiter, describe, **terms)


def test_calls_wait_for_their_turn_or_are_refused(server_engine: Engine, kind: str, clock: FakeClock) -> None:
    """Guarded operations wait within `timeout`, and raise out of the call beyond it; others are free."""
    limiter, begun = new_limiter(kind, clock, "requests=1/second burst 2"), clock()
    for _ in range(4):
        attempt(kind, server_engine, limiter, timeout=1.5)
    assert clock() - begun == 2 * 10**9
    with pytest.raises(RateLimitExceeded):
        call(kind, server_engine, limiter, describe)
    assert "TableNames" in call(kind, server_engine, limiter, lambda client: client.list_tables())


def test_terms_may_depend_on_the_parameters(server_engine: Engine, kind: str, clock: FakeClock) -> None:
    """A parameter may be the resource, and a call without an entity is exempt."""
    limiter = new_limiter(kind, clock, "requests=9/hour")
    attempt(kind, server_engine, limiter, resource=lambda params: params["TableName"], consume={"requests": 2})
    attempt(kind, server_engine, limiter, entity=lambda params: None)
    assert left(limiter, "me", "no-such-table") == {"requests": 7}
    assert limiter.stats().decisions == 1


def test_a_429_pauses_for_all_processes(server_engine: Engine, kind: str, clock: FakeClock) -> None:
    """No process gets a turn until the service's Retry-After is over; not without `feedback`."""
    limiter = new_limiter(kind, clock, "requests=9/hour")

    def throttled(client: Any) -> Any:
        def rewrite(parsed: dict[str, Any], **_: Any) -> None:
            answer = {"HTTPStatusCode": 429, "HTTPHeaders": {"retry-after": "30"}}
            parsed["ResponseMetadata"].update(answer)

        client.meta.events.register_first("after-call.dynamodb.DescribeTable", rewrite)
        return describe(client)

    for resource in ("tables", "others"):
        with pytest.raises(Exception, match="ResourceNotFound"):
            call(kind, server_engine, limiter, throttled, resource=resource, feedback=resource == "tables")
    assert (wait(limiter, "me", "tables"), wait(limiter, "me", "others")) == (30.0, 0.0)
    with pytest.raises(RateLimitExceeded):
        call(kind, server_engine, limiter, describe, resource="tables")


def test_an_unknown_operation_is_refused(clock: FakeClock) -> None:
    """A name that the client does not have would guard nothing."""
    import boto3

    with contextlib.closing(boto3.client("dynamodb")) as client, pytest.raises(ValidationError, match="'describe_table'"):
        guard(client, new_limiter("sync", clock), ["describe_table"], entity="me")


def test_it_imports_nothing_of_botocore() -> None:
    """The module can be imported without loading botocore."""
    code = "import sys, limiter.contrib.botocore; print('botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
