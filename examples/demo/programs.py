"""Starts the demo's programs, sends requests to the WSGI application, reads the client's reports, and stops everything."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from verdict import Tally

HERE = Path(__file__).parent
WORKERS = 2
START_TIMEOUT = 60.0
STOP_TIMEOUT = 8.0
ANSWER_TIMEOUT = 15.0
ASKERS = 6
PAUSE = 0.12
LOOPBACK = "127.0.0.1"


class DemoFailed(Exception):
    """A program failed; the message says which and why."""


class Program:
    """A program of the demo, in its own process group, which also ends when its standard input does."""

    def __init__(self, name: str, *arguments: str, output: int | None = None, pass_fds: tuple[int, ...] = ()) -> None:
        self.name = name
        self.log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process runs
        self.process = subprocess.Popen(  # noqa: S603 - this interpreter and the demo's own files
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=output or self.log,
            stderr=self.log,
            cwd=HERE,
            pass_fds=pass_fds,
            start_new_session=True,
        )

    def check(self) -> None:
        """Raise `DemoFailed` when the program has ended."""
        if self.process.poll() is not None:
            self.log.seek(0)
            words = self.log.read().decode(errors="replace").strip()[-2000:]
            raise DemoFailed(f"{self.name} ended with status {self.process.returncode}: {words or 'it said nothing'}")

    def finish(self) -> None:
        """End the program's standard input and wait until it has finished its work."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self.process.terminate()
            self.finish()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # The rest of the group.
            self.process.wait()
        for stream in (self.process.stdout, self.log):
            if stream is not None:
                stream.close()


class Server(Program):
    """The WSGI application under gunicorn, on a port that it inherits."""

    def __init__(self) -> None:
        with socket.create_server((LOOPBACK, 0), backlog=128) as listener:
            self.port: int = listener.getsockname()[1]
            fd = listener.fileno()
            super().__init__("gunicorn", "-m", "gunicorn", "--bind", f"fd://{fd}", "app:application", pass_fds=(fd,))

    def wait_until_ready(self) -> None:
        """Wait until every worker has responded, and so has opened its connection to the table."""
        seen: set[int] = set()

        def probe() -> None:
            while len(seen) < WORKERS and time.monotonic() < deadline and self.process.poll() is None:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    status, body = self.ask("/ready")
                    if status == http.client.OK:
                        seen.add(body["worker"])

        deadline = time.monotonic() + START_TIMEOUT
        threads = [threading.Thread(target=probe, daemon=True) for _ in range(ASKERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.check()
        if len(seen) < WORKERS:
            raise DemoFailed(f"{len(seen)} of {WORKERS} gunicorn workers answered within {START_TIMEOUT:.0f} s")

    def ask(self, path: str) -> tuple[int, dict[str, Any]]:
        """Make one request on a new connection, so that the workers share them."""
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=ANSWER_TIMEOUT)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()


class Load:
    """Threads that send requests to the WSGI application until the end of a `with` block, and count its responses by worker."""

    def __init__(self, server: Server, tally: Callable[[str], Tally]) -> None:
        self._server = server
        self._tally = tally
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask_again_and_again, daemon=True) for _ in range(ASKERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        if error is None:
            for thread in self._threads:
                thread.join()

    def _ask_again_and_again(self) -> None:
        while not self._ended.is_set():
            try:
                status, body = self._server.ask("/")
            except (OSError, http.client.HTTPException, ValueError):
                status, body = 0, {}
            with self._lock:
                self._count(status, body)
            self._ended.wait(PAUSE * random.uniform(0.5, 1.5))  # noqa: S311 - keeps the threads out of step

    def _count(self, status: int, body: dict[str, Any]) -> None:
        worker = body.get("worker")
        tally = self._tally(f"WSGI application, worker {worker}" if worker else "WSGI application")
        if status == http.client.OK:
            tally.admit(body["answered"])
        elif status == http.client.TOO_MANY_REQUESTS:
            tally.refused += 1
        else:
            tally.failed += 1


class Client(Program):
    """The asyncio program, and a thread that counts what it reports."""

    def __init__(self, tally: Callable[[str], Tally]) -> None:
        super().__init__("the asyncio client", "client.py", output=subprocess.PIPE)
        self._tally = tally
        self._ready = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def wait_until_ready(self) -> None:
        """Wait until the client is connected."""
        deadline = time.monotonic() + START_TIMEOUT
        while not self._ready.wait(0.05):
            self.check()
            if time.monotonic() > deadline:
                raise DemoFailed(f"the asyncio client was not ready within {START_TIMEOUT:.0f} s")

    def begin(self) -> None:
        """Let the client begin."""
        assert self.process.stdin is not None  # noqa: S101 - opened as a pipe
        self.process.stdin.write(b"begin\n")
        self.process.stdin.flush()

    def finish(self) -> None:
        """Also wait until everything that it reported is counted."""
        super().finish()
        self._listener.join(STOP_TIMEOUT)

    def _listen(self) -> None:
        assert self.process.stdout is not None  # noqa: S101 - opened as a pipe
        for line in self.process.stdout:
            decision = json.loads(line)
            if decision["outcome"] == "ready":
                self._ready.set()
                continue
            tally = self._tally("asyncio client")
            if decision["outcome"] == "admitted":
                tally.admit(decision["answered"])
            elif decision["outcome"] == "refused":
                tally.refused += 1
            else:
                tally.failed += 1
