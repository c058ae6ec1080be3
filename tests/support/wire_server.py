"""A server on a loopback port that responds byte for byte as a test says, and keeps its requests."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable

EMPTY = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: 2\r\nx-amz-crc32: 2745614147\r\n\r\n{}"
"""The response to a GetItem of an item that does not exist."""
CLOSE = b""
"""In place of a response: the connection is closed."""


class Received(NamedTuple):
    """One request."""

    line: str
    headers: dict[str, str]
    body: bytes


class WireServer:
    """Responds with `answers` in their order, and with `EMPTY` when none are left.

    A response is bytes, several pieces of bytes of which `CLOSE` closes the connection, or a function of the request.
    """

    def __init__(self) -> None:
        self.answers: list[bytes | list[bytes] | Callable[[Received], bytes]] = []
        self.received: list[Received] = []
        self.accepted = 0
        self.closed = 0
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.endpoint_url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close the port and every connection."""
        # The thread that accepts is woken by a connection, since closing alone does not everywhere.
        port, self.port = self.port, 0
        with socket.create_connection(("127.0.0.1", port)):
            self._thread.join()
        self._listening.close()
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            if not self.port:
                connection.close()
                return
            self.accepted += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                while (request := _request(stream)) is not None:
                    self.received.append(request)
                    answer = self.answers.pop(0) if self.answers else EMPTY
                    pieces = answer(request) if callable(answer) else answer
                    for piece in [pieces] if isinstance(pieces, bytes) else pieces:
                        if piece == CLOSE:
                            return
                        connection.sendall(piece)
        except (OSError, ValueError):
            pass
        finally:
            self.closed += 1


def _request(stream: object) -> Received | None:
    line = stream.readline().decode("latin-1").strip()  # type: ignore[attr-defined] # a file of bytes
    headers: dict[str, str] = {}
    while header := stream.readline().decode("latin-1").strip():  # type: ignore[attr-defined]
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    return Received(line, headers, stream.read(int(headers["content-length"]))) if line else None  # type: ignore[attr-defined]
