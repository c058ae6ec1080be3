"""A proxy on loopback between a client and an engine, that fails as it is told to.

It runs in a process of its own, so that it works beside asyncio, threads and greenlets alike, and it serves other processes too.
An order to it has been carried out when the call returns.

    with FaultProxy(engine.endpoint_url) as proxy:
        repository = Repository(table, endpoint_url=proxy.endpoint_url)
        proxy.inject(cut(17, action="UpdateItem", times=1))  # one answer loses all but its first 17 bytes
        ...
        proxy.inject(black_hole())                           # from now on no request is answered
        ...
        proxy.heal()
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from support.engines import ServerProcess, port_of

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVER = str(Path(__file__).with_name("fault_server.py"))
PATIENCE = 60.0
Fault = dict[str, Any]
"""What happens to a request. `times` bounds to how many, `action`, such as "UpdateItem", and a `text` in them say to which."""


def fault(kind: str, /, **options: Any) -> Fault:
    """Return a fault of one of the kinds below."""
    return {"kind": kind, **options}


def passing(**options: Any) -> Fault:
    """The request is served normally; before other faults with `times`, they strike later."""
    return fault("pass", **options)


def refuse() -> Fault:
    """Nothing listens on the port, and every open connection is reset."""
    return fault("refuse")


def black_hole(**options: Any) -> Fault:
    """The request is read and never answered, and does not reach the engine."""
    return fault("black_hole", **options)


def reset(**options: Any) -> Fault:
    """The connection is reset, and the request does not reach the engine."""
    return fault("reset", **options)


def delay(seconds: float, **options: Any) -> Fault:
    """The request reaches the engine late, by the given seconds."""
    return fault("delay", seconds=seconds, **options)


def trickle(seconds: float, **options: Any) -> Fault:
    """The request is carried out, and the response comes one byte at a time, with the given seconds between."""
    return fault("trickle", seconds=seconds, **options)


def cut(size: int, **options: Any) -> Fault:
    """The request is carried out, and the connection is closed after the first `size` bytes of the response."""
    return fault("cut", size=size, **options)


def cut_request(size: int, **options: Any) -> Fault:
    """The engine gets the first `size` bytes of the request, at most all but the last, before both connections are closed."""
    return fault("cut_request", size=size, **options)


def keep(**options: Any) -> Fault:
    """The connection is closed, and the whole request is held back until `deliver`: a write that arrives late."""
    return fault("keep", **options)


def hold(**options: Any) -> Fault:
    """The request waits until other faults are injected, and meets those."""
    return fault("hold", **options)


def error(status: int, code: str, message: str = "injected", /, extra: Mapping[str, Any] | None = None, **options: Any) -> Fault:
    """The response is an error of DynamoDB, and the request does not reach the engine."""
    body = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message, **(extra or {})}
    return fault("error", status=status, body=body, **options)


def server_error(**options: Any) -> Fault:
    """DynamoDB fails at once."""
    return error(500, "InternalServerError", **options)


def service_unavailable(**options: Any) -> Fault:
    """DynamoDB is overloaded."""
    return error(503, "ServiceUnavailable", **options)


def throttle(code: str = "ProvisionedThroughputExceededException", *, hot_key: bool = False, **options: Any) -> Fault:
    """DynamoDB throttles, for all of the table or for a hot key; `code` may also be ThrottlingException."""
    reason = f"TableWrite{'KeyRange' if hot_key else 'Provisioned'}ThroughputExceeded"
    # As botocore's model of DynamoDB spells it.
    name = "throttlingReasons" if code == "ThrottlingException" else "ThrottlingReasons"
    return error(400, code, extra={name: [{"reason": reason}]}, **options)


def expired_credentials(**options: Any) -> Fault:
    """The token of the credentials has expired."""
    return error(400, "ExpiredTokenException", "The security token included in the request is expired", **options)


def denied(**options: Any) -> Fault:
    """The credentials lack the permission."""
    return error(400, "AccessDeniedException", "User: someone is not authorized to perform: dynamodb:UpdateItem", **options)


@dataclass(frozen=True, slots=True)
class Counts:
    """What the proxy has seen since it started: connections, requests by action, requests that met a fault or were held.

    `open` connections and `kept` requests are those of now, `request_bytes` and `answer_bytes` the sizes of the last ones.
    """

    port: int
    connections: int
    open: int
    requests: int
    actions: Mapping[str, int]
    faults: int
    held: int
    kept: int
    request_bytes: int
    answer_bytes: int


class FaultProxy:
    """Passes everything on to the engine at `upstream_url`, except for the faults that are injected."""

    def __init__(self, upstream_url: str) -> None:
        upstream = str(port_of(upstream_url))
        self._lock = threading.Lock()
        command = [sys.executable, "-I", "-S", SERVER]
        self._process = ServerProcess("fault proxy", lambda port: [*command, str(port), upstream])
        try:
            self._control = socket.create_connection(("127.0.0.1", port_of(self._process.endpoint_url)), timeout=PATIENCE)
            self._answers = self._control.makefile("rb")
            self.endpoint_url = f"http://127.0.0.1:{self.counts().port}"
        except BaseException:
            self._process.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def inject(self, *faults: Fault) -> None:
        """Replace the faults: from now on, a request meets the first fault that concerns it."""
        self._order("inject", faults=faults)

    def heal(self) -> None:
        """Serve normally from now on; connections that a fault has broken stay lost."""
        self.inject()

    def deliver(self) -> None:
        """Let the engine carry out the requests that were held back, in their order."""
        self._order("deliver")

    def hang_up(self) -> None:
        """Close every open connection in order, as a server does with those that were idle for long."""
        self._order("hang_up")

    def counts(self) -> Counts:
        """Return the counts so far."""
        return self._order("counts")

    def stop(self) -> None:
        """End the proxy and all its connections."""
        self._answers.close()
        self._control.close()
        self._process.stop()

    def _order(self, what: str, **details: Any) -> Counts:
        with self._lock:
            self._control.sendall(json.dumps({"do": what, **details}).encode() + b"\n")
            return Counts(**json.loads(self._answers.readline()))
