"""The parameters of the calls that create a table, list its items, and link entities, by the layout of `schema`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.records import EntityKey, missing_ancestor
from .schema import (
    INDEX,
    INDEX_PARTITION_KEY,
    INDEX_SORT_KEY,
    PARENT_ATTRIBUTE,
    PARTITION_KEY,
    SORT_KEY,
    STAMP_ATTRIBUTE,
    TTL_ATTRIBUTE,
    VERSION_ATTRIBUTE,
    Item,
    joined,
    record_item,
    record_key,
    within,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..core.records import EntityRecord


def table_definition(table_name: str) -> dict[str, Any]:
    """Return the parameters of CreateTable for the same table as in the CloudFormation template."""
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


def partition_query(namespace: str, entity_id: str, prefix: str) -> dict[str, Any]:
    """Return the parameters of the Query that lists the sort keys of an entity's items that begin with `prefix`."""
    return {
        "KeyConditionExpression": "#0 = :0 AND begins_with(#1, :1)",
        "ProjectionExpression": "#0, #1",
        "ExpressionAttributeNames": {"#0": PARTITION_KEY, "#1": SORT_KEY},
        "ExpressionAttributeValues": {":0": {"S": within(namespace, entity_id)}, ":1": {"S": prefix}},
        "ConsistentRead": True,
    }


def keys_scan(namespace: str | None = None) -> dict[str, Any]:
    """Return the parameters of the Scan that reads the keys of all items, or of one namespace's."""
    names = {"#0": PARTITION_KEY, "#1": SORT_KEY}
    scan: dict[str, Any] = {"ProjectionExpression": "#0, #1", "ExpressionAttributeNames": names, "ConsistentRead": True}
    if namespace is not None:
        values = {":0": {"S": within(namespace, "")}}
        scan |= {"FilterExpression": "begins_with(#0, :0)", "ExpressionAttributeValues": values}
    return scan


def buckets_scan(namespace: str) -> dict[str, Any]:
    """Return the parameters of the Scan that reads all buckets of a namespace, at half the price of a consistent one."""
    return {
        "FilterExpression": "begins_with(#0, :0) AND begins_with(#1, :1)",
        "ExpressionAttributeNames": {"#0": PARTITION_KEY, "#1": SORT_KEY},
        "ExpressionAttributeValues": {":0": {"S": within(namespace, "")}, ":1": {"S": joined("b", "")}},
    }


def expired_scan(seconds: int, segment: int, segments: int) -> dict[str, Any]:
    """Return the parameters of the Scan that reads the keys and the `ttl` of items that expired before a time; all namespaces."""
    return {
        "Segment": segment,
        "TotalSegments": segments,
        "ProjectionExpression": "#0, #1, #t",
        "FilterExpression": "#t < :t",
        "ExpressionAttributeNames": {"#0": PARTITION_KEY, "#1": SORT_KEY, "#t": TTL_ATTRIBUTE},
        "ExpressionAttributeValues": {":t": {"N": str(seconds)}},
    }


def expired_deletion(table: str, item: Item) -> dict[str, Any]:
    """Return the DeleteItem for an item of that Scan, unless its `ttl` has moved since; an absent item is no failure."""
    return {
        "TableName": table,
        "Key": {name: item[name] for name in (PARTITION_KEY, SORT_KEY)},
        "ConditionExpression": "#t = :t OR attribute_not_exists(#0)",
        "ExpressionAttributeNames": {"#0": PARTITION_KEY, "#t": TTL_ATTRIBUTE},
        "ExpressionAttributeValues": {":t": item[TTL_ATTRIBUTE]},
    }


def children_query(namespace: str, parent_id: str) -> dict[str, Any]:
    """Return the parameters of the Query that lists an entity's children."""
    return _index_query(namespace, "p", parent_id)


def limited_entities_query(namespace: str, resource: str) -> dict[str, Any]:
    """Return the parameters of the Query that lists the entities that have their own limits for a resource."""
    return _index_query(namespace, "r", resource)


def entity_key(namespace: str, entity_id: str) -> Item:
    """Return the primary key of an entity's item."""
    return record_key(namespace, EntityKey(entity_id))


