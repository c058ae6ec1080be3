"""Checks that a client's calls go from its methods to the wire as AWS's libraries have made them.

Tracers and mocks (OpenTelemetry, ddtrace, X-Ray, New Relic) wrap functions on this path; others (moto, Stubber, Sentry, programs)
register handlers for its events. Direct calls would bypass all of them.
"""

from __future__ import annotations

import sys
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from .transport import DIRECT_ACTIONS, Unsuitable

_OWN = frozenset({"aiobotocore", "botocore", "limiter"})
_MONITORING = "botocore.monitoring"
"""Reports every call to a monitoring agent on the machine (AWS_CSM_ENABLED)."""
_EVENTS = (
    "provide-client-params",
    "before-parameter-build",
    "before-endpoint-resolution",
    "before-call",
    "request-created",
    "choose-signer",
    "before-sign",
    "before-send",
    "before-parse",
    "response-received",
    "needs-retry",
    "after-call",
    "after-call-error",
)
_CLIENT = ("_make_api_call", "_make_request", "batch_get_item", "get_item", "update_item")
_ENDPOINT = ("make_request", "create_request", "prepare_request", "_send_request", "_send")
_BELOW = (("urllib3.connectionpool", "HTTPConnectionPool", "urlopen"), ("aiohttp.client", "ClientSession", "_request"))
"""Functions that botocore and aiobotocore call in turn, and that HTTP tracers wrap."""
_BENEATH = frozenset({"aiohttp", "urllib3"})


class CallPath:
    """The functions on the path of one client; raises `Unsuitable` if one is not the libraries' own, or has a listener."""

    def __init__(self, client: Any) -> None:
        from botocore.client import BaseClient

        if not isinstance(client, BaseClient):
            raise Unsuitable(f"{type(client).__qualname__} is not a client of botocore or aiobotocore")
        endpoint: Any = client._endpoint
        session = endpoint.http_session
        steps = [(client, name) for name in _CLIENT] + [(endpoint, name) for name in _ENDPOINT] + [(session, "send")]
        for place, name in steps:
            _check_instance(place, name)
        owners = [(type(place), name) for place, name in steps]
        self._steps = [(owner, name, getattr(owner, name)) for owner, name in (*owners, *_below())]
        for owner, name, function in self._steps:
            if not _is_original(function):
                raise Unsuitable(_changed(owner, name))
        _check_listeners(client)

    def check(self) -> None:
        """Raise `Unsuitable` if a function has been replaced since."""
        for owner, name, function in self._steps:
            if getattr(owner, name) is not function:
                raise Unsuitable(_changed(owner, name))


def _below() -> list[tuple[Any, str]]:
    modules = [(sys.modules.get(module), owner, name) for module, owner, name in _BELOW]
    return [(getattr(module, owner), name) for module, owner, name in modules if module is not None]


def _check_instance(place: Any, name: str) -> None:
    """Raise `Unsuitable` if an object has a function of another package in place of its class's."""
    replaced = vars(place).get(name)
    if replaced is not None and (type(replaced) is not FunctionType or _package(replaced) != "limiter"):
        raise Unsuitable(f"{type(place).__qualname__}.{name} is patched by {_module(replaced)}")


def _is_original(function: Any) -> bool:
    """Tell whether it is a plain function of the libraries, whose code is in the module that it belongs to."""
    if type(function) is not FunctionType or _package(function) not in _OWN | _BENEATH:
        return False
    return bool(function.__code__.co_filename == function.__globals__.get("__file__"))


def _changed(owner: type, name: str) -> str:
    function = getattr(owner, name)
    # wrapt, which tracers patch with, keeps the wrapped function here.
    by = _module(getattr(function, "_self_wrapper", function))
    return f"{owner.__module__}.{owner.__qualname__}.{name} is patched by {by}"


def _check_listeners(client: Any) -> None:
    """Raise `Unsuitable` if a handler of another package listens to the events of a call."""
    emitter = getattr(client.meta.events, "_emitter", client.meta.events)
    for event in [f"{event}.dynamodb.{action}" for event in _EVENTS for action in sorted(DIRECT_ACTIONS)]:
        for handler in emitter._handlers.prefix_search(event):
            module = _module(handler)
            if module.partition(".")[0] not in _OWN or module.startswith(_MONITORING):
                raise Unsuitable(f"a handler of {module} listens to {event.partition('.')[0]}")


def _module(handler: Any) -> str:
    """Return the module of a handler's code."""
    while isinstance(handler, partial | MethodType):
        handler = handler.func if isinstance(handler, partial) else handler.__func__
    if type(handler) is FunctionType:
        return str(handler.__globals__.get("__name__"))
    return str(type(handler).__module__)


def _package(function: Any) -> str:
    return _module(function).partition(".")[0]
