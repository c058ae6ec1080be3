"""Makes the read timeout of a boto3 client bound a whole response.

By default it bounds each read from the socket, so a server that sends single bytes can hold its caller forever. botocore has no
setting for it, so its connections get another class of response.
"""

from __future__ import annotations

import functools
import io
import logging
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_log = logging.getLogger("limiter.client")


class _Bounded(io.RawIOBase):
    """Reads from a socket's raw stream until the socket's timeout has passed since the reader was made."""

    def __init__(self, raw: Any, socket: Any) -> None:
        self._raw = raw
        self._socket = socket
        self._timeout: float = socket.gettimeout()
        self._deadline = time.monotonic() + self._timeout

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        """Read what has come; raises `TimeoutError` if nothing comes in the remaining time."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._socket.settimeout(left)
        count: int | None = self._raw.readinto(buffer)
        self._socket.settimeout(self._timeout)
        return count

    def close(self) -> None:
        """Close the raw stream too."""
        super().close()
        self._raw.close()


def bound_whole_answers(client: Any) -> None:
    """Bound whole responses of a new boto3 client; if botocore has changed inside, the client stays unchanged."""
    try:
        pools = client._endpoint.http_session._pool_classes_by_scheme
        pools.update({scheme: _bounded_pool(pool) for scheme, pool in pools.items()})
    except (AttributeError, TypeError, ValueError) as error:
        fields = {"error": repr(error)}
        _log.warning("with this botocore, read_timeout bounds only each part of a response: %r", error, extra=fields)


@functools.cache
def _bounded_pool(pool: Any) -> Any:
    connection = pool.ConnectionCls
    response = connection.response_class

    def __init__(self: Any, sock: Any, *args: Any, **options: Any) -> None:  # noqa: N807 - a method of the class below
        response.__init__(self, sock, *args, **options)
        if sock.gettimeout() and hasattr(self.fp, "detach"):
            self.fp = io.BufferedReader(_Bounded(self.fp.detach(), sock))

    bounded = type(response.__name__, (response,), {"__init__": __init__})
    return type(pool.__name__, (pool,), {"ConnectionCls": type(connection.__name__, (connection,), {"response_class": bounded})})
