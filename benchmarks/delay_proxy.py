"""A loopback TCP proxy that delays every response by a fixed time, as if the engine were further away.

    python delay_proxy.py PORT TARGET_PORT MILLISECONDS [KEY_AND_CERTIFICATES]

Bytes keep their order; no bandwidth is simulated. With a certificate it speaks TLS to its clients.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from contextlib import suppress

CHUNK = 65_536


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: float) -> None:
    """Copy one direction until it ends."""
    loop = asyncio.get_running_loop()
    while chunk := await reader.read(CHUNK):
        if delay:
            loop.call_later(delay, writer.write, chunk)
        else:
            writer.write(chunk)
    loop.call_later(delay, writer.close)


async def main(port: int, target: int, delay: float, certificates: list[str]) -> None:
    """Serve until the process is ended."""

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        except OSError:
            writer.close()
            return
        with suppress(OSError):
            await asyncio.gather(carry(reader, far_writer, 0.0), carry(far_reader, writer, delay))

    context = None
    if certificates:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificates)
    server = await asyncio.start_server(connect, "127.0.0.1", port, ssl=context, backlog=1_024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1_000, sys.argv[4:]))
