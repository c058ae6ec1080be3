"""Processes that tests start, each with a time limit, in a process group that is always ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from support import engines
from support.engines import STOP_TIMEOUT, accepts, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

T = TypeVar("T")
FOLDER = Path(__file__).parent
PATIENCE = 90.0
"""Seconds that any step may take on a machine that stalls. Being faster proves nothing."""


def start(arguments: Sequence[str], environment: Mapping[str, str], **options: Any) -> subprocess.Popen[Any]:
    """Start Python with the arguments, in its own process group; a script's name means one of this folder."""
    command = [str(FOLDER / each) if each.endswith(".py") and "/" not in each else each for each in arguments]
    # Warnings settings of pytest are not for other processes.
    inherited = {name: value for name, value in os.environ.items() if name not in {"PYTHONWARNINGS", "PYTHONPATH"}}
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", *command], env=inherited | environment, start_new_session=True, **options
    )


def end(process: subprocess.Popen[Any]) -> None:
    """End the process and everything that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Script:
    """A script that has run to its end: its exit status, its output, and the JSON in the last line of that."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], timeout: float) -> None:
        process = start(arguments, environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            self.output, self.errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGABRT)  # faulthandler prints where it hangs.
            with contextlib.suppress(subprocess.TimeoutExpired):
                _, errors = process.communicate(timeout=5)
                pytest.fail(f"{arguments[0]} was still running after {timeout} s:\n{errors[-4000:]}")
            pytest.fail(f"{arguments[0]} was still running after {timeout} s")
        finally:
            end(process)
        self.status = process.returncode

    @property
    def result(self) -> Any:
        """What the script reports; the test fails if the script failed."""
        if self.status != 0:
            pytest.fail(f"exit status {self.status}:\n{self.output[-1000:]}\n{self.errors[-4000:]}")
        return json.loads(self.output.splitlines()[-1])


class Server:
    """A server on a free loopback port, `{port}` in its arguments; a supervisor ends it when this process is gone."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        self.port = free_port()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process runs
        command = [sys.executable, "-X", "faulthandler", *(each.replace("{port}", str(self.port)) for each in arguments)]
        supervised = [engines.__file__, *command]
        self._process = start(supervised, environment, stdin=subprocess.PIPE, stdout=self._log, stderr=subprocess.STDOUT)

    def wait_until_ready(self) -> None:
        """Wait until it accepts connections; the test fails if it ends instead."""
        wait_until(lambda: self._process.poll() is not None or accepts(self.port))
        if not accepts(self.port):
            self.stop()
            pytest.fail(f"the server did not start: {self.log}")

    @property
    def log(self) -> str:
        """What it has printed."""
        if self._log.closed:
            return self._last
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def stop(self) -> None:
        """Stop it as its operator would, by force if necessary."""
        if self._log.closed:
            return
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT)
        end(self._process)
        self._last = self.log
        self._log.close()

    def call(
        self, path: str, method: str = "GET", *, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], Any]:
        """Make one request; return status, headers by lower-case name, and the response's JSON, or else its text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json", **(headers or {})})
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        names = {name.lower(): value for name, value in response.getheaders()}
        with contextlib.suppress(ValueError):
            return response.status, names, json.loads(text)
        return response.status, names, text

    def call_all(self, paths: Iterable[str]) -> list[tuple[int, dict[str, str], Any]]:
        """Make many requests at once, each on a connection of its own."""
        return at_once([partial(self.call, path) for path in paths])


def at_once(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Make all calls at the same time, each in a thread of its own."""
    ready = threading.Barrier(len(calls))

    def make(call: Callable[[], T]) -> T:
        ready.wait(PATIENCE)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(make, calls))


class Proxy:
    """A running `latency_proxy.py`."""

    def __init__(self, target: int, latency: float, certificate: tuple[Path, Path] | None) -> None:
        files = [str(path) for path in certificate or ()]
        arguments = ["latency_proxy.py", str(target), str(latency), *files]
        self._process = start(arguments, {}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        port = self._read()
        if not port:
            end(self._process)
            pytest.fail("the proxy did not start")
        self.endpoint_url = f"{'https' if files else 'http'}://127.0.0.1:{port}"
        self.environment = {"ENDPOINT": self.endpoint_url} | ({"AWS_CA_BUNDLE": files[0]} if files else {})

    def _read(self) -> str:
        assert self._process.stdout is not None
        line: str = self._process.stdout.readline().strip()
        return line

    def count(self) -> dict[str, int]:
        """Return the counts since the last look; see `latency_proxy.Count`."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        counted: dict[str, int] = json.loads(self._read())
        return counted

    def stop(self) -> None:
        """Stop it and wait for its end."""
        end(self._process)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
