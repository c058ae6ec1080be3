"""The one form of HTTP/1.1 in which DynamoDB responds: status, headers with a Content-Length, and that many bytes.

A response in another form is refused, not interpreted: if two programs read a form differently, one of them is wrong.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

MAX_HEAD = 64 * 1024
"""Bytes of the status line and all headers together; DynamoDB sends about 400."""
MAX_BODY = 32 * 1024 * 1024
"""Bytes of a body; a BatchGetItem returns 16 MB at most."""
_STATUS = re.compile(r"HTTP/1\.1 ([2-5][0-9]{2})(?: [^\r\n]*)?")
_LENGTH = re.compile(r"[0-9]{1,9}")


class UnexpectedForm(ValueError):
    """Bytes that are not a response in the one form."""


class Response(NamedTuple):
    """A whole response; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether the server closes the connection after it."""
        return "close" in self.headers.get("connection", "").lower()


class ResponseReader:
    """Assembles one response from the pieces in which it arrives."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._head: tuple[int, dict[str, str]] | None = None
        self._end = 0
        self._start = 0

    def feed(self, data: bytes) -> Response | None:
        """Take what has arrived, and return the response once it is whole; raises `UnexpectedForm`."""
        seen = len(self._data)
        self._data += data
        if self._head is None:
            self._read_head(seen)
        if self._head is None or len(self._data) < self._end:
            return None
        if len(self._data) > self._end:
            raise UnexpectedForm("bytes after the end of the response")
        return Response(*self._head, bytes(self._data[self._start :]))

    def _read_head(self, seen: int) -> None:
        """Read the status and the headers, if they have arrived; their end is not among the first bytes, which were `seen`."""
        end = self._data.find(b"\r\n\r\n", max(0, seen - 3), MAX_HEAD)
        if end < 0:
            if len(self._data) >= MAX_HEAD:
                raise UnexpectedForm("headers without an end")
            return
        status, *lines = self._data[:end].decode("latin-1").split("\r\n")
        matched = _STATUS.fullmatch(status)
        if matched is None:
            raise UnexpectedForm(f"the status line {status[:100]!r}")
        headers = _headers(lines)
        self._head = int(matched[1]), headers
        self._start = end + 4
        self._end = self._start + _body_length(headers)


def _headers(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        # A blank at either end of a name is a folded line, or hides a header from one of two readers.
        if not colon or not name or name != name.strip() or "\n" in line or "\r" in line:
            raise UnexpectedForm(f"the header {line[:100]!r}")
        if (name := name.lower()) == "content-length" and name in headers:
            raise UnexpectedForm("two lengths")
        headers[name] = value.strip()
    return headers


def _body_length(headers: dict[str, str]) -> int:
    length = headers.get("content-length", "")
    if not _LENGTH.fullmatch(length) or int(length) > MAX_BODY:
        raise UnexpectedForm(f"a body of length {length[:100]!r}")
    coding = headers.get("transfer-encoding") or headers.get("content-encoding", "identity")
    if coding != "identity":
        raise UnexpectedForm(f"a body encoded as {coding[:100]!r}")
    return int(length)


def encoded(method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
    """Return the bytes of a request; raises `ValueError` if a header has characters that would begin another header."""
    head = f"{method} {path} HTTP/1.1\r\n" + "".join([f"{name}: {value}\r\n" for name, value in headers.items()]) + "\r\n"
    if head.count("\n") != len(headers) + 2 or head.count("\r") != len(headers) + 2:
        raise ValueError("a header holds the end of a line")
    return head.encode("latin-1") + body


def parsed(action: str, response: Response) -> dict[str, Any]:
    """Return the same as botocore for a response; raises botocore's `ClientError`, or `ValueError` if it is not a JSON object."""
    document = _document(response.body)
    metadata = {
        "RequestId": response.headers.get("x-amzn-requestid", ""),
        "HTTPStatusCode": response.status,
        "HTTPHeaders": response.headers,
        "RetryAttempts": 0,
    }
    if response.status >= 300:
        raise _error(action, response, document, metadata)
    if document is None:
        raise ValueError(f"not a JSON object: {response.body[:100]!r}")
    document["ResponseMetadata"] = metadata
    return document


def _document(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object in a body; None if it contains anything else."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _has_form(found: dict[str, Any]) -> bool:
    """Tell whether the members of an error have the types that DynamoDB uses."""
    item, *reasons = (found.get(name) for name in ("Item", "ThrottlingReasons", "throttlingReasons"))
    lists = [each for each in reasons if each is not None]
    return isinstance(item, dict | None) and all(
        isinstance(each, list) and all(isinstance(reason, dict) for reason in each) for each in lists
    )


def _error(action: str, response: Response, document: dict[str, Any] | None, metadata: dict[str, Any]) -> Exception:
    """Return the error of a response. If its body is not in DynamoDB's form, the code is the HTTP status."""
    from botocore.exceptions import ClientError

    found = {"message": response.body[:1_000].decode("utf-8", "replace")} if document is None else document
    code, message = found.get("__type", response.status) or "", found.get("message", found.get("Message", ""))
    name = str(code).partition(":")[0].rpartition("#")[2]
    error = {"Code": name, "Message": message if isinstance(message, str) else ""}
    if not _has_form(found):
        return ValueError(f"an error {name[:100]!r} with members of other types")
    raised: Exception = ClientError({**found, "Error": error, "ResponseMetadata": metadata}, action)
    return raised
