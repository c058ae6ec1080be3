"""Replaces urllib3's warning about a full connection pool, logged for each call, by one hint."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import urlsplit

_log = logging.getLogger("limiter.client")
_POOLS = logging.getLogger("urllib3.connectionpool")
_FULL = "Connection pool is full"


class PoolHint(logging.Filter):
    """Drops the warnings about the hosts that it knows, and logs one hint for each of them."""

    def __init__(self) -> None:
        super().__init__()
        self._connections: dict[str, int] = {}
        self._told: set[str] = set()

    def watch(self, host: str, connections: int) -> None:
        """Watch a host whose pool keeps the given number of connections."""
        self._connections[host] = connections

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is logged: all are, except warnings about a full pool of a known host."""
        host = str(record.args[0]) if isinstance(record.args, tuple) and record.args else ""
        if host not in self._connections or not str(record.msg).startswith(_FULL):
            return True
        if host not in self._told:
            self._told.add(host)
            connections = self._connections[host]
            _log.warning(
                "more calls to %s run at once than the client keeps connections (%d), so each further call opens and closes "
                "its own; raise max_connections of the repository to the number of threads",
                host,
                connections,
                extra={"host": host, "max_connections": connections},
            )
        return False


_HINT = PoolHint()


def watch_pool(client: Any, connections: int) -> None:
    """Give one hint, in place of a warning for each call, when more calls run at once than the client keeps connections."""
    host = urlsplit(str(client.meta.endpoint_url)).hostname
    if host is not None:
        _HINT.watch(host, connections)
        _POOLS.addFilter(_HINT)  # Has no effect if it is there already.
