"""The embedded engine: a moto server behind one lock, on the loopback interface, for experiments and tests.

Moto's DynamoDB is not atomic: of 1,600 increments by eight processes, some are lost. One lock around the whole application makes
every request atomic. The engine keeps its data in memory, checks no credentials and throttles nothing; do not use it as a
database. Moto is imported when an engine starts, not with this module.

Every response carries the header `x-limiter-engine: embedded`, so that tools can say which parts of AWS are only imitated.
"""

from __future__ import annotations

import html
import http.client
import importlib.util
import io
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from socketserver import TCPServer, ThreadingMixIn
from typing import IO, TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from .exceptions import ConfigurationError, LimiterError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from wsgiref.types import WSGIApplication, WSGIEnvironment

__all__ = ["LocalEngine", "serve"]

INSTALL_HINT = 'the embedded engine needs moto: pip install "dynamodb-limiter[local]"'
LOOPBACK = "127.0.0.1"
START_TIMEOUT = 60.0
STOP_TIMEOUT = 5.0
ENGINE_HEADER, ENGINE_NAME = "x-limiter-engine", "embedded"
FORM = "application/x-www-form-urlencoded"
"""The content type of requests in AWS's query protocol, which are answered with XML: CloudFormation, IAM, STS, SNS."""

Response = tuple[int, str, list[tuple[str, str]], bytes]


def serve(host: str = LOOPBACK, port: int = 0, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve until interrupted; port 0 takes a free one.

    `on_ready` is called with the endpoint's URL once the engine responds, and may already use it. Raises `LimiterError`
    when the port is not available, and its subclass `ConfigurationError` when moto is not installed. The engine checks no
    credentials: do not bind a public address.
    """
    with _bind(host, port) as server:
        thread = threading.Thread(target=server.serve_forever, name="limiter-local", daemon=True)
        thread.start()
        try:
            if on_ready is not None:
                on_ready(f"http://{host}:{server.server_port}")
            thread.join()
        finally:
            server.shutdown()


def _bind(host: str, port: int) -> _Server:
    application = _moto_application()
    try:
        return _Server(host, port, application)
    except (OSError, OverflowError) as error:
        raise LimiterError(
            f"cannot listen on {host}:{port} ({error}); stop the program that uses the port or choose another one"
        ) from error


def _moto_application() -> WSGIApplication:
    try:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    except ImportError as error:
        raise ConfigurationError(f"{INSTALL_HINT} ({error})") from error
    application: WSGIApplication = DomainDispatcherApplication(create_backend_app)
    return application


class _Server(ThreadingMixIn, WSGIServer):
    """A threaded WSGI server whose application handles one request at a time."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, host: str, port: int, application: WSGIApplication) -> None:
        self._lock = threading.Lock()
        super().__init__((host, port), _Handler)
        self.set_app(application)

    def server_bind(self) -> None:
        # The inherited method looks up the name of the host, which can take seconds.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def respond(self, environ: WSGIEnvironment) -> Response:
        """Return the response of the application, or an error response when it fails."""
        application = self.get_app()
        assert application is not None  # noqa: S101 - set in __init__
        with self._lock:
            try:
                return _run(application, environ)
            except Exception as error:  # the client gets a response for every error of moto
                return _failure(environ, error)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that close their connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _failure(environ: WSGIEnvironment, error: Exception) -> Response:
    """Return the response for a request that moto does not imitate or fails on; the clients of AWS repeat a 500, not a 400."""
    if environ.get("CONTENT_TYPE", "").startswith(FORM):
        environ["wsgi.input"].seek(0)
        action = parse_qs(environ["wsgi.input"].read().decode(errors="replace")).get("Action", ["this request"])[0]
        text = f"the embedded engine does not imitate {action} for this stack ({type(error).__name__}: {error})"
        code = f"<Error><Type>Sender</Type><Code>NotImitated</Code><Message>{html.escape(text)}</Message></Error>"
        return 400, "Bad Request", [("Content-Type", "text/xml")], f"<ErrorResponse>{code}</ErrorResponse>".encode()
    body = {"__type": "InternalFailure", "message": "".join(traceback.format_exception(error))}
    return 500, "Internal Server Error", [("Content-Type", "application/json")], json.dumps(body).encode()


def _run(application: WSGIApplication, environ: WSGIEnvironment) -> Response:
    head: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _error: object = None) -> Callable[[bytes], object]:
        head[:] = [(status, headers)]
        return written.append

    written: list[bytes] = []
    chunks = application(environ, start_response)
    try:
        written.extend(chunks)
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
    (status, headers), body = head[0], b"".join(written)
    code, _, reason = status.partition(" ")
    return int(code), reason, headers, body


