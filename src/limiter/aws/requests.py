"""The requests of the direct transport, equal to those of botocore: the same address, headers, signature and body."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .signing import Signer
from .transport import Unequal, Unsuitable
from .wire import encoded

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .signing import Credentials

_PORTS = {"http": 80, "https": 443}
_SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/([^/,]+)/([^/,]+)/aws4_request, ")
_UNNEEDED = frozenset({"amz-sdk-invocation-id", "amz-sdk-request", "x-amzn-trace-id"})
"""Headers that botocore sends for repeatable calls, and Lambda's trace."""


class Requests:
    """Makes requests to the address and service of a request that botocore has signed; raises `Unsuitable`."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        scope = _SCOPE.match(headers.get("authorization", ""))
        if scope is None:
            raise Unequal("botocore signs by other means than Signature Version 4")
        if parts.scheme not in _PORTS or not parts.hostname or parts.query or "@" in parts.netloc:
            raise Unequal("the endpoint has a form that only botocore knows")
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self.url = url
        self.host, self.port = parts.hostname, parts.port or _PORTS[parts.scheme]
        self.is_secure = parts.scheme == "https"
        self._path = parts.path or "/"
        self._name = name if self.port == _PORTS[parts.scheme] else f"{name}:{self.port}"
        self._agent = headers.get("user-agent", "")
        self._signer = Signer(scope[1], scope[2])

    def headers(self, action: str, body: bytes, credentials: Credentials, moment: str) -> dict[str, str]:
        """Return all headers of a request; `moment` is its time, as in 20150830T123600Z."""
        headers = {
            "content-type": "application/x-amz-json-1.0",
            "host": self._name,
            "x-amz-date": moment,
            "x-amz-target": f"DynamoDB_20120810.{action}",
        }
        if credentials.token:
            headers["x-amz-security-token"] = credentials.token
        headers["authorization"] = self._signer.authorization(credentials, "POST", self._path, "", headers, body)
        headers["content-length"] = str(len(body))
        headers["user-agent"] = self._agent
        headers["accept-encoding"] = "identity"
        return headers

    def made(self, action: str, body: bytes, credentials: Credentials) -> bytes:
        """Return a request of this moment, as it is sent."""
        headers = self.headers(action, body, credentials, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
        try:
            return encoded("POST", self._path, headers, body)
        except ValueError as error:
            raise Unsuitable(str(error)) from error

    def check(self, action: str, body: bytes, credentials: Credentials, signed: Mapping[str, str]) -> None:
        """Raise `Unsuitable` unless a request of botocore's with these headers equals the one that is made here."""
        own = self.headers(action, body, credentials, signed.get("x-amz-date", ""))
        theirs = {"host": own["host"], "accept-encoding": "identity"} | {
            name: value for name, value in signed.items() if name not in _UNNEEDED
        }
        if own != theirs:
            differing = sorted(name for name in {*own, *theirs} if own.get(name) != theirs.get(name))
            raise Unequal(f"botocore sends other headers: {', '.join(differing)}")


def readable(headers: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers of botocore's request, with names in lower case and texts for values."""
    return {name.lower(): value.decode("latin-1") if isinstance(value, bytes) else str(value) for name, value in headers.items()}
