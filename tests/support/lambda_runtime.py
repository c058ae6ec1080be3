"""A server that speaks the Runtime API of AWS Lambda to one process of awslambdaric, and freezes that process.

with Environment("sync_handler", {"STACK": table, ...}) as function:
    answer = function.invoke(["consume", "slow", 1])
"""

from __future__ import annotations

import json
import os
import queue
import signal
import struct
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

from support.processes import FOLDER, PATIENCE, end, start

if TYPE_CHECKING:
    from collections.abc import Mapping

RUN, SHARE = 0.005, 14
"""A function with 128 MB has a fourteenth of a CPU: it runs for 5 ms, and then rests for 13 times as long as it has run."""


def _ignore(*_: object) -> None:
    """Print nothing."""


class Environment:
    """One execution environment. It is frozen, as Lambda does, whenever no invocation runs.

    A machine that is frozen as a whole has a monotonic time that stands still (`stops_time`). That of a stopped process goes on.
    """

    def __init__(self, handler: str, environment: Mapping[str, str], *, stops_time: bool = False) -> None:
        self._events: queue.Queue[bytes] = queue.Queue()
        self._answers: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._requests())
        self._server.daemon_threads = True
        self._server.handle_error = _ignore  # type: ignore[method-assign] # the process is killed with its connection open
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process runs
        self._stopped = tempfile.NamedTemporaryFile()  # noqa: SIM115 - as the log
        self._frozen, self._since = 0.0, time.monotonic()
        self._tell()
        own = {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}", "LAMBDA_TASK_ROOT": str(FOLDER)}
        own |= {"STOPPED": self._stopped.name} if stops_time else {}
        arguments = ["-m", "awslambdaric", f"lambda_functions.{handler}"]
        path = os.pathsep.join([str(FOLDER), str(FOLDER.parent.parent / "src")])
        self._process = start(arguments, {**environment, **own, "PYTHONPATH": path}, stderr=self._log, stdout=self._log)
        self._is_frozen = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        end(self._process)
        self._server.shutdown()
        self._server.server_close()
        self._log.close()
        self._stopped.close()

    def invoke(self, *steps: list[Any], slowly: bool = False) -> Any:
        """Thaw the process, let it carry out the steps, freeze it again, and return its answer. `slowly` limits its CPU."""
        self._events.put(json.dumps(steps).encode())
        self._thaw()
        deadline = time.monotonic() + PATIENCE
        while self._process.poll() is None and time.monotonic() < deadline:
            began = time.monotonic()
            try:
                kind, answer = self._answers.get(timeout=RUN if slowly else 1.0)
            except queue.Empty:
                if slowly:
                    self._rest(began)
                continue
            self._freeze()
            assert kind == "response", answer
            return answer
        raise AssertionError(self.log)

    def _freeze(self) -> None:
        self._stop()
        self._since, self._is_frozen = time.monotonic(), True

    def _thaw(self) -> None:
        if self._is_frozen:
            self._frozen += time.monotonic() - self._since
            self._tell()
        self._go_on()

    def _tell(self) -> None:
        """Tell the process for how long it was frozen."""
        os.pwrite(self._stopped.fileno(), struct.pack("d", self._frozen), 0)

    def _stop(self) -> None:
        """Stop the process between two instructions, and return when it has stopped."""
        os.killpg(self._process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def _go_on(self) -> None:
        os.killpg(self._process.pid, signal.SIGCONT)

    def _rest(self, began: float) -> None:
        """Let no CPU to a process that has run since `began`, for as long as its share demands."""
        self._stop()
        time.sleep((SHARE - 1) * (time.monotonic() - began))
        self._go_on()

    @property
    def log(self) -> str:
        """What the process has printed."""
        return os.pread(self._log.fileno(), 1 << 20, 0).decode(errors="replace")

    def _requests(self) -> type[BaseHTTPRequestHandler]:
        events, answers = self._events, self._answers

        class Requests(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                event = events.get()
                self.send_response(200)
                self.send_header("Lambda-Runtime-Aws-Request-Id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
                self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + PATIENCE) * 1000)))
                self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:us-east-1:123456789012:function:test")
                self.send_header("Lambda-Runtime-Trace-Id", "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Sampled=0")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(event)))
                self.end_headers()
                self.wfile.write(event)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()
                answers.put((self.path.rsplit("/", 1)[-1], json.loads(body)))

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        return Requests
