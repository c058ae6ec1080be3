"""A proxy on a loopback port that records its requests, byte for byte."""

from __future__ import annotations

import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple, Self
from urllib.parse import urlsplit


class Sent(NamedTuple):
    """One request as it came over the wire."""

    path: str
    target: str
    content_type: str
    body: bytes


class RecordingProxy:
    """Passes requests on to an engine, and keeps them in the order in which they came."""

    def __init__(self, endpoint_url: str) -> None:
        self.sent: list[Sent] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(urlsplit(endpoint_url).netloc))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def endpoint_url(self) -> str:
        """The URL to send to."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def take(self) -> list[Sent]:
        """Return what was sent since the last look."""
        sent, self.sent = self.sent, []
        return sent

    def _handler(self, engine: str) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                proxy.sent.append(Sent(self.path, self.headers["X-Amz-Target"], self.headers["Content-Type"], body))
                connection = http.client.HTTPConnection(engine, timeout=30)
                connection.request("POST", self.path, body, dict(self.headers.items()))
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.getheader("Content-Type") or "application/x-amz-json-1.0")
                self.send_header("Content-Length", str(len(content)))
                for name in ("x-amzn-RequestId", "x-amz-crc32"):
                    if (value := answer.getheader(name)) is not None:
                        self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as it is inherited
                pass

        return Handler
