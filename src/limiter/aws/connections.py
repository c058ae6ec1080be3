# seam
"""Connections of the direct transport, in pairs: asyncio's transports, and those of the urllib3 pool that botocore has set up.

Certificates, timeouts, pool size and socket options are the client's. A connection carries one request at a time, and goes back
to the pool only after a response in the one form.
"""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from ..runtime.concurrency import responsive_timeout
from .client import LOOSE
from .transport import Unsuitable
from .wire import ResponseReader, UnexpectedForm

if TYPE_CHECKING:
    import asyncio
    import ssl

    from .requests import Requests
    from .wire import Response

_PIECE = 16 * 1024
"""Bytes read at once: the most that a TLS record holds."""
_TO_CLOSE = 1.0
"""Seconds that closing connections may take."""


class Connections:
    """Connections of one event loop, opened as an aiobotocore client would open them, and at most as many.

    Raises `Unsuitable` where only the client knows how.
    """

    def __init__(self, client: Any, requests: Requests) -> None:
        import asyncio

        from aiobotocore.httpsession import AIOHTTPSession

        session, config = client._endpoint.http_session, client.meta.config
        if not isinstance(session, AIOHTTPSession):
            raise Unsuitable(f"the session's HTTP client is {type(session).__qualname__}")
        _check_directness(session, requests.url)
        if set(session._connector_args) - {"keepalive_timeout"}:
            raise Unsuitable("connector_args= are set")
        self._loop = asyncio.get_running_loop()
        self._url = requests.url
        self._session = session
        self._read_timeout, self._connect_timeout = config.read_timeout / LOOSE, config.connect_timeout / LOOSE
        self._keepalive = session._connector_args.get("keepalive_timeout", 0.0)
        self._socket_options = session._socket_options
        # A loop that is not asyncio's own may not know how to try several addresses at once.
        delay = {"happy_eyeballs_delay": 0.25} if isinstance(self._loop, asyncio.BaseEventLoop) else {}
        self._address: dict[str, Any] = {"host": requests.host, "port": requests.port, **delay}
        self._context: ssl.SSLContext | None = None
        self._is_secure = requests.is_secure
        self._make: Any = partial(_Link, self._loop)
        self._free = asyncio.Semaphore(config.max_pool_connections)
        self._idle: list[_Link] = []
        self._links: set[_Link] = set()

    async def exchange(self, request: bytes) -> Response:
        """Send a request and return its response, within the read timeout once there is a connection.

        Raises botocore's errors, and `UnexpectedForm`.
        """
        async with self._free:
            link = self._next_idle() or await self._connect()
            try:
                async with responsive_timeout(self._read_timeout):
                    response = await link.ask(request)
            except OSError as error:
                link.abort()
                raise _lost(error, self._url) from error
            except BaseException:
                link.abort()
                raise
            self._keep(link, response)
            return response

    async def close(self) -> None:
        """Close all connections."""
        import asyncio

        links = list(self._links)
        for link in links:
            link.abort()
        if links:
            await asyncio.wait([link.lost for link in links], timeout=_TO_CLOSE)

    def _next_idle(self) -> _Link | None:
        """Return the connection that was used last and is still open, as far as can be told."""
        while self._idle:
            link = self._idle.pop()
            if monotonic() - link.used < self._keepalive and link.is_open():
                return link
            link.abort()
        return None

    def _keep(self, link: _Link, response: Response) -> None:
        if response.closes:
            link.abort()
        else:
            link.used = monotonic()
            self._idle.append(link)

    async def _connect(self) -> _Link:
        import asyncio

        link: _Link
        try:
            if self._is_secure and self._context is None:
                # Reads files: the bundle of certificates.
                self._context = await asyncio.to_thread(_tls_context, self._session)
            async with responsive_timeout(self._connect_timeout):
                _, link = await self._loop.create_connection(self._make, ssl=self._context, **self._address)
        except Exception as error:
            raise _unreached(error, self._url) from error
        self._links.add(link)
        link.lost.add_done_callback(lambda _: self._links.discard(link))
        for option in self._socket_options:
            link.socket.setsockopt(*option)
        return link


