"""A TCP proxy on loopback that is as slow as a network, and counts the requests that are under way at once.

    python tests/support/latency_proxy.py PORT SECONDS [CERTIFICATE KEY]

Prints its port. For each line on standard input it prints, as JSON, what it has counted since the line before. Ends with standard
input. With a certificate it speaks TLS to its clients.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
from dataclasses import asdict, dataclass

CHUNK = 1 << 16


@dataclass
class Count:
    """Requests, how many were in progress at the same time, and connections that were opened."""

    requests: int = 0
    under_way: int = 0
    most_under_way: int = 0
    connections: int = 0


class Proxy:
    """Passes on what it gets, requests with a delay."""

    def __init__(self, target: int, latency: float) -> None:
        self.target = target
        self.latency = latency
        self.count = Count()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, one request after the other, as HTTP clients without pipelining send them."""
        self.count.connections += 1
        onward, forward = await asyncio.open_connection("127.0.0.1", self.target)
        connection = Connection(self, reader, writer, onward, forward)
        done, pending = await asyncio.wait(
            [asyncio.ensure_future(connection.requests()), asyncio.ensure_future(connection.responses())],
            return_when=asyncio.FIRST_COMPLETED,
        )
        for task in pending:
            task.cancel()
        await asyncio.gather(*done, *pending, return_exceptions=True)
        connection.answered()
        writer.close()
        forward.close()

    def report(self) -> str:
        """Return the counts since the last report."""
        count, self.count = self.count, Count(under_way=self.count.under_way, most_under_way=self.count.under_way)
        return json.dumps(asdict(count))


class Connection:
    """One client's connection and the engine's connection that belongs to it."""

    def __init__(
        self,
        proxy: Proxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        onward: asyncio.StreamReader,
        forward: asyncio.StreamWriter,
    ) -> None:
        self.proxy = proxy
        self.reader, self.writer = reader, writer
        self.onward, self.forward = onward, forward
        self.asked = False

    async def requests(self) -> None:
        """Pass on what the client sends, late."""
        while data := await self.reader.read(CHUNK):
            if not self.asked:
                self.asked = True
                count = self.proxy.count
                count.requests += 1
                count.under_way += 1
                count.most_under_way = max(count.most_under_way, count.under_way)
            await asyncio.sleep(self.proxy.latency)
            self.forward.write(data)
            await self.forward.drain()

    async def responses(self) -> None:
        """Pass on what the server responds, at once."""
        while data := await self.onward.read(CHUNK):
            self.answered()
            self.writer.write(data)
            await self.writer.drain()

    def answered(self) -> None:
        """Record that no request is in progress here."""
        if self.asked:
            self.asked = False
            self.proxy.count.under_way -= 1


async def main(target: int, latency: float, certificate: list[str]) -> None:
    """Serve until standard input ends."""
    proxy = Proxy(target, latency)
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=context, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - the answer to the user
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while await commands.readline():
        print(proxy.report(), flush=True)  # noqa: T201 - the answer to the user


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
