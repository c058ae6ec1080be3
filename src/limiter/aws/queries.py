"""The parameters of the calls that create a table, list its items, and link entities, by the layout of `schema`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.records import EntityKey, missing_ancestor
from .schema import (
    INDEX,
    INDEX_PARTITION_KEY,
    INDEX_SORT_KEY,
    PARENT_ATTRIBUTE,
    PARTITION_KEY,
    SORT_KEY,
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


def children_query(namespace: str, parent_id: str) -> dict[str, Any]:
    """Return the parameters of the Query that lists an entity's children."""
    return _index_query(namespace, "p", parent_id)


def limited_entities_query(namespace: str, resource: str) -> dict[str, Any]:
    """Return the parameters of the Query that lists the entities that have their own limits for a resource."""
    return _index_query(namespace, "r", resource)


def link_writes(
    table: str, namespace: str, record: EntityRecord, seen: Mapping[str, str | None], before: str | None, *, new: bool
) -> list[dict[str, Any]]:
    """Return the TransactItems that store an entity: a new one or one with the parent `before`, whose ancestors are as `seen`."""
    key = EntityKey(record.entity.entity_id)
    absent = {"ConditionExpression": "attribute_not_exists(#k)", "ExpressionAttributeNames": {"#k": PARTITION_KEY}}
    item = {"TableName": table, "Item": record_item(namespace, key, record)}
    writes = [{"Put": item | (absent if new else _has_parent(before))}]
    expected = {ancestor: _has_parent(parent) for ancestor, parent in seen.items()}
    missing = missing_ancestor(seen)
    if missing is not None:
        expected[missing] = absent  # If another process created it below the entity, the chain would be a ring.
    for ancestor, condition in expected.items():
        place = {"TableName": table, "Key": record_key(namespace, EntityKey(ancestor))}
        writes.append({"ConditionCheck": place | condition})
    return writes


def _key_schema(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


def _has_parent(parent: str | None) -> dict[str, Any]:
    names = {"#k": PARTITION_KEY, "#p": PARENT_ATTRIBUTE}
    if parent is None:
        return {
            "ConditionExpression": "attribute_exists(#k) AND attribute_not_exists(#p)",
            "ExpressionAttributeNames": names,
        }
    return {
        "ConditionExpression": "attribute_exists(#k) AND #p = :p",
        "ExpressionAttributeNames": names,
        "ExpressionAttributeValues": {":p": {"S": parent}},
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
