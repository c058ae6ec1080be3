"""A server and its client in one, which speak ASGI to an application without any network."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Message = dict[str, Any]


class Client:
    """A server and its client: calls an application by the protocol, and keeps every message that the application sends."""

    def __init__(self, app: Any, **scope: Any) -> None:
        self.app = app
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": "/",
            "headers": [],
            "client": ("192.0.2.1", 5000),
            **scope,
        }
        self.sent: list[Message] = []
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.on_send: Callable[[Message], Awaitable[None]] | None = None

    async def run(self) -> Client:
        """Make the call."""
        await self.app(self.scope, self.incoming.get, self._send)
        return self

    async def _send(self, message: Message) -> None:
        if self.on_send is not None:
            await self.on_send(message)
        self.sent.append(message)

    @property
    def status(self) -> int:
        """The status of the response."""
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response."""
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}
