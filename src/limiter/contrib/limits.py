"""A storage for `limits`, the library under Flask-Limiter and slowapi, in the limiter's own table.

    import limiter.contrib.limits  # registers dynamodb:// and async+dynamodb://

    Limiter(get_remote_address, app=app, storage_uri="dynamodb://my-app?region=eu-west-1", strategy="sliding-window-counter")

The strategies `fixed-window` and `sliding-window-counter` are exact for any number of processes. `moving-window` is refused,
because it needs a log of every hit. Counters are separate items (`counters` has their layout), so the limiter's own buckets are
not affected.

Windows follow this machine's clock. Needs limits: `pip install "dynamodb-limiter[limits]"`; for `async+dynamodb://` the extra
`async` too.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar
from urllib.parse import parse_qsl, urlsplit
from weakref import WeakKeyDictionary

from .. import ValidationError
from ..core.validation import check_optional_name
from ..runtime.scope import ProcessLocal
from .counters import FAILED, Counters
from .extras import not_installed

try:
    from limits.aio.storage import SlidingWindowCounterSupport as AsyncSlidingWindowCounterSupport
    from limits.aio.storage import Storage as AsyncStorage
    from limits.storage import SlidingWindowCounterSupport, Storage
    from limits.storage.base import TimestampedSlidingWindow
except ImportError as missing:
    raise not_installed("limits", "limits", missing) from missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from .counters import Steps

    T = TypeVar("T")

__all__ = ["AsyncDynamoDBStorage", "DynamoDBStorage"]

ATTEMPTS = 3
"""How many times botocore makes a call. A repeated write that was applied already is recognised by its id."""

_MOVING_WINDOW = (
    "strategy 'moving-window' needs a log of every hit, which a DynamoDB item cannot hold at a fixed cost: use "
    "'sliding-window-counter' or 'fixed-window', or limiter.Limit.at_most for a limit that holds in every span"
)


class _Options(NamedTuple):
    table: str
    endpoint_url: str | None = None
    region: str | None = None
    namespace: str = "default"

    @classmethod
    def of(cls, uri: str | None, given: dict[str, Any]) -> _Options:
        """Read a URI such as `dynamodb://my-app?namespace=web`; keyword options take precedence."""
        parts = urlsplit(uri or "")
        options = dict(parse_qsl(parts.query)) | {name: value for name, value in given.items() if value is not None}
        table = parts.netloc
        if not table or parts.path.strip("/"):
            raise ValidationError(f"invalid storage URI {uri!r}: name the table, such as dynamodb://my-app?region=eu-west-1")
        if unknown := set(options) - {"endpoint_url", "region", "namespace"}:
            raise ValidationError(f"unknown option {min(unknown)!r} of {uri!r}; expected one of: endpoint_url, region, namespace")
        check_optional_name("namespace", options.get("namespace"))
        return cls(table, **options)

    def client(self, config: Any) -> dict[str, Any]:
        """Return the parameters of a client."""
        # A local engine accepts any region, but a signature needs one.
        region = self.region or ("us-east-1" if self.endpoint_url and not _default_region() else None)
        return {"endpoint_url": self.endpoint_url, "region_name": region, "config": config(**_CONFIGURATION)}


class _Opener:
    """Opens the client of one process, for the first of its threads that needs it."""

    def __init__(self, options: _Options) -> None:
        self._options = options
        self._lock = threading.Lock()
        self._opened: Any = None

    def client(self) -> Any:
        with self._lock:
            if self._opened is None:
                import boto3
                from botocore.config import Config

                self._opened = boto3.Session().client("dynamodb", **self._options.client(Config))
            return self._opened


_CONFIGURATION: dict[str, Any] = {
    "connect_timeout": 1.0,
    "read_timeout": 2.0,
    "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
    "max_pool_connections": 64,
    "tcp_keepalive": True,
}


class DynamoDBStorage(Storage, SlidingWindowCounterSupport, TimestampedSlidingWindow):
    """The storage `dynamodb://TABLE`. Its options, also in the URI's query, are `endpoint_url`, `region` and `namespace`.

    The table is created by `limiter deploy`. `reset` needs the policy `admin`, everything else the policy `acquire`.
    `clock` returns seconds since the epoch. A refused hit counts in a fixed window, as it does in limits' other storages.
    """

    STORAGE_SCHEME = ["dynamodb"]  # noqa: RUF012 - limits' metaclass reads it

    def __init__(
        self,
        uri: str | None = None,
        wrap_exceptions: bool = False,
        *,
        clock: Callable[[], float] = time.time,
        **options: Any,
    ) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._options = _Options.of(uri, options)
        self._counters = Counters(self._options.table, self._options.namespace, clock)
        self._opener = ProcessLocal(partial(_Opener, self._options))

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """The errors that `wrap_exceptions` wraps."""
        return _base_exceptions()

    @property
    def acquire_entry(self) -> NoReturn:
        """Refuse the moving window, even if limits only asks for the method."""
        raise NotImplementedError(_MOVING_WINDOW)

    get_moving_window = acquire_entry

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count `amount` in a fixed window of `expiry` seconds, and return the count."""
        return self._make(self._counters.increment(key, int(expiry), amount))

    def get(self, key: str) -> int:
        """Return the count of a fixed window."""
        return self._make(self._counters.count(key))[0]

    def get_expiry(self, key: str) -> float:
        """Return the end of a fixed window, in seconds since the epoch."""
        return self._make(self._counters.count(key))[1]

    def check(self) -> bool:
        """Tell whether the table responds."""
        try:
            return self._make(self._counters.check())
        except self.base_exceptions:
            return False

    def reset(self) -> int | None:
        """Delete all counters of the namespace; reads the whole table."""
        return self._make(self._counters.reset())

    def clear(self, key: str) -> None:
        """Forget a fixed window."""
        self._make(self._counters.clear(key))

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count `amount` in a sliding window of `expiry` seconds if it fits."""
        return self._make(self._counters.acquire(key, limit, int(expiry), amount))

    def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return the count of the window before and the seconds it still weighs, then the same of the present one."""
        return self._make(self._counters.window(key, int(expiry)))

    def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forget a sliding window."""
        self._make(self._counters.clear(key, int(expiry)))

    def _make(self, steps: Steps[T]) -> T:
        client = self._opener.get().client()
        answer: Any = None
        while True:
            try:
                action, parameters = steps.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                answer = getattr(client, action)(**parameters)
            except client.exceptions.ConditionalCheckFailedException as error:
                answer = {FAILED: error.response.get("Item", {})}


class AsyncDynamoDBStorage(AsyncStorage, AsyncSlidingWindowCounterSupport, TimestampedSlidingWindow):
    """The storage `async+dynamodb://TABLE` for `limits.aio`, on the same counters as `DynamoDBStorage`."""

    STORAGE_SCHEME = ["async+dynamodb"]  # noqa: RUF012 - limits' metaclass reads it

    def __init__(
        self,
        uri: str | None = None,
        wrap_exceptions: bool = False,
        *,
        clock: Callable[[], float] = time.time,
        **options: Any,
    ) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._options = _Options.of(uri, options)
        self._counters = Counters(self._options.table, self._options.namespace, clock)
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Future[Any]] = WeakKeyDictionary()

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """The errors that `wrap_exceptions` wraps."""
        return _base_exceptions()

    @property
    def acquire_entry(self) -> NoReturn:
        """Refuse the moving window, even if limits only asks for the method."""
        raise NotImplementedError(_MOVING_WINDOW)

    get_moving_window = acquire_entry

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Count `amount` in a fixed window of `expiry` seconds, and return the count."""
        return await self._make(self._counters.increment(key, int(expiry), amount))

    async def get(self, key: str) -> int:
        """Return the count of a fixed window."""
        return (await self._make(self._counters.count(key)))[0]

    async def get_expiry(self, key: str) -> float:
        """Return the end of a fixed window, in seconds since the epoch."""
        return (await self._make(self._counters.count(key)))[1]

    async def check(self) -> bool:
        """Tell whether the table responds."""
        try:
            return await self._make(self._counters.check())
        except self.base_exceptions:
            return False

    async def reset(self) -> int | None:
        """Delete all counters of the namespace; reads the whole table."""
        return await self._make(self._counters.reset())

    async def clear(self, key: str) -> None:
        """Forget a fixed window."""
        await self._make(self._counters.clear(key))

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count `amount` in a sliding window of `expiry` seconds if it fits."""
        return await self._make(self._counters.acquire(key, limit, int(expiry), amount))

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return the count of the window before and the seconds it still weighs, then the same of the present one."""
        return await self._make(self._counters.window(key, int(expiry)))

    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        """Forget a sliding window."""
        await self._make(self._counters.clear(key, int(expiry)))

    async def close(self) -> None:
        """Close the client of this event loop; a later call opens a new one."""
        opening = self._clients.pop(asyncio.get_running_loop(), None)
        if opening is not None:
            await (await opening).close()

    async def _make(self, steps: Steps[T]) -> T:
        client = await self._client()
        answer: Any = None
        while True:
            try:
                action, parameters = steps.send(answer)
            except StopIteration as end:
                result: T = end.value
                return result
            try:
                answer = await getattr(client, action)(**parameters)
            except client.exceptions.ConditionalCheckFailedException as error:
                answer = {FAILED: error.response.get("Item", {})}

    async def _client(self) -> Any:
        """Return the client of this event loop; concurrent tasks wait for the one that opens it."""
        loop = asyncio.get_running_loop()
        opening = self._clients.get(loop)
        if opening is None or (opening.done() and (opening.cancelled() or opening.exception())):
            opening = self._clients[loop] = asyncio.ensure_future(self._open())
        return await asyncio.shield(opening)

    async def _open(self) -> Any:
        try:
            from aiobotocore.config import AioConfig
            from aiobotocore.session import get_session
        except ImportError as error:
            raise not_installed("aiobotocore", "async", error) from error
        return await get_session().create_client("dynamodb", **self._options.client(AioConfig)).__aenter__()


def _base_exceptions() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, ClientError

    return BotoCoreError, ClientError


def _default_region() -> str | None:
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