def ancestors(seen: Mapping[str, str | None]) -> list[str]:
    """Return the entities that a link reads: the ancestors, and the one that the last of them names and that must not exist.

    If another process created it below the entity, the chain would be a ring.
    """
    missing = missing_ancestor(seen)
    return [*seen] if missing is None else [*seen, missing]


class LinkWrites(NamedTuple):
    """The parameters of the writes that store an entity in a chain; the mark `own` tells this link from others."""

    table: str
    namespace: str
    record: EntityRecord
    own: str

    def put(self, before: str | None, *, new: bool) -> dict[str, Any]:
        """Return the PutItem that stores the entity if it is `new` or has the parent `before`."""
        return self._item() | (_ABSENT if new else _has_parent(before))

    def mark(self, before: str | None, *, new: bool) -> dict[str, Any]:
        """Return the UpdateItem that marks the entity, under the same condition."""
        return _with_mark(self._place(self.record.entity.entity_id), self.own, _ABSENT if new else _has_parent(before))

    def unmark(self, entity_id: str, mark: str) -> dict[str, Any]:
        """Return the UpdateItem that removes another link's mark from a stored entity."""
        return _with_mark(self._place(entity_id), "", _has_mark(mark))

    def put_marked(self) -> dict[str, Any]:
        """Return the PutItem that stores the entity if it has this link's mark."""
        return self._item() | _has_mark(self.own)

    def remove_mark(self, entity_id: str, mark: str) -> dict[str, Any]:
        """Return the DeleteItem for an entity that has this mark and is not stored."""
        condition = _has_mark(mark)
        condition["ConditionExpression"] += f" AND {_ABSENT['ConditionExpression']}"
        condition["ExpressionAttributeNames"] |= _ABSENT["ExpressionAttributeNames"]
        return self._place(entity_id) | condition

    def _item(self) -> dict[str, Any]:
        key = EntityKey(self.record.entity.entity_id)
        return {"TableName": self.table, "Item": record_item(self.namespace, key, self.record)}

    def _place(self, entity_id: str) -> dict[str, Any]:
        return {"TableName": self.table, "Key": entity_key(self.namespace, entity_id)}


def _key_schema(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


_ABSENT: dict[str, Any] = {
    "ConditionExpression": "attribute_not_exists(#v)",
    "ExpressionAttributeNames": {"#v": VERSION_ATTRIBUTE},
}
"""The condition that an entity is not stored; it may be marked."""


def _has_parent(parent: str | None) -> dict[str, Any]:
    names = {"#v": VERSION_ATTRIBUTE, "#p": PARENT_ATTRIBUTE}
    if parent is None:
        return {
            "ConditionExpression": "attribute_exists(#v) AND attribute_not_exists(#p)",
            "ExpressionAttributeNames": names,
        }
    return {
        "ConditionExpression": "attribute_exists(#v) AND #p = :p",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": {":p": {"S": parent}},
    }


def _has_mark(mark: str) -> dict[str, Any]:
    return {
        "ConditionExpression": "#w = :m",
        "ExpressionAttributeNames": {"#w": STAMP_ATTRIBUTE},
        "ExpressionAttributeValues": {":m": {"S": mark}},
    }


def _with_mark(place: dict[str, Any], mark: str, condition: dict[str, Any]) -> dict[str, Any]:
    names = condition["ExpressionAttributeNames"] | {"#w": STAMP_ATTRIBUTE}
    values = condition.get("ExpressionAttributeValues", {}) | {":w": {"S": mark}}
    return {
        **place,
        **condition,
        "UpdateExpression": "SET #w = :w",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": values,
        "ReturnValues": "ALL_NEW",
    }


def _index_query(namespace: str, kind: str, name: str) -> dict[str, Any]:
    # A policy restricts an item's key in the table, but not its keys in the index.
    return {
        "IndexName": INDEX,
        "KeyConditionExpression": "#0 = :0",
        "FilterExpression": "begins_with(#1, :1)",
        "ExpressionAttributeNames": {"#0": INDEX_PARTITION_KEY, "#1": PARTITION_KEY},
        "ExpressionAttributeValues": {":0": {"S": within(namespace, kind, name)}, ":1": {"S": within(namespace, "")}},
    }