class _Handler(WSGIRequestHandler):
    """Keeps connections open between requests, unlike the handlers of werkzeug and wsgiref."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def handle(self) -> None:
        # As in http.server; the inherited method closes the connection after one request.
        self.close_connection = True
        self.handle_one_request()
        while not self.close_connection:
            self.handle_one_request()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._do
        raise AttributeError(name)

    def _do(self) -> None:
        environ = self.get_environ()
        body = self.rfile.read(int(environ.get("CONTENT_LENGTH") or 0))
        environ |= {"wsgi.input": io.BytesIO(body), "wsgi.errors": sys.stderr, "wsgi.url_scheme": "http"}
        environ |= {"wsgi.version": (1, 0), "wsgi.run_once": False}
        environ |= {"wsgi.multithread": True, "wsgi.multiprocess": False}
        code, reason, headers, answer = self.server.respond(environ)
        self.send_response_only(code, reason)
        for name, value in headers:
            if name.lower() not in {"connection", "content-length", "transfer-encoding"}:
                self.send_header(name, value)
        self.send_header(ENGINE_HEADER, ENGINE_NAME)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the inherited name
        """Log nothing."""


class LocalEngine:
    """Runs an embedded engine in a separate process, for the length of a `with` block.

    The engine is independent of the caller's monkey-patching and interpreter lock. It stops at the end of the block, and by
    itself when the process that started it has ended. `port` 0 takes a free port; `start_timeout` is in seconds.
    """

    def __init__(self, *, port: int = 0, start_timeout: float = START_TIMEOUT) -> None:
        self._port = port
        self._start_timeout = start_timeout
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[bytes] | None = None
        self._endpoint_url: str | None = None

    def __repr__(self) -> str:
        return f"LocalEngine({self._endpoint_url or 'not running'})"

    @property
    def endpoint_url(self) -> str:
        """The URL of the engine, such as http://127.0.0.1:49152; raises `LimiterError` when it is not running."""
        if self._endpoint_url is None:
            raise LimiterError("this LocalEngine is not running; use it in a `with` block or call start()")
        return self._endpoint_url

    def start(self) -> None:
        """Start the engine and wait until it responds; does nothing when it runs. Raises `LimiterError` when it cannot start."""
        if self._process is not None:
            return
        if importlib.util.find_spec("moto") is None:
            raise ConfigurationError(INSTALL_HINT)
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process runs
        # -P: modules in the working directory must not shadow those that the engine imports.
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter and this module
            [sys.executable, "-P", "-m", "limiter.local", str(self._port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        try:
            self._endpoint_url = self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self, process: subprocess.Popen[str]) -> str:
        output = process.stdout
        assert output is not None  # noqa: S101 - opened as a pipe
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda: lines.put(output.readline()), daemon=True).start()
        try:
            line = lines.get(timeout=self._start_timeout).strip()
        except queue.Empty:
            raise LimiterError(f"the embedded engine did not start within {self._start_timeout} s") from None
        if not line:
            raise LimiterError(f"the embedded engine did not start: {self._read_errors()}")
        return line

    def _read_errors(self) -> str:
        assert self._errors is not None  # noqa: S101 - set before the process
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()[-2000:]

    def stop(self) -> None:
        """Stop the engine, by force after a few seconds; does nothing when it does not run."""
        process, self._process, self._endpoint_url = self._process, None, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, self._errors):
            if stream is not None:
                stream.close()

    def reset(self) -> None:
        """Delete every table and item."""
        address = self.endpoint_url.removeprefix("http://")
        connection = http.client.HTTPConnection(address, timeout=STOP_TIMEOUT)
        try:
            connection.request("POST", "/moto-api/reset")
            status = connection.getresponse().status
        finally:
            connection.close()
        if status != http.client.OK:
            raise LimiterError(f"the embedded engine at {self.endpoint_url} responded to a reset with status {status}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def _serve_for_parent(port: int) -> None:
    """Serve as the child of a `LocalEngine`: report the endpoint on standard output, end when standard input is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent decides
    threading.Thread(target=_exit_with_pipe, daemon=True).start()
    if os.name == "posix":
        threading.Thread(target=_exit_with_parent, args=[os.getppid()], daemon=True).start()
    try:
        serve(port=port, on_ready=_report)
    except LimiterError as error:
        sys.exit(str(error))


def _report(endpoint_url: str) -> None:
    print(endpoint_url, flush=True)  # noqa: T201 - the message to the parent
    os.dup2(2, 1)  # standard output is not read any more, and moto's prints must not fill the pipe


def _exit_with_pipe() -> None:
    while os.read(0, 1024):
        pass
    os._exit(0)


def _exit_with_parent(parent: int) -> None:
    # Forks of the parent can keep the pipe open after the parent has ended.
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(0)


if __name__ == "__main__":
    _serve_for_parent(int(sys.argv[1]))
