"""How calls reach the table: through a client of AWS's libraries, or for the frequent ones directly."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from ..core.validation import shown
from ..exceptions import ConfigurationError, ValidationError

_log = logging.getLogger("limiter.client")

TransportName = Literal["direct", "botocore"]
TransportOption = Literal["auto", "direct", "botocore"]
DIRECT_ACTIONS = frozenset({"BatchGetItem", "GetItem", "UpdateItem"})
"""The calls that decisions consist of, which the direct transport sends."""
CLIENT_GIVEN = "client= was given"


class Transport(Protocol):
    """Makes calls to the table; the async side awaits the results of its methods."""

    def call(self, action: str, parameters: dict[str, Any]) -> Any:
        """Send a request and return the response, or raise the error, as botocore would."""

    def close(self) -> Any:
        """Close the connections."""


class Unsuitable(Exception):
    """The direct transport cannot make this call, and has sent nothing; the message says why."""


class Unequal(Unsuitable):
    """Unexpectedly, botocore's request differs from the one that the direct transport would send."""


@dataclass(frozen=True, slots=True)
class TransportInUse:
    """The transport of the frequent calls, and the `reason` if it is botocore."""

    name: TransportName
    reason: str = ""


class TransportChoice:
    """The transport of a table: the option, and the choice in this process.

    Where the direct transport is unsuitable, "auto" uses botocore, silently unless it came unexpected, and "direct" raises
    `ConfigurationError`.
    """

    def __init__(self, option: TransportOption, client: object = None) -> None:
        if option not in get_args(TransportOption):
            raise ValidationError(f'transport must be "auto", "direct" or "botocore", not {shown(option)}')
        if option == "direct" and client is not None:
            raise ValidationError('transport="direct" opens its own connections: pass session= instead of client=')
        self._insists = option == "direct"
        self.in_use: TransportInUse | None = None
        self.tries_direct = option != "botocore" and client is None
        if not self.tries_direct:
            self.in_use = TransportInUse("botocore", CLIENT_GIVEN if client is not None else "transport= says so")

    def settle(self) -> None:
        """Record that calls are made directly."""
        if self.in_use is None or self.in_use.name != "direct":
            self.in_use = TransportInUse("direct")

    def refuse(self, error: Unsuitable) -> None:
        """Record why a call is not made directly; raises `ConfigurationError` if botocore must not make it either."""
        reason = str(error)
        if self._insists:
            raise ConfigurationError(
                f'transport="direct" cannot be used: {reason}; transport="auto" uses botocore instead'
            ) from error
        if self.in_use is None or self.in_use.reason != reason:
            level = logging.WARNING if isinstance(error, Unequal) else logging.DEBUG
            _log.log(level, "botocore makes the calls to the table: %s", reason, extra={"reason": reason})
        self.in_use = TransportInUse("botocore", reason)

    def hand_over(self, reason: str) -> None:
        """Let botocore make all later calls, unless "direct" was requested."""
        if self._insists or not self.tries_direct:
            return
        self.tries_direct = False
        self.in_use = TransportInUse("botocore", reason)
        _log.warning("botocore makes all further calls to the table: %s", reason, extra={"reason": reason})
