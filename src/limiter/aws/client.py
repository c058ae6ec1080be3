# seam
"""Opens and closes AWS clients, in pairs: aiobotocore for asyncio, with or without aioboto3 around it; boto3 for plain code.

botocore is imported when the first client is opened and not before: if it is imported before gevent patches, TLS recurses
endlessly.
"""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass, replace
from typing import Any

from .._version import __version__
from ..core.validation import shown
from ..exceptions import ConfigurationError, ValidationError
from ..runtime import patching
from ..runtime.concurrency import responsive_timeout

_log = logging.getLogger("limiter.client")


LOOSE = 8
"""By how much the timeouts of an async client exceed the requested ones, which bound its calls as a whole."""


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """How to reach AWS. Fields that are None follow the standard AWS variables and files.

    - `session`: opens the clients, instead of a new session with `profile`.
    - `max_connections`: connections that a client keeps open.
    - `connect_timeout`: seconds to reach the server.
    - `read_timeout`: seconds for its whole response. An asynchronous call has the sum of both.
    - `attempts`: how often botocore sends a call. It is 1 for a table, because botocore cannot know whether a lost call was made.
    """

    region: str | None = None
    endpoint_url: str | None = None
    session: Any = None
    profile: str | None = None
    max_connections: int = 64
    connect_timeout: float = 0.4
    read_timeout: float = 0.5
    attempts: int = 1


def new_session(options: ClientOptions) -> Any:
    """Return a new aiobotocore session."""
    try:
        from aiobotocore.session import AioSession
    except ImportError as error:
        raise _missing_extra() from error
    return AioSession(profile=options.profile)


def sync_new_session(options: ClientOptions) -> Any:
    """Return a new boto3 session."""
    import boto3

    return boto3.Session(profile_name=options.profile)


async def open_client(service: str, options: ClientOptions) -> Any:
    """Open a client from `options.session`, or from a new session."""
    session = options.session or new_session(options)
    try:
        from aiobotocore.config import AioConfig
    except ImportError as error:
        raise _missing_extra() from error
    create = getattr(session, "create_client", None) or session.client
    region = _region(options, getattr(session, "region_name", None) or _session_region(session))
    # aiohttp's own timeouts count the time in which the loop is busy. `_bound_whole_calls` does not, and ends a call first.
    loose = replace(options, connect_timeout=LOOSE * options.connect_timeout, read_timeout=LOOSE * options.read_timeout)
    config = AioConfig(**_settings(loose))
    context = create(service, region_name=region, endpoint_url=options.endpoint_url, config=config)
    client = await context.__aenter__()
    _bound_whole_calls(client, options)
    _forget_repeating(client, options)
    return client


def sync_open_client(service: str, options: ClientOptions) -> Any:
    """Open a client from `options.session`, or from a new session; raises `RuntimeNotReady` if it could not work."""
    patching.check_patching()
    from botocore.config import Config

    from .pool_hint import watch_pool
    from .read_timeout import bound_whole_answers

    session = options.session or sync_new_session(options)
    region = _region(options, getattr(session, "region_name", None))
    client = session.client(service, region_name=region, endpoint_url=options.endpoint_url, config=Config(**_settings(options)))
    bound_whole_answers(client)
    watch_pool(client, options.max_connections)
    _forget_repeating(client, options)
    return client


def use_client(client: Any) -> Any:
    """Return a client that the caller has opened."""
    return client


def sync_use_client(client: Any) -> Any:
    """Return a client that the caller has opened; raises `RuntimeNotReady` if it could not work."""
    patching.check_patching()
    return client


async def close_client(client: Any) -> None:
    """Close the client and its connections."""
    await client.__aexit__(None, None, None)


def sync_close_client(client: Any) -> None:
    """Close the client and its connections."""
    client.close()


def check_connection(session: Any, client: Any) -> None:
    """Raise `ValidationError` if a session or client cannot serve asyncio; objects of other libraries pass."""
    if session is not None and (not _has(session, "create_client", "client") or _maker(session) == "plain"):
        raise ValidationError(
            "session must be an aiobotocore.session.AioSession() or an aioboto3.Session(), "
            f"not {shown(session)}; for boto3.Session use SyncRepository"
        )
    if client is not None and (not _has(client, "update_item") or _maker(client) in {"plain", "resource"}):
        remedy = 'what `async with AioSession().create_client("dynamodb") as client` gives'
        raise ValidationError(f"client must be {remedy}, not {shown(client)}; for a client of boto3 use SyncRepository")


