"""A proxy on loopback that serves a key like DynamoDB: so many write units a second, and some milliseconds a call.

    python -I -S heat_server.py PORT UPSTREAM UNITS SHORTEST LONGEST

`PORT` takes orders: each line is answered by a line of JSON, the counts since the line before, and the port to send requests
to. Every UpdateItem spends one write unit of its partition key, whether its condition holds or not; a call that finds none is
answered by the error of a hot key. A key saves the units of a tenth of a second. A call takes SHORTEST to LONGEST seconds, half
of it before the engine gets it. Units of the other calls are not counted. UNITS scales a key down: a key of 200 units a second
serves a fifth of the processes that a key of DynamoDB serves, and this machine can run them.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from dataclasses import asdict, dataclass, field
from time import monotonic

SAVED_SECONDS = 0.1
HOT = {
    "__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
    "message": "Throughput exceeds the current capacity of a key.",
    "ThrottlingReasons": [{"reason": "TableWriteKeyRangeThroughputExceeded", "resource": "a key"}],
}


@dataclass
class Counts:
    """Calls by action, the writes that a key had units for, those that were throttled."""

    port: int
    seconds: float = 0.0
    calls: dict[str, int] = field(default_factory=dict)
    written: int = 0
    throttled: int = 0


class Key:
    """The write units that one partition key has left."""

    def __init__(self, units: float) -> None:
        self._rate = units
        self._left = units * SAVED_SECONDS
        self._counted = monotonic()

    def spend(self) -> bool:
        """Take one write unit, if there is one."""
        now = monotonic()
        self._left = min(self._rate * SAVED_SECONDS, self._left + (now - self._counted) * self._rate)
        self._counted = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Table:
    """Passes calls on to the engine, as fast as their keys permit."""

    def __init__(self, upstream: int, units: float, latency: tuple[float, float]) -> None:
        self._upstream = upstream
        self._units = units
        self._latency = latency
        self._keys: dict[str, Key] = {}
        self._since = monotonic()
        self.counts = Counts(0)

    def report(self) -> str:
        """The counts since the last report."""
        self.counts.seconds = monotonic() - self._since
        text = json.dumps(asdict(self.counts))
        self.counts, self._since = Counts(self.counts.port), monotonic()
        return text

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, one request after another."""
        onward, forward = await asyncio.open_connection("127.0.0.1", self._upstream)
        try:
            while (request := await message(reader)) is not None:
                half = random.uniform(*self._latency) / 2  # noqa: S311 - a latency
                await asyncio.sleep(half)
                if self._admits(*request):
                    forward.write(b"".join(request))
                    answer = await message(onward)
                    if answer is None:
                        break
                else:
                    answer = hot_answer()
                await asyncio.sleep(half)
                writer.write(b"".join(answer))
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()
            forward.close()

    def _admits(self, head: bytes, body: bytes) -> bool:
        """Count a call, and spend what it costs."""
        action = head.partition(b"DynamoDB_20120810.")[2].partition(b"\r\n")[0].decode()
        self.counts.calls[action] = self.counts.calls.get(action, 0) + 1
        if action != "UpdateItem":
            return True
        key = json.dumps(next(iter(json.loads(body)["Key"].values())))
        admitted = self._keys.setdefault(key, Key(self._units)).spend()
        self.counts.written += admitted
        self.counts.throttled += not admitted
        return admitted


async def message(reader: asyncio.StreamReader) -> tuple[bytes, bytes] | None:
    """The head and the body of the next HTTP message; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    size = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return head, await reader.readexactly(int(size or 0))


def hot_answer() -> tuple[bytes, bytes]:
    """DynamoDB's answer to a write of a key that has no units left."""
    body = json.dumps(HOT).encode()
    return (
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: "
        + str(len(body)).encode()
        + b"\r\n\r\n",
        body,
    )


async def main(port: int, upstream: int, units: float, shortest: float, longest: float) -> None:
    """Serve for as long as the process lives."""
    table = Table(upstream, units, (shortest, longest))
    server = await asyncio.start_server(table.serve, "127.0.0.1", 0, backlog=1024)
    table.counts.port = server.sockets[0].getsockname()[1]

    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            writer.write(table.report().encode() + b"\n")
            await writer.drain()
        writer.close()

    orders = await asyncio.start_server(control, "127.0.0.1", port)
    await orders.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:3]), *map(float, sys.argv[3:])))
