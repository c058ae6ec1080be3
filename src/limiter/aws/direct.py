# twin: sync_direct.py
"""Sends the frequent calls without botocore, in the same way: with its credentials, address, signature and connection settings.

One request that botocore has signed is caught before it is sent; unless ours is equal to it, botocore makes all calls.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from . import schema
from .call_path import CallPath
from .connections import Connections
from .requests import Requests, readable
from .transport import Unequal
from .wire import parsed

if TYPE_CHECKING:
    from .signing import Credentials

_PROBE = "limiter-transport\x7f"
"""A key that no item has: ids contain no control characters."""


class _Address(NamedTuple):
    """The address of an account's requests."""

    account_id: str | None
    requests: Requests
    connections: Connections


class _Caught(Exception):
    """A request that botocore was about to send."""

    def __init__(self, request: Any) -> None:
        self.request = request


async def open_direct(client: Any, table: str) -> DirectTransport:
    """Return a direct transport that acts as this client does; raises `Unsuitable` if it could not. Sends nothing."""
    try:
        transport = DirectTransport(client, table)
        await transport.find_address()
    except (AttributeError, TypeError, KeyError) as error:
        # Some of what is needed has no public name.
        raise Unequal(f"this botocore has another structure: {error!r}") from error
    return transport


class DirectTransport:
    """Sends GetItem, BatchGetItem and UpdateItem for one client, in its process and event loop.

    Credentials are frozen for each call. With them the account may change, and then the address is looked at again.
    """

    def __init__(self, client: Any, table: str) -> None:
        self._path = CallPath(client)
        self._client = client
        self._table = table
        self._credentials = client._request_signer._credentials
        self._address: _Address | None = None
        self._connections: dict[str, Connections] = {}

    async def call(self, action: str, parameters: dict[str, Any]) -> Any:
        """Send a request and return the response, or raise the error, as botocore would.

        Raises `Unsuitable` where nothing was sent, since botocore has to make the call, and `UnexpectedForm` where the response
        was not in DynamoDB's form of HTTP.
        """
        self._path.check()
        credentials = await self._credentials.get_frozen_credentials()
        address = self._address
        if address is None or address.account_id != _account_id(credentials):
            address = await self.find_address()
        request = address.requests.made(action, json.dumps(parameters).encode(), credentials)
        return parsed(action, await address.connections.exchange(request))

    async def close(self) -> None:
        """Close the connections."""
        for connections in self._connections.values():
            await connections.close()

    async def find_address(self) -> _Address:
        """Find out where botocore sends requests, and whether ours are equal; raises `Unsuitable`."""
        parameters = {"TableName": self._table, "Key": {schema.PARTITION_KEY: {"S": _PROBE}, schema.SORT_KEY: {"S": _PROBE}}}
        body = json.dumps(parameters).encode()
        before = self._credentials and await self._credentials.get_frozen_credentials()
        caught = await self._catch(parameters)
        if before is None:
            raise Unequal("botocore does not sign requests")
        if caught.method != "POST" or caught.body != body:
            raise Unequal("botocore sends other requests")
        credentials = await self._credentials.get_frozen_credentials()
        if _account_id(before) != _account_id(credentials):
            return await self.find_address()  # The account has changed between the choice of the address and the signature.
        headers = readable(caught.headers)
        requests = Requests(caught.url, headers)
        requests.check("GetItem", body, credentials, headers)
        if requests.url not in self._connections:
            self._connections[requests.url] = Connections(self._client, requests)
        self._address = _Address(_account_id(credentials), requests, self._connections[requests.url])
        return self._address

    async def _catch(self, parameters: dict[str, Any]) -> Any:
        """Let botocore make a call, and return the request that it would send."""
        events = self._client.meta.events
        events.register_first("before-send.dynamodb.GetItem", _catch)
        try:
            await self._client.get_item(**parameters)
        except _Caught as caught:
            return caught.request
        finally:
            events.unregister("before-send.dynamodb.GetItem", _catch)
        raise Unequal("botocore has sent a request that was to be caught")


def _catch(request: Any, **_: object) -> None:
    if json.dumps(_PROBE).encode() in request.body:
        raise _Caught(request)


def _account_id(credentials: Credentials) -> str | None:
    return getattr(credentials, "account_id", None)
