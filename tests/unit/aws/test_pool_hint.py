"""One hint about too few connections, in place of a warning for each call."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from limiter.aws import pool_hint
from limiter.aws.client import ClientOptions, sync_close_client, sync_open_client

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS = 4


@pytest.fixture
def meeting_point() -> Iterator[str]:
    """A server that responds only when the given number of calls has arrived, each over its own connection."""
    meeting = threading.Barrier(CALLS)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            meeting.wait(20)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_more_calls_at_once_than_connections(
    meeting_point: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For any number of calls, one hint names max_connections, and urllib3's own warnings are not logged."""
    monkeypatch.setattr(pool_hint, "_HINT", pool_hint.PoolHint())
    monkeypatch.setattr(logging.getLogger("urllib3.connectionpool"), "filters", [])
    caplog.set_level(logging.WARNING)
    client = sync_open_client("dynamodb", ClientOptions(endpoint_url=meeting_point, max_connections=1, read_timeout=20.0))
    with ThreadPoolExecutor(CALLS) as pool:
        for _ in range(2):
            list(pool.map(lambda _: client.list_tables(), range(CALLS)))
    sync_close_client(client)
    (hint,) = caplog.messages
    assert hint.startswith("more calls to 127.0.0.1 run at once than the client keeps connections (1)")
    assert "raise max_connections" in hint


def test_other_hosts_and_other_messages_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Messages about the program's own connections stay as they are."""
    hint = pool_hint.PoolHint()
    hint.watch("dynamodb", 1)
    full, other = "Connection pool is full, discarding connection: %s. Connection pool size: %s", "Retrying: %s"
    for message, arguments, logged in (
        (full, ("elsewhere", 1), True),
        (full, ("dynamodb", 1), False),
        (other, ("dynamodb",), True),
        (other, (), True),
    ):
        record = logging.LogRecord("urllib3.connectionpool", logging.WARNING, "", 0, message, arguments, None)
        assert hint.filter(record) is logged
    assert len(caplog.records) == 1
