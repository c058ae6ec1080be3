"""An engine whose keys have heat: a proxy that throttles a key as DynamoDB does, in a process of its own.

with HeatProxy(engine.endpoint_url, units=200, latency=(0.015, 0.030)) as table:
    repository = Repository(name, endpoint_url=table.endpoint_url)
    ...
    counts = table.counts()      # since the counts before
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Self

from support.engines import ServerProcess, port_of
from support.heat_server import Counts

SERVER = str(Path(__file__).with_name("heat_server.py"))
PATIENCE = 60.0


class HeatProxy:
    """Passes calls on to the engine at `upstream_url`; a key takes `units` writes a second, a call `latency` seconds."""

    def __init__(self, upstream_url: str, *, units: float, latency: tuple[float, float] = (0.0, 0.0)) -> None:
        upstream, options = str(port_of(upstream_url)), [str(units), *map(str, latency)]
        command = [sys.executable, "-I", "-S", SERVER]
        self._process = ServerProcess("table with heat", lambda port: [*command, str(port), upstream, *options])
        try:
            self._control = socket.create_connection(("127.0.0.1", port_of(self._process.endpoint_url)), timeout=PATIENCE)
            self._answers = self._control.makefile("rb")
            self.endpoint_url = f"http://127.0.0.1:{self.counts().port}"
        except BaseException:
            self._process.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._answers.close()
        self._control.close()
        self._process.stop()

    def counts(self) -> Counts:
        """What was counted since the last look."""
        self._control.sendall(b"counts\n")
        return Counts(**json.loads(self._answers.readline()))
