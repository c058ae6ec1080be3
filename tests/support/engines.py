"""The engines that tests run on, started on first use, each in a process of its own, and surely stopped.

Run as a script, this file keeps one engine's server until its standard input ends:

    python tests/support/engines.py COMMAND [ARGUMENT ...]
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("LIMITER_ENGINES") or ROOT / ".engines").resolve()
START_TIMEOUT = 60.0
STOP_TIMEOUT = 10.0
INSTALL_ENGINES = "run `make engines`"
INSTALL_MOTO = 'run `pip install "dynamodb-limiter[local]"`'


@functools.cache
def plain_client(endpoint_url: str) -> Any:
    """Return a boto3 client for setting up, made once for each engine, since making one takes longer than most tests."""
    import boto3

    return boto3.client("dynamodb", endpoint_url=endpoint_url)


@dataclass(frozen=True, slots=True)
class Engine:
    """One store that a test runs on.

    `endpoint_url` is None for memory, which lives in the test's process. `atomic` says whether a race lost on it would
    be the limiter's fault, so that it can serve as a proof.
    """

    name: str
    endpoint_url: str | None
    atomic: bool

    def __str__(self) -> str:
        return self.name


class Running(Protocol):
    """A server that was started."""

    endpoint_url: str

    def stop(self) -> None:
        """Stop it and wait for its end."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to find and start one engine; `absence` returns why it is not available and the remedy, or None."""

    absence: Callable[[], str | None]
    start: Callable[[], Running] | None
    atomic: bool


class ServerProcess:
    """A server program on a free loopback port, kept by a supervisor that ends it when this process is gone."""

    def __init__(self, name: str, command: Callable[[int], list[str]]) -> None:
        port = free_port()
        self.name = name
        self.endpoint_url = f"http://127.0.0.1:{port}"
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process runs
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, *command(port)],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        try:
            self._wait_until_ready(port)
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self, port: int) -> None:
        wait_until(lambda: self._process.poll() is not None or accepts(port))
        if not accepts(port):
            raise RuntimeError(f"engine {self.name} did not start: {self._read_log()}")

    def _read_log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace").strip()[-2000:]

    def stop(self) -> None:
        """Stop the supervisor, and with it the server, and wait for both."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(2 * STOP_TIMEOUT)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._log.close()


def free_port() -> int:
    """Return a loopback port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def accepts(port: int) -> bool:
    """Tell whether anything listens on a loopback port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False


def port_of(endpoint_url: str) -> int:
    """Return the port in an endpoint's URL."""
    return int(endpoint_url.rpartition(":")[2])


def wait_until(condition: Callable[[], bool], timeout: float = START_TIMEOUT) -> bool:
    """Wait for a condition outside this process; tell whether it came true in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def dynoxide_binary() -> Path | None:
    """Return the path of the installed dynoxide, or None."""
    found = (CACHE / "dynoxide").glob("node_modules/@dynoxide/*/dynoxide")
    return next((path for path in found if os.access(path, os.X_OK)), None)


def dynoxide_absence() -> str | None:
    """Return why dynoxide cannot run, or None."""
    return None if dynoxide_binary() else f"not installed; {INSTALL_ENGINES}"


def start_dynoxide() -> Running:
    """Start dynoxide, in memory."""
    binary = str(dynoxide_binary())
    return ServerProcess("dynoxide", lambda port: [binary, "serve", "--host", "127.0.0.1", "--port", str(port)])


def dynamodb_local_absence() -> str | None:
    """Return why DynamoDB Local cannot run, or None."""
    if shutil.which("java") is None:
        return f"no java on PATH; install a Java 17 runtime and {INSTALL_ENGINES}"
    jar = next((CACHE / "dynamodb-local").glob("lib/DynamoDBLocal-*.jar"), None)
    return None if jar else f"not installed; {INSTALL_ENGINES}"


def start_dynamodb_local() -> Running:
    """Start DynamoDB Local, in memory, one database for every key and region, without telemetry."""
    library = CACHE / "dynamodb-local" / "lib"
    # The native SQLite library carries its version in its file name, which only sqlite4java's own setting finds.
    native = f"-Dsqlite4java.library.path={library}"
    # It lives for some minutes, in which compiling its code further takes more of a processor than it saves.
    java = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", native, "-cp", f"{library}/*"]
    main = "software.amazon.dynamodb.services.local.main.ServerRunner"
    flags = ["-inMemory", "-sharedDb", "-disableTelemetry", "-port"]
    return ServerProcess("dynamodb-local", lambda port: [*java, main, *flags, str(port)])


def moto_absence() -> str | None:
    """Return why the embedded engine cannot run, or None."""
    missing = [name for name in ("moto", "flask") if importlib.util.find_spec(name) is None]
    return f"{', '.join(missing)} not installed; {INSTALL_MOTO}" if missing else None


def start_moto() -> Running:
    """Start the embedded engine."""
    from limiter.local import LocalEngine

    engine = LocalEngine()
    engine.start()
    return engine


RECIPES = {
    "memory": Recipe(lambda: None, None, atomic=True),
    # Its lock makes it exact, but proves nothing: the lock is this project's.
    "moto": Recipe(moto_absence, start_moto, atomic=False),
    "dynoxide": Recipe(dynoxide_absence, start_dynoxide, atomic=True),
    "dynamodb-local": Recipe(dynamodb_local_absence, start_dynamodb_local, atomic=True),
}
ENGINE_NAMES = tuple(RECIPES)
SERVER_NAMES = tuple(name for name, recipe in RECIPES.items() if recipe.start)
ATOMIC_NAMES = tuple(name for name in SERVER_NAMES if RECIPES[name].atomic)


class Engines:
    """The engines of one test session."""

    def __init__(self) -> None:
        self._running: dict[str, Running] = {}
        self._failures: dict[str, Exception] = {}

    def get(self, name: str) -> Engine:
        """Return the engine of that name, started on first use; one that failed to start once fails every time."""
        recipe = RECIPES[name]
        if recipe.start is None:
            return Engine(name, None, recipe.atomic)
        if name in self._failures:
            raise self._failures[name]
        if name not in self._running:
            try:
                self._running[name] = recipe.start()
            except Exception as error:
                self._failures[name] = error
                raise
        return Engine(name, self._running[name].endpoint_url, recipe.atomic)

    def stop(self) -> None:
        """Stop every engine that was started; then raise the first failure."""
        with contextlib.ExitStack() as stack:
            while self._running:
                stack.callback(self._running.popitem()[1].stop)


class FakeClock:
    """A clock that moves only when told: nanoseconds since the epoch, from 2027-01-15T08:00:00Z."""

    START_NS = 1_800_000_000 * 1_000_000_000

    def __init__(self, now_ns: int = START_NS) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def __repr__(self) -> str:
        return f"FakeClock({self.now_ns})"

    def advance(self, seconds: float) -> None:
        """Move forward, or back if negative."""
        self.now_ns += round(seconds * 1_000_000_000)


def supervise(command: list[str]) -> int:
    """Run a command until it ends or standard input does, whichever comes first."""
    # Ctrl-C reaches the whole group; the session decides when its engines stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=stop_at_end_of_input, args=[process], daemon=True).start()
    return process.wait()


def stop_at_end_of_input(process: subprocess.Popen[bytes]) -> None:
    """Stop a process when standard input ends, by force if necessary."""
    while os.read(0, 1024):
        pass
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT)
    process.kill()


if __name__ == "__main__":
    sys.exit(supervise(sys.argv[1:]))