def sync_check_connection(session: Any, client: Any) -> None:
    """Raise `ValidationError` if a session or client cannot serve sync code; objects of other libraries pass."""
    if session is not None and (not _has(session, "client") or _maker(session) == "asynchronous"):
        raise ValidationError(f"session must be a boto3.Session(), not {shown(session)}; for AioSession use Repository")
    waits = inspect.iscoroutinefunction(getattr(client, "update_item", None))
    if client is not None and (not _has(client, "update_item") or waits or _maker(client) in {"asynchronous", "resource"}):
        remedy = 'boto3.client("dynamodb")'
        raise ValidationError(f"client must be {remedy}, not {shown(client)}; for a client of aiobotocore use Repository")


def _has(value: Any, *methods: str) -> bool:
    """Tell whether it is an object, not a class, with one of the methods."""
    return not isinstance(value, type) and any(callable(getattr(value, method, None)) for method in methods)


def _maker(value: Any) -> str:
    """Return which of AWS's libraries has made it, by the modules of its classes, so that none is imported here."""
    packages = {str(each.__module__).partition(".")[0] for each in type(value).__mro__}
    if packages & {"aioboto3", "aiobotocore"}:
        return "asynchronous"
    # A Table of boto3 has update_item too, with other parameters.
    if "boto3" in packages and hasattr(value, "meta"):
        return "resource"
    return "plain" if packages & {"boto3", "botocore"} else "other"


def _forget_repeating(client: Any, options: ClientOptions) -> None:
    """Remove what botocore prepares for repeating a call, a twentieth of its time, from clients that never repeat.

    Where botocore has changed inside, this forgets nothing, and the client stays as it is.
    """
    from botocore import handlers

    if options.attempts > 1:
        return
    service = client.meta.service_model.service_id.hyphenize()
    client.meta.events.unregister(f"needs-retry.{service}", unique_id=f"retry-config-{service}")
    # "attempt=1; max=1" and a number that tells attempts of one call apart.
    if add_headers := getattr(handlers, "add_retry_headers", None):
        client.meta.events.unregister("request-created", add_headers)


def _bound_whole_calls(client: Any, options: ClientOptions) -> None:
    """Bound the whole response to each request of an aiobotocore client; aiohttp bounds each part of it separately.

    The time begins when the request is signed and has a connection, or the right to make one: renewing credentials does not
    count, nor does queueing behind this program's own calls. Where aiobotocore has changed inside, the client stays as it is.
    """
    import asyncio

    from botocore.exceptions import ReadTimeoutError

    try:
        session = client._endpoint.http_session
        send = session.send
    except AttributeError as error:
        fields = {"error": repr(error)}
        _log.warning("with this aiobotocore, read_timeout bounds only each part of a response: %r", error, extra=fields)
        return

    seconds = options.connect_timeout + options.read_timeout
    free = asyncio.Semaphore(options.max_connections)

    async def send_in_time(request: Any) -> Any:
        try:
            async with free, responsive_timeout(seconds):
                return await send(request)
        except TimeoutError as error:
            raise ReadTimeoutError(endpoint_url=request.url, error=error) from error

    session.send = send_in_time


def _missing_extra() -> ConfigurationError:
    return ConfigurationError('the async version needs aiobotocore: pip install "dynamodb-limiter[async]"')


def _session_region(session: Any) -> str | None:
    read = getattr(session, "get_config_variable", None)
    region: str | None = read("region") if read else None
    return region


def _region(options: ClientOptions, configured: str | None) -> str | None:
    # A local engine accepts any region, but a signature needs one.
    return options.region or configured or ("us-east-1" if options.endpoint_url else None)


def _settings(options: ClientOptions) -> dict[str, Any]:
    """Return the settings of a botocore client."""
    return {
        "max_pool_connections": options.max_connections,
        "connect_timeout": options.connect_timeout,
        "read_timeout": options.read_timeout,
        "retries": {"mode": "standard", "total_max_attempts": options.attempts},
        "parameter_validation": False,
        # Passed ready-made: botocore would build it for every call, which takes a tenth of the call's time.
        "user_agent": f"dynamodb-limiter/{__version__}",
        "tcp_keepalive": True,
    }