class SyncConnections:
    """The connections of a boto3 client, which uses them for its own calls too.

    Raises `Unsuitable` where only the client knows how.
    """

    def __init__(self, client: Any, requests: Requests) -> None:
        session = client._endpoint.http_session
        _check_directness(session, requests.url)
        self._pool = session._manager.connection_from_url(requests.url)
        session._setup_ssl_cert(self._pool, requests.url, session._verify)
        self._url = requests.url
        self._read_timeout = self._pool.timeout.read_timeout

    def exchange(self, request: bytes) -> Response:
        """Send a request and return its response, within the read timeout once there is a connection.

        Raises botocore's errors, and `UnexpectedForm`.
        """
        connection = self._next_idle()
        try:
            if connection.sock is None:
                self._connect(connection)
            response = self._ask(connection.sock, request)
            if response.closes:
                connection.close()
        except BaseException:
            connection.close()
            raise
        finally:
            self._pool._put_conn(connection)
        return response

    def close(self) -> None:
        """Close all connections; those in use are closed after their call. urllib3 leaves that to the garbage collector."""
        self._pool.close()

    def _next_idle(self) -> Any:
        """Return a connection that is still open, as far as can be told, or one to be opened."""
        from urllib3.exceptions import ClosedPoolError

        try:
            return self._pool._get_conn()
        except ClosedPoolError as error:
            raise _unreached(error, self._url) from error

    def _connect(self, connection: Any) -> None:
        connection.timeout = self._pool.timeout.connect_timeout
        try:
            connection.connect()
        except Exception as error:
            raise _unreached(error, self._url) from error

    def _ask(self, socket: Any, request: bytes) -> Response:
        deadline = monotonic() + self._read_timeout
        socket.settimeout(self._read_timeout)
        try:
            socket.sendall(request)
        except OSError as error:
            # The end of the request has not left this machine, so the server cannot have carried it out.
            raise _unreached(error, self._url) from error
        reader = ResponseReader()
        try:
            while (response := reader.feed(_received(socket))) is None:
                if (left := deadline - monotonic()) <= 0:
                    raise TimeoutError("timed out")
                socket.settimeout(left)
        except OSError as error:
            raise _lost(error, self._url) from error
        return response


class _Link:
    """A connection of asyncio's: a `Protocol` by its methods, so that nothing imports asyncio for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: Any = None
        self._reader = ResponseReader()
        self._response: asyncio.Future[Response] | None = None
        self.lost: asyncio.Future[None] = loop.create_future()
        self.socket: Any = None
        self.used = 0.0

    async def ask(self, request: bytes) -> Response:
        """Send a request and wait for the response."""
        self._reader = ResponseReader()
        self._response = self._loop.create_future()
        self._transport.write(request)
        return await self._response

    def is_open(self) -> bool:
        """Tell whether nothing has come since the last response, not even the end."""
        from urllib3.util.wait import wait_for_read

        return not self._transport.is_closing() and not wait_for_read(self.socket, timeout=0)

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self._transport = transport
        self.socket = transport.get_extra_info("socket")

    def data_received(self, data: bytes) -> None:
        """Pass a part of the response on; unrequested bytes end the connection."""
        if self._response is None or self._response.done():
            self.abort()
            return
        try:
            response = self._reader.feed(data)
        except UnexpectedForm as error:
            self._response.set_exception(error)
        else:
            if response is not None:
                self._response.set_result(response)

    def eof_received(self) -> None:
        """Let the transport close itself."""

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the caller that waits."""
        if self._response is not None and not self._response.done():
            self._response.set_exception(error if isinstance(error, OSError) else ConnectionResetError("connection closed"))
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        """Continue: one request is all there is to write."""

    def resume_writing(self) -> None:
        """Continue."""


def _received(socket: Any) -> bytes:
    data: bytes = socket.recv(_PIECE)
    if not data:
        raise ConnectionResetError("connection closed")
    return data


def _check_directness(session: Any, url: str) -> None:
    """Raise `Unsuitable` if a proxy is in between, or if the server is not verified."""
    if session._proxy_config.proxy_url_for(url) is not None:
        raise Unsuitable("a proxy is configured")
    if not session._verify and url.startswith("https"):
        raise Unsuitable("certificates are not verified")


def _tls_context(session: Any) -> ssl.SSLContext:
    from botocore.httpsession import get_cert_path

    context: ssl.SSLContext = session._get_ssl_context()
    context.check_hostname = True  # botocore leaves that to urllib3
    if session._cert_file:
        context.load_cert_chain(session._cert_file, session._key_file)
    context.load_verify_locations(get_cert_path(session._verify))
    return context


def _unreached(error: Exception, url: str) -> Exception:
    """Return botocore's error for a request that was not sent."""
    import ssl

    from botocore import exceptions as boto
    from urllib3 import exceptions as urllib3

    if isinstance(error, TimeoutError | urllib3.ConnectTimeoutError):
        error = boto.ConnectTimeoutError(endpoint_url=url, error=error)
    elif isinstance(error, ssl.SSLError | urllib3.SSLError) or type(error).__name__ == "CertificateError":
        # The last is urllib3's, for another host's certificate; each release keeps it elsewhere.
        error = boto.SSLError(endpoint_url=url, error=error)
    elif isinstance(error, OSError | urllib3.HTTPError):
        error = boto.EndpointConnectionError(endpoint_url=url, error=error)
    return error


def _lost(error: OSError, url: str) -> Exception:
    """Return botocore's error for a request that was sent and whose effect is unknown."""
    from botocore import exceptions as boto

    kind = boto.ReadTimeoutError if isinstance(error, TimeoutError) else boto.ConnectionClosedError
    lost: Exception = kind(endpoint_url=url, error=error)
    return lost
