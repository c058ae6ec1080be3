"""One measurement of a web worker: the README's application under gunicorn with one gevent worker, and its clients.

    python -m benchmarks.web_worker JOB WARM_UP_SECONDS

The clients are in this process: connections that stay open, each of which asks again as soon as it has a response. They share the
machine with the application, so they are as simple as they can be. Prints the figures as the last line of its output.
"""

from __future__ import annotations

import itertools
import json
import os
import selectors
import socket
import sys
import time
import urllib.request
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .plan import Job
from .recording import Record
from .servers import ServerProcess
from .worker import Measurement, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

JOB_VARIABLE = "BENCHMARK_JOB"
CONTROL = "/-/"
"""What the paths for this process begin with."""
END = b"\r\n0\r\n\r\n"
"""What ends each response: gunicorn sends the README's responses in chunks."""
CHUNK = 65_536
PATIENCE = 60.0
GUNICORN = ("-m", "gunicorn", "--worker-class", "gevent", "--workers", "1", "--log-level", "error")


class WebFailed(Exception):
    """The application did not answer as it should."""


class Connection:
    """One client: a connection that stays open, and its current request."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.response = b""
        self.began = 0

    def ask(self, request: bytes) -> None:
        """Send a request."""
        self.response = b""
        self.began = time.perf_counter_ns()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Read what has arrived, and tell whether the response is complete."""
        chunk = self.socket.recv(CHUNK)
        if not chunk:
            raise WebFailed(f"the connection was closed after {self.response[:100]!r}")
        self.response += chunk
        return self.response.endswith(END)

    def allowed(self) -> bool:
        """Tell whether the application has allowed the request; raises `WebFailed` if it has failed."""
        status = self.response[9:12]
        if status not in (b"200", b"429"):
            raise WebFailed(f"the application has responded {self.response[:100]!r}")
        return status == b"200"


def load(port: int, requests: Iterator[bytes], callers: int, seconds: float, at_least: int) -> Record:
    """Send requests by all connections for some seconds, and at least so many; return the record."""
    record = Record()
    with selectors.DefaultSelector() as waiting:
        record.began = time.perf_counter()
        for _ in range(callers):
            connection = Connection(port)
            waiting.register(connection.socket, selectors.EVENT_READ, connection)
            connection.ask(next(requests))
        while waiting.get_map():
            events = waiting.select(PATIENCE)
            if not events:
                raise WebFailed(f"no response within {PATIENCE:.0f} s")
            for key, _ in events:
                connection = key.data
                if not connection.receive():
                    continue
                record.add(connection.began, connection.allowed())
                if time.perf_counter() < record.began + seconds or len(record.latencies) < at_least:
                    connection.ask(next(requests))
                else:
                    waiting.unregister(connection.socket)
                    connection.socket.close()
        record.elapsed = time.perf_counter() - record.began
    return record


class Application:
    """The application in its process, from here: its meter, its CPU time, and the statistics of its limiter."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._accounting = False

    @property
    def accounting(self) -> bool:
        """Whether the application accounts for its calls."""
        return self._accounting

    @accounting.setter
    def accounting(self, value: bool) -> None:
        self._accounting = value
        self._ask("account")

    def reset(self) -> None:
        """Count calls from here."""
        self._ask("reset")

    def summary(self) -> dict[str, Any]:
        """Return the calls by name, and the units."""
        found: dict[str, Any] = self._ask("summary")["meter"]
        return found

    def cpu(self) -> tuple[float, float]:
        """Return the seconds of user and of system time that the application has used."""
        found = self._ask("summary")
        return found["cpu_user"], found["cpu_system"]

    def statistics(self) -> Any:
        """Return what the limiter says about its transport."""
        return SimpleNamespace(**self._ask("summary")["statistics"])

    def drive(self, job: Job, phase: Phase) -> Record:
        """Run one phase; the warm-up asks once from each address."""
        addresses = [f"10.0.{number // 250}.{number % 250}" for number in range(max(1, job.keys))]
        requests = itertools.cycle([request(address) for address in addresses])
        before = self.cpu()
        record = load(self.port, requests, job.callers, phase.seconds, len(addresses) if phase.name == "warm" else 1)
        after = self.cpu()
        record.cpu_user, record.cpu_system = (late - early for early, late in zip(before, after, strict=True))
        return record

    def _ask(self, command: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{CONTROL}{command}", timeout=PATIENCE) as response:
            return json.load(response)


def request(address: str) -> bytes:
    """Return a client's request, as it leaves a load balancer."""
    return f"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: {address}\r\n\r\n".encode()


def command(port: int) -> list[str]:
    """Return the command that serves the application."""
    return [sys.executable, *GUNICORN, "--bind", f"127.0.0.1:{port}", "benchmarks.web_app:application"]


def main(arguments: Iterable[str]) -> int:
    """Measure one job; return the exit status."""
    text, warm_up = arguments
    os.environ[JOB_VARIABLE] = text
    job = Job(**json.loads(text))
    server = ServerProcess("gunicorn", command)
    try:
        application = Application(int(server.endpoint_url.rpartition(":")[2]))
        measurement = Measurement(job, float(warm_up), application)
        for phase in measurement.phases():
            phase.record = application.drive(job, phase)
            measurement.check_transport(application)
    finally:
        server.stop()
    print(json.dumps(measurement.figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
