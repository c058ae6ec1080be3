"""Signature Version 4, by which AWS verifies the sender of a request and its content.

See "Create a signed AWS API request" in the IAM User Guide. Signs requests whose path and query are in canonical form already, as
the direct transport's are: its path is `/`, and it has no query.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

ALGORITHM = "AWS4-HMAC-SHA256"


class Credentials(NamedTuple):
    """Frozen credentials of botocore."""

    access_key: str
    secret_key: str
    token: str | None = None
    account_id: str | None = None


class _Key(NamedTuple):
    """A derived key, and the values that it was derived from."""

    secret_key: str
    date: str
    key: bytes


class Signer:
    """Signs requests to one service in one region; keeps the derived key while the secret and the date stay the same.

    Safe for threads: the key is replaced as a whole.
    """

    def __init__(self, region: str, service: str) -> None:
        self.region = region
        self.service = service
        self._key = _Key("", "", b"")

    def authorization(
        self, credentials: Credentials, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> str:
        """Return the Authorization header of a request that is sent with these headers, all of which are signed.

        Their names are in lower case; `host` and `x-amz-date` are among them, and so is `x-amz-security-token` of temporary
        credentials.
        """
        moment = headers["x-amz-date"]
        names = sorted(headers)
        signed = ";".join(names)
        lines = "".join([f"{name}:{' '.join(headers[name].split())}\n" for name in names])
        canonical = f"{method}\n{path}\n{query}\n{lines}\n{signed}\n{hashlib.sha256(body).hexdigest()}"
        scope = f"{moment[:8]}/{self.region}/{self.service}/aws4_request"
        text = f"{ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._derived(credentials.secret_key, moment[:8]), text.encode(), "sha256").hex()
        return f"{ALGORITHM} Credential={credentials.access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"

    def _derived(self, secret_key: str, date: str) -> bytes:
        known = self._key
        if known.secret_key == secret_key and known.date == date:
            return known.key
        key = f"AWS4{secret_key}".encode()
        for part in (date, self.region, self.service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._key = _Key(secret_key, date, key)
        return key
