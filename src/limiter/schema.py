"""The table's layout: keys, and items to values and back. Nothing else knows an attribute's name.

One table, partition key `pk` and sort key `sk`, both strings. Every `pk` starts with the namespace and `#`, and no id may hold
`#`, so a principal can be confined to a namespace by `dynamodb:LeadingKeys` and no id can forge another's key.

| item | pk | sk | attributes |
|---|---|---|---|
| bucket | `namespace#entity` | `b#resource` | `t:limit`, `s:limit`, `b:limit` (tat, since, booked), `w` (stamp), `ttl` |

The index `listing` (keys `lpk`, `lsk`, keys only) serves listings for people. A bucket carries neither key, so no write to a
bucket touches the index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .exceptions import UnreadableItem
from .state import ABSENT, TTL, BucketState, Update

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .state import Level

Item = dict[str, dict[str, Any]]
"""An item in DynamoDB's own notation, such as `{"pk": {"S": "default#user-42"}}`."""

PARTITION_KEY, SORT_KEY = "pk", "sk"
INDEX, INDEX_PARTITION_KEY, INDEX_SORT_KEY = "listing", "lpk", "lsk"
TTL_ATTRIBUTE, STAMP_ATTRIBUTE = "ttl", "w"
_PREFIX = {"tat": "t:", "since": "s:", "booked": "b:"}
_FIELD = {prefix: name for name, prefix in _PREFIX.items()}


class BucketKey(NamedTuple):
    """Which bucket: a namespace, an entity and a resource."""

    namespace: str
    entity_id: str
    resource: str


def table_definition(table_name: str) -> dict[str, Any]:
    """The parameters of CreateTable that give the table of the CloudFormation template."""
    keys = (PARTITION_KEY, SORT_KEY, INDEX_PARTITION_KEY, INDEX_SORT_KEY)
    return {
        "TableName": table_name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": key, "AttributeType": "S"} for key in keys],
        "KeySchema": _key_schema(PARTITION_KEY, SORT_KEY),
        "GlobalSecondaryIndexes": [
            {
                "IndexName": INDEX,
                "KeySchema": _key_schema(INDEX_PARTITION_KEY, INDEX_SORT_KEY),
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    }


def bucket_key(key: BucketKey) -> Item:
    """The primary key of a bucket's item."""
    return {PARTITION_KEY: {"S": f"{key.namespace}#{key.entity_id}"}, SORT_KEY: {"S": f"b#{key.resource}"}}


def namespace_key(namespace: str) -> Item:
    """The primary key of a namespace's own item."""
    return {PARTITION_KEY: {"S": f"{namespace}#"}, SORT_KEY: {"S": "l"}}


def bucket_state(item: Mapping[str, Any] | None) -> BucketState:
    """The state that a bucket's item holds; a missing item is an empty bucket.

    Raises `UnreadableItem`, naming the key, when an attribute has a wrong type or a number is not an integer.
    """
    if not item:
        return BucketState()
    levels: dict[str, Level] = {}
    try:
        for attribute, value in item.items():
            name = _FIELD.get(attribute[:2])
            if name:
                levels[attribute[2:]] = levels.get(attribute[2:], ABSENT)._replace(**{name: int(value["N"])})
        ttl = item.get(TTL_ATTRIBUTE)
        stamp = item.get(STAMP_ATTRIBUTE)
        return BucketState(levels, int(ttl["N"]) if ttl else -1, stamp["S"] if stamp else "")
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableItem(f"the bucket {_shown_key(item)} holds an attribute of a wrong type; delete the item") from error


def update_parameters(update: Update) -> dict[str, Any]:
    """The parameters of UpdateItem, but for the table's name and the key, that perform `update`."""
    names: dict[str, str] = {}
    values: dict[str, dict[str, str]] = {":w": {"S": update.stamp}}

    def attribute(limit: str, field: str) -> str:
        full = TTL_ATTRIBUTE if limit == TTL else _PREFIX[field] + limit
        return names.setdefault(full, f"#{len(names)}")

    def number(value: int) -> str:
        values[placeholder := f":{len(values)}"] = {"N": str(value)}
        return placeholder

    def condition(limit: str, field: str, low: int | None, high: int | None, absent: bool) -> str:
        name = attribute(limit, field)
        if low is None:
            text = f"{name} <= {number(high)}" if high is not None else ""
        elif high is None:
            text = f"{name} >= {number(low)}"
        else:
            text = f"{name} = {number(low)}" if low == high else f"{name} BETWEEN {number(low)} AND {number(high)}"
        return f"(attribute_not_exists({name}) OR {text})" if absent else text

    def change(limit: str, field: str, base: str | None, value: int) -> str:
        if base is None:
            return f"{attribute(limit, field)} = {number(value)}"
        sign, size = ("-", -value) if value < 0 else ("+", value)
        return f"{attribute(limit, field)} = {attribute(limit, base)} {sign} {number(size)}"

    stamp = names.setdefault(STAMP_ATTRIBUTE, "#w")
    conditions = [f"(attribute_not_exists({stamp}) OR {stamp} <> :w)", *(condition(*each) for each in update.conditions)]
    changes = [f"{stamp} = :w", *(change(*each) for each in update.changes)]
    return {
        "ConditionExpression": " AND ".join(conditions),
        "UpdateExpression": f"SET {', '.join(changes)}",
        "ExpressionAttributeNames": {placeholder: name for name, placeholder in names.items()},
        "ExpressionAttributeValues": values,
    }


def _key_schema(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


def _shown_key(item: Mapping[str, Any]) -> str:
    return "/".join(str(item.get(key, {}).get("S", "?")) for key in (PARTITION_KEY, SORT_KEY))
