# twin: ../sync/test_deadlines.py
"""A call is given up in time, however its answer comes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from limiter import RateLimiterUnavailable, Repository
from limiter.core.records import BucketKey
from limiter.core.state import EMPTY
from limiter.runtime.concurrency import gather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: 2\r\n"
ANSWERS = {"head": HEAD, "body": HEAD.replace(b"2\r\n", b"200\r\n\r\n")}
KEY = BucketKey("default", "user", "api")
PIECE, ENDLESS = 0.2, 30.0


class Server:
    """Answers every request piece by piece, with a pause after each, and then, if endless, letter by letter."""

    def __init__(self, pieces: list[bytes], pause: float, *, endless: bool) -> None:
        self.pieces, self.pause, self.endless = pieces, pause, endless
        self.ended = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.threads = [threading.Thread(target=self.accept, daemon=True)]
        self.threads[0].start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.threads.append(threading.Thread(target=self.serve, args=(connection,), daemon=True))
                self.threads[-1].start()

    def serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(ENDLESS)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while connection.recv(65536):
                for piece in self.pieces:
                    connection.sendall(piece)
                    self.ended.wait(self.pause)
                end = time.monotonic() + ENDLESS
                while self.endless and time.monotonic() < end and not self.ended.wait(PIECE):
                    connection.sendall(b"x")

    def stop(self) -> None:
        self.ended.set()
        # Closing alone would not wake up the thread that accepts.
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers, and stops them."""
    started: list[Server] = []

    def start(pieces: list[bytes], pause: float = 0.0, *, endless: bool = False) -> Server:
        started.append(Server(pieces, pause, endless=endless))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.mark.parametrize("part", ANSWERS)
async def test_an_answer_that_trickles_is_given_up_in_time(part: str, serve: Callable[..., Server]) -> None:
    """Pieces that come one after another, each well within the read timeout, do not make a call longer than about that."""
    server = serve([ANSWERS[part]], endless=True)
    repository = Repository("my-app", endpoint_url=server.url, connect_timeout=0.5, read_timeout=1.0)
    start = time.monotonic()
    with pytest.raises(RateLimiterUnavailable, match="no response") as error:
        await repository.read_bucket(KEY)
    assert time.monotonic() - start < ENDLESS / 2
    assert not error.value.unsent
    await repository.close()


async def test_an_answer_that_comes_in_pieces_is_read_whole(serve: Callable[..., Server]) -> None:
    """A response that arrives in pieces, and in time, is read in full, and its connection is kept."""
    answer = HEAD + b"\r\n{}"
    server = serve([answer[place : place + 40] for place in range(0, len(answer), 40)], pause=0.01)
    repository = Repository("my-app", endpoint_url=server.url, connect_timeout=30.0, read_timeout=30.0)
    for _ in range(3):
        assert await repository.read_bucket(KEY) == EMPTY
    assert len(server.threads) == 2
    await repository.close()


async def test_queueing_behind_ones_own_calls_does_not_count(serve: Callable[..., Server]) -> None:
    """Calls at once that are more than the connections are all answered, however long the last one has to wait for its turn."""
    server = serve([b"", HEAD + b"\r\n{}"], pause=0.4)
    repository = Repository("my-app", endpoint_url=server.url, max_connections=1, connect_timeout=0.5, read_timeout=2.0)
    assert await gather([partial(repository.read_bucket, KEY)] * 6) == [EMPTY] * 6
    await repository.close()
