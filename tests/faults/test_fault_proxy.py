"""The proxy injects the faults that it is told to, and passes everything else on."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from support import fault_proxy as faults
from support.engines import port_of, wait_until
from support.fault_proxy import FaultProxy

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT = 30.0
ANSWER = json.dumps({"Attributes": {"x": "y" * 100}}).encode()


class Engine(BaseHTTPRequestHandler):
    """An engine that remembers its requests."""

    protocol_version = "HTTP/1.1"
    asked: list[bytes]

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"] or 0)
        body = self.rfile.read(length)
        if not length or len(body) < length:
            self.close_connection = True
            return
        self.asked.append(body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is inherited
        pass


@pytest.fixture
def asked() -> list[bytes]:
    """Return the requests that reached the engine."""
    return []


@pytest.fixture
def proxy(asked: list[bytes]) -> Iterator[FaultProxy]:
    """A proxy before an engine."""
    handler = type("Handler", (Engine,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as engine:
        engine.daemon_threads, engine.block_on_close = True, False
        threading.Thread(target=engine.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        with FaultProxy(f"http://127.0.0.1:{engine.server_port}") as started:
            yield started
        engine.shutdown()


def ask(proxy: FaultProxy, body: bytes = b"{}", *, action: str = "GetItem", timeout: float = LIMIT) -> tuple[int, bytes]:
    """Send a request on a new connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(proxy.endpoint_url), timeout=timeout)
    try:
        connection.request("POST", "/", body, {"X-Amz-Target": f"DynamoDB_20120810.{action}"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_without_faults_it_only_counts(proxy: FaultProxy, asked: list[bytes]) -> None:
    """Without faults, requests and responses pass unchanged, several on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(proxy.endpoint_url), timeout=LIMIT)
    for number in range(3):
        connection.request("POST", "/", str(number), {"X-Amz-Target": "DynamoDB_20120810.UpdateItem"})
        assert connection.getresponse().read() == ANSWER
    counts = proxy.counts()
    connection.close()
    assert asked == [b"0", b"1", b"2"]
    assert (counts.connections, counts.requests, counts.actions, counts.faults) == (1, 3, {"UpdateItem": 3}, 0)
    assert wait_until(lambda: proxy.counts().open == 0)


def test_a_port_that_refuses_is_the_same_when_healed(proxy: FaultProxy, asked: list[bytes]) -> None:
    """Open connections are reset and new ones refused; when healed, the same port serves again."""
    old = socket.create_connection(("127.0.0.1", port_of(proxy.endpoint_url)), timeout=LIMIT)
    assert wait_until(lambda: proxy.counts().open == 1)
    proxy.inject(faults.refuse())
    with pytest.raises(ConnectionResetError):
        old.recv(1)
    old.close()
    with pytest.raises(ConnectionRefusedError):
        ask(proxy)
    proxy.heal()
    assert ask(proxy) == (200, ANSWER)
    assert len(asked) == 1


def test_a_black_hole_swallows_requests(proxy: FaultProxy, asked: list[bytes]) -> None:
    """A request into a black hole is never answered and does not reach the engine."""
    proxy.inject(faults.black_hole())
    with pytest.raises(TimeoutError):
        ask(proxy, timeout=0.05)
    assert asked == []


def test_a_reset_is_one(proxy: FaultProxy, asked: list[bytes]) -> None:
    """A reset ends the client's connection, and the request does not reach the engine."""
    proxy.inject(faults.reset())
    with pytest.raises(ConnectionResetError):
        ask(proxy)
    assert asked == []


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (faults.server_error(), 500, "InternalServerError"),
        (faults.service_unavailable(), 503, "ServiceUnavailable"),
        (faults.throttle(), 400, "ProvisionedThroughputExceededException"),
        (faults.throttle("ThrottlingException", hot_key=True), 400, "ThrottlingException"),
        (faults.expired_credentials(), 400, "ExpiredTokenException"),
        (faults.denied(), 400, "AccessDeniedException"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_errors_are_those_of_dynamodb(proxy: FaultProxy, asked: list[bytes], fault: faults.Fault, status: int, code: str) -> None:
    """Errors come at once, in DynamoDB's form, and the request does not reach the engine."""
    proxy.inject(fault)
    answered, body = ask(proxy)
    assert (answered, json.loads(body)["__type"].partition("#")[2], asked) == (status, code, [])
    assert ("KeyRangeThroughputExceeded" in body.decode()) == (code == "ThrottlingException")


def test_slow_answers_are_whole(proxy: FaultProxy, asked: list[bytes]) -> None:
    """A response that is delayed, or sent byte by byte, arrives complete."""
    proxy.inject(faults.delay(0.01, times=1), faults.trickle(0.0001, times=1))
    assert [ask(proxy), ask(proxy)] == [(200, ANSWER)] * 2
    assert len(asked) == 2


def test_a_cut_answer_was_a_request_carried_out(proxy: FaultProxy, asked: list[bytes]) -> None:
    """The request of a cut response was carried out; the client gets only the start, and later requests succeed."""
    ask(proxy)
    size = proxy.counts().answer_bytes
    assert size > len(ANSWER)
    for kept in (0, 1, size - len(ANSWER), size - 1):
        proxy.inject(faults.cut(kept, times=1))
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            ask(proxy)
        assert ask(proxy) == (200, ANSWER)
    assert len(asked) == 9


def test_a_cut_request_is_not_carried_out(proxy: FaultProxy, asked: list[bytes]) -> None:
    """A request whose last byte is missing is not carried out."""
    ask(proxy, b"{...}")
    size = proxy.counts().request_bytes
    for sent in (0, 1, size - 1, size + 9):
        proxy.inject(faults.cut_request(sent, times=1))
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            ask(proxy, b"{...}")
    assert asked == [b"{...}"]


def test_a_kept_request_arrives_late(proxy: FaultProxy, asked: list[bytes]) -> None:
    """A request that was held back is carried out when it is delivered, in order and once."""
    proxy.inject(faults.keep(times=2))
    for body in (b"first", b"second"):
        with pytest.raises(http.client.RemoteDisconnected):
            ask(proxy, body)
    ask(proxy, b"third")
    assert proxy.counts().kept == 2
    proxy.deliver()
    proxy.deliver()
    assert asked == [b"third", b"first", b"second"]


def test_a_held_request_meets_the_next_faults(proxy: FaultProxy, asked: list[bytes]) -> None:
    """A held request waits until the faults change, and then meets the new ones."""
    proxy.inject(faults.hold())
    answers: list[tuple[int, bytes]] = []
    caller = threading.Thread(target=lambda: answers.append(ask(proxy)))
    caller.start()
    assert wait_until(lambda: proxy.counts().held == 1)
    assert asked == []
    proxy.heal()
    caller.join(LIMIT)
    assert answers == [(200, ANSWER)]


def test_a_fault_can_be_for_some(proxy: FaultProxy, asked: list[bytes]) -> None:
    """A request meets the first fault for its action that is not used up."""
    only = {"action": "UpdateItem"}
    proxy.inject(
        faults.passing(times=1, **only), faults.error(500, "First", times=1, **only), faults.error(400, "Second", **only)
    )
    statuses = [ask(proxy, action=action)[0] for action in ("UpdateItem", "GetItem", "UpdateItem", "UpdateItem", "UpdateItem")]
    assert statuses == [200, 200, 500, 400, 400]
    assert proxy.counts().faults == 3
    proxy.inject(faults.denied(text="mine"))
    assert [ask(proxy, body)[0] for body in (b"yours", b"mine")] == [200, 400]
