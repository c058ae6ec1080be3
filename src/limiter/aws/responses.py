"""Validates responses before they are used.

A truncated response, or one from a server in the table's place, raises `RateLimiterUnavailable`; its content and its `Date` are
not used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.validation import shown
from ..exceptions import RateLimiterUnavailable
from . import schema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CHECKSUM_OF_NOTHING = "2745614147"
"""The CRC-32 of `{}`, the shortest body there is."""


def check(action: str, parameters: Mapping[str, Any], answer: Any, table: str) -> bool:
    """Raise `RateLimiterUnavailable` for a response that cannot be used; return whether its `Date` can, as `holds_something`."""
    check_whole(answer, table, action)
    check_answer(action, parameters, answer)
    return holds_something(answer)


def check_whole(answer: Mapping[str, Any], table: str, action: str) -> None:
    """Raise `RateLimiterUnavailable` if the connection broke while the headers came.

    http.client takes such a head for a whole one, of an answer without a body, which would then read as "there is no item".
    """
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders")
    if headers is None or holds_something(answer):
        return
    if not headers.get("content-length", "").isdecimal() and "transfer-encoding" not in headers:
        raise RateLimiterUnavailable(f"{action} on table {table!r} got a truncated response", unsent=False)


def holds_something(answer: Mapping[str, Any]) -> bool:
    """Tell whether a response has content, or the checksum of an empty body. One without may come from another server."""
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders") or {}
    return len(answer) > 1 or headers.get("x-amz-crc32") == CHECKSUM_OF_NOTHING


def check_answer(action: str, parameters: Mapping[str, Any], answer: Any) -> None:
    """Raise `RateLimiterUnavailable` unless a table gave this response to `action`; the response to an update has its stamp.

    If another server responded in the table's place, the effect of the request is unknown.
    """
    if not isinstance(answer, dict) or not all(
        is_right(answer.get(name), parameters) for name, is_right in _PARTS.get(action, ())
    ):
        raise RateLimiterUnavailable(f"{action} got a response that is not a DynamoDB response: {shown(answer)}")


def _are_written(attributes: object, parameters: Mapping[str, Any]) -> bool:
    written = isinstance(attributes, dict) and attributes.get(schema.STAMP_ATTRIBUTE)
    return bool(written == parameters["ExpressionAttributeValues"][":w"])


def _are_items(items: object, _: object) -> bool:
    return isinstance(items, list) and all(isinstance(item, dict) for item in items)


def _are_responses(responses: object, parameters: Mapping[str, Any]) -> bool:
    return isinstance(responses, dict) and all(_are_items(responses.get(table, []), None) for table in parameters["RequestItems"])


def _is_left(left: object, _: object) -> bool:
    return left is None or isinstance(left, dict)


def _are_unread(left: object, _: object) -> bool:
    return left is None or (
        isinstance(left, dict) and all(isinstance(each, dict) and _are_items(each.get("Keys"), None) for each in left.values())
    )


def _are_undeleted(left: object, _: object) -> bool:
    if left is None:
        return True
    if not isinstance(left, dict) or not all(_are_items(writes, None) for writes in left.values()):
        return False
    return all(isinstance((write.get("DeleteRequest") or {}).get("Key"), dict) for writes in left.values() for write in writes)


_PARTS: dict[str, tuple[tuple[str, Callable[[object, Mapping[str, Any]], bool]], ...]] = {
    "BatchGetItem": (("Responses", _are_responses), ("UnprocessedKeys", _are_unread)),
    "BatchWriteItem": (("UnprocessedItems", _are_undeleted),),
    "GetItem": (("Item", _is_left),),
    "Query": (("Items", _are_items), ("LastEvaluatedKey", _is_left)),
    "Scan": (("Items", _are_items), ("LastEvaluatedKey", _is_left)),
    "UpdateItem": (("Attributes", _are_written),),
}
"""What a response must contain, and what it may contain."""
