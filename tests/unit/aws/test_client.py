"""Clients that the library opens: how often they make a failing call, and what they tell the server about it."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from support.presence import needed

from limiter import ConfigurationError, Limit, Repository, SyncRateLimiter, SyncRepository
from limiter.aws.client import ClientOptions, close_client, open_client, sync_close_client, sync_open_client
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = {"TableName": "my-app", "Key": {"pk": {"S": "a"}, "sk": {"S": "b"}}}


class Failing(ThreadingHTTPServer):
    """A server that fails at every request, and keeps the requests' headers."""

    def __init__(self) -> None:
        self.requests: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), self.handler())
        self.options = {"endpoint_url": f"http://127.0.0.1:{self.server_port}", "connect_timeout": 30.0, "read_timeout": 30.0}

    def handler(self) -> type[BaseHTTPRequestHandler]:
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                requests.append({name.lower(): value for name, value in self.headers.items()})
                self.send_response(500)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def server() -> Iterator[Failing]:
    """A server that runs as long as the test."""
    with Failing() as failing:
        threading.Thread(target=failing.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield failing
        failing.shutdown()


def get_item(options: ClientOptions) -> None:
    """One call by boto3."""
    client = sync_open_client("dynamodb", options)
    try:
        client.get_item(**KEY)
    finally:
        sync_close_client(client)


def get_item_by_aiobotocore(options: ClientOptions) -> None:
    """One call by aiobotocore."""

    async def call() -> None:
        client = await open_client("dynamodb", options)
        try:
            await client.get_item(**KEY)
        finally:
            await close_client(client)

    asyncio.run(call())


@pytest.mark.parametrize("call", [get_item, get_item_by_aiobotocore])
@pytest.mark.parametrize("attempts", [1, 2])
def test_a_call_is_made_as_often_as_was_said(server: Failing, attempts: int, call: Callable[[ClientOptions], Any]) -> None:
    """A call that is never repeated has no number; a call that may be repeated tells the server which attempt it is."""
    with pytest.raises(ClientError):
        call(ClientOptions(attempts=attempts, **server.options))
    numbers = [request.get("amz-sdk-request", "none") for request in server.requests]
    expected = ["none"] if attempts == 1 else ["attempt=1", "attempt=2"]
    assert [wanted for wanted, number in zip(expected, numbers, strict=True) if wanted in number] == expected


def test_mock_aws_beside_the_asynchronous_limiter_is_named() -> None:
    """The mock responds within the process with an object that aiobotocore cannot await; the error names it and both remedies."""
    moto = needed("moto")

    async def call() -> None:
        async with Repository("my-app"):
            pass

    with moto.mock_aws(), pytest.raises(ConfigurationError, match=r"mock_aws.*SyncRepository.*LocalEngine"):
        asyncio.run(call())
    with moto.mock_aws():
        create_table("my-app")
        with SyncRepository("my-app") as repository:
            assert SyncRateLimiter(repository, [Limit.per_minute("requests", 5)]).try_acquire("user").allowed
