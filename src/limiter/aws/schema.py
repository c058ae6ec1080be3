"""The table's layout: keys, and items to values and back. Nothing else knows an attribute's name.

One table, partition key `pk` and sort key `sk`, both strings. Every `pk` starts with the namespace and `#`, and no id may hold
`#`, so a principal can be confined to a namespace by `dynamodb:LeadingKeys` and no id can forge another's key.

| item | pk | sk | attributes |
|---|---|---|---|
| bucket | `namespace#entity` | `b#resource` | `t:` `s:` `b:` `f:` + limit (tat, since, booked, floor), `w` (stamp), `ttl` |
| entity | `namespace#entity` | `e` | `v`, `parent`, `cascade`, `name`, `metadata`, `ancestors` |
| entity's limits for a resource | `namespace#entity` | `l#resource` | `v`, `limits` |
| entity's limits for any resource | `namespace#entity` | `l` | `v`, `limits` |
| resource's limits | `namespace#` | `l#resource` | `v`, `limits` |
| namespace's limits | `namespace#` | `l` | `v`, `limits` |

The index `listing` (keys `lpk`, `lsk`, keys only) serves listings for people: an entity with a parent stands under
`namespace#p#parent`, an entity's limits for a resource under `namespace#r#resource`. A bucket carries neither key, so no write
to a bucket touches the index. `v` is the version of an item's layout; a higher one than this version's is not read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..core.limits import Access, Limit, check_level
from ..core.records import BucketKey, EntityKey, EntityRecord, LimitsKey, missing_ancestor
from ..core.state import TTL, BucketState, Level, Update
from ..core.validation import check_name, shown
from ..exceptions import UnreadableItem, ValidationError
from ..models import Entity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..core.records import Record, RecordKey

Item = dict[str, dict[str, Any]]
"""An item in DynamoDB's own notation, such as `{"pk": {"S": "default#user-42"}}`."""

PARTITION_KEY, SORT_KEY = "pk", "sk"
INDEX, INDEX_PARTITION_KEY, INDEX_SORT_KEY = "listing", "lpk", "lsk"
TTL_ATTRIBUTE, STAMP_ATTRIBUTE = "ttl", "w"
VERSION = 1
"""The newest layout of records that this version reads, and the one that it writes."""
_VERSION = "v"
_PREFIX = {"tat": "t:", "since": "s:", "booked": "b:", "floor": "f:"}
_INTEGER = re.compile("-?[0-9]{1,38}")  # DynamoDB keeps 38 digits
_FIELD = {prefix: name for name, prefix in _PREFIX.items()}


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
    return _key(key.namespace, key.entity_id, _joined("b", key.resource))


def bucket_state(item: dict[str, Any] | None) -> BucketState:
    """The state that a bucket's item holds; a missing item is an empty bucket.

    An attribute of a wrong type, or a number that is no integer, makes the limit that it belongs to unreadable, and no other.
    """
    if not isinstance(item, dict | None):
        raise UnreadableItem(f"the table's answer holds {shown(item)} in place of a bucket")
    fields: dict[str, dict[str, int]] = {}
    unreadable: dict[str, str] = {}
    ttl = -1
    for attribute, value in (item or {}).items():
        # No limit is without a name, which would stand for the `ttl` besides.
        name = _FIELD.get(attribute[:2]) if len(attribute) > 2 else None
        try:
            if name:
                fields.setdefault(attribute[2:], {})[name] = _integer(value)
            elif attribute == TTL_ATTRIBUTE:
                ttl = _integer(value)
        except (KeyError, TypeError, ValueError):
            text = f"attribute {shown(attribute)} of the bucket {_shown_key(item)} is no integer: delete the item"
            unreadable[attribute[2:] if name else TTL] = text
    levels = {name: Level(**numbers) for name, numbers in fields.items()}
    return BucketState(levels, ttl, _text(item, STAMP_ATTRIBUTE) or "", unreadable)


def stamp(attributes: object) -> str | None:
    """The stamp in a bucket's attributes; None where there is none, or where these are no attributes."""
    return _text(attributes, STAMP_ATTRIBUTE)


def update_parameters(update: Update) -> dict[str, Any]:
    """The parameters of UpdateItem, but for the table's name and the key, that perform `update`."""
    names: dict[str, str] = {}
    values: dict[str, dict[str, str]] = {":w": {"S": update.stamp}}

    def attribute(limit: str, field: str) -> str:
        full = TTL_ATTRIBUTE if limit == TTL else _PREFIX[field] + limit
        return names.setdefault(full, f"#{len(names)}")

    def number(value: int) -> str:
        # Not `str`, which would store a float, and make the bucket unreadable for everybody.
        values[placeholder := f":{len(values)}"] = {"N": int.__repr__(value)}
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


def record_key(namespace: str, key: RecordKey) -> Item:
    """The primary key of a record's item."""
    if isinstance(key, EntityKey):
        return _key(namespace, key.entity_id, "e")
    return _key(namespace, key.entity_id or "", "l" if key.resource is None else _joined("l", key.resource))


def record_item(namespace: str, key: RecordKey, record: Record) -> Item:
    """The item that stores a record."""
    item = record_key(namespace, key) | {_VERSION: {"N": str(VERSION)}}
    if isinstance(record, Access):
        raise ValidationError(f"{record!r} cannot be stored in a table yet; pass it as limits= of a call or of the limiter")
    if isinstance(record, EntityRecord):
        return item | _entity_attributes(namespace, record)
    if isinstance(key, LimitsKey) and key.entity_id is not None and key.resource is not None:
        item |= _listed(_joined(namespace, "r", key.resource), key.entity_id)
    return item | {"limits": {"L": [_limit_attribute(limit) for limit in record]}}


def record_value(item: Mapping[str, Any] | None) -> Record | UnreadableItem | None:
    """The record that an item stores, None for a missing item, or the error that says why it cannot be read."""
    if not item:
        return None
    try:
        version = _integer(item[_VERSION])
        if version > VERSION:
            return UnreadableItem(f"item {_shown_key(item)} was written by a newer version of the limiter: upgrade this one")
        if version < 1:
            raise ValueError("no version of the limiter has written it")
        return _limits_value(item) if item_key(item)[1].startswith("l") else _entity_value(item)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, UnreadableItem) as error:
        # Cut, since what is wrong may be long.
        return UnreadableItem(f"item {_shown_key(item)} makes no sense ({error!r:.300}): write it anew or delete it")


def item_key(item: Mapping[str, Any]) -> tuple[str, str]:
    """An item's primary key as plain strings; raises `UnreadableItem` for what is no item of a table."""
    partition, sort = _text(item, PARTITION_KEY), _text(item, SORT_KEY)
    if partition is None or sort is None:
        raise UnreadableItem(f"the table's answer holds an item without a key: {shown(item)}")
    return partition, sort


def limits_key(item: Mapping[str, Any]) -> LimitsKey | None:
    """The level of limits that an item stores; None for an item of another kind."""
    kind, mark, resource = item_key(item)[1].partition("#")
    return LimitsKey(entity_of(item) or None, resource if mark else None) if kind == "l" else None


def entity_of(item: Mapping[str, Any]) -> str:
    """The entity that an item belongs to; empty for the items of a whole namespace."""
    return item_key(item)[0].partition("#")[2]


def namespace_of(item: Mapping[str, Any]) -> str:
    """The namespace that an item belongs to."""
    return item_key(item)[0].partition("#")[0]


def children_query(namespace: str, parent_id: str) -> dict[str, Any]:
    """The parameters of the Query that lists an entity's children."""
    return _index_query(namespace, "p", parent_id)


def limited_entities_query(namespace: str, resource: str) -> dict[str, Any]:
    """The parameters of the Query that lists the entities with limits of their own for a resource."""
    return _index_query(namespace, "r", resource)


def partition_query(namespace: str, entity_id: str, prefix: str) -> dict[str, Any]:
    """The parameters of the Query that lists the sort keys of an entity's items that begin with `prefix`."""
    return {
        "KeyConditionExpression": "#0 = :0 AND begins_with(#1, :1)",
        "ProjectionExpression": "#0, #1",
        "ExpressionAttributeNames": {"#0": PARTITION_KEY, "#1": SORT_KEY},
        "ExpressionAttributeValues": {":0": {"S": _joined(namespace, entity_id)}, ":1": {"S": prefix}},
        "ConsistentRead": True,
    }


def keys_scan(namespace: str | None = None) -> dict[str, Any]:
    """The parameters of the Scan that reads the keys of all items, or of one namespace's."""
    names = {"#0": PARTITION_KEY, "#1": SORT_KEY}
    scan: dict[str, Any] = {"ProjectionExpression": "#0, #1", "ExpressionAttributeNames": names, "ConsistentRead": True}
    if namespace is not None:
        values = {":0": {"S": _joined(namespace, "")}}
        scan |= {"FilterExpression": "begins_with(#0, :0)", "ExpressionAttributeValues": values}
    return scan


def buckets_scan(namespace: str) -> dict[str, Any]:
    """The parameters of the Scan that reads all buckets of a namespace, at half the price of a consistent one."""
    return {
        "FilterExpression": "begins_with(#0, :0) AND begins_with(#1, :1)",
        "ExpressionAttributeNames": {"#0": PARTITION_KEY, "#1": SORT_KEY},
        "ExpressionAttributeValues": {":0": {"S": _joined(namespace, "")}, ":1": {"S": _joined("b", "")}},
    }


def resource_of(item: Mapping[str, Any]) -> str:
    """The resource that a bucket's item belongs to."""
    return item_key(item)[1].partition("#")[2]


def entity_key(item: Mapping[str, Any]) -> EntityKey | None:
    """The entity that an item stores; None for an item of another kind."""
    return EntityKey(entity_of(item)) if item_key(item)[1] == "e" else None


def link_writes(
    table: str, namespace: str, record: EntityRecord, seen: Mapping[str, str | None], before: str | None, *, new: bool
) -> list[dict[str, Any]]:
    """The TransactItems that store an entity, if it is new, or still has the parent `before`, and all ancestors are as `seen`."""
    key = EntityKey(record.entity.entity_id)
    absent = {"ConditionExpression": "attribute_not_exists(#k)", "ExpressionAttributeNames": {"#k": PARTITION_KEY}}
    item = {"TableName": table, "Item": record_item(namespace, key, record)}
    writes = [{"Put": item | (absent if new else _has_parent(before))}]
    expected = {ancestor: _has_parent(parent) for ancestor, parent in seen.items()}
    missing = missing_ancestor(seen)
    if missing is not None:
        expected[missing] = absent  # Were it created below the entity meanwhile, the chain would be a ring.
    for ancestor, condition in expected.items():
        place = {"TableName": table, "Key": record_key(namespace, EntityKey(ancestor))}
        writes.append({"ConditionCheck": place | condition})
    return writes


def _key_schema(partition: str, sort: str) -> list[dict[str, str]]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]


def _shown_key(item: object) -> str:
    text = "/".join(_text(item, key) or "?" for key in (PARTITION_KEY, SORT_KEY))
    return text if text.isprintable() else ascii(text)


def _text(item: object, name: str) -> str | None:
    value = item.get(name) if isinstance(item, dict) else None
    text = value.get("S") if isinstance(value, dict) else None
    return text if isinstance(text, str) else None


def _string(value: Mapping[str, Any]) -> str:
    text = value["S"]
    if not isinstance(text, str):
        raise TypeError(f"{shown(text)} is no string")
    return text


def _integer(value: Mapping[str, Any]) -> int:
    # Stricter than int(), which also takes blanks, underlines and what is no string.
    text = value["N"]
    if not _INTEGER.fullmatch(text):
        raise ValueError(f"{shown(text)} is no integer")
    return int(text)


def _has_parent(parent: str | None) -> dict[str, Any]:
    names = {"#k": PARTITION_KEY, "#p": "parent"}
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


def _key(namespace: str, entity_id: str, sort: str) -> Item:
    return {PARTITION_KEY: {"S": _joined(namespace, entity_id)}, SORT_KEY: {"S": sort}}


def _joined(*parts: str) -> str:
    # Not formatted: a subclass of str may show another text than the one that was checked, as members of an Enum do.
    return "#".join(parts)


def _listed(partition: str, sort: str) -> Item:
    return {INDEX_PARTITION_KEY: {"S": partition}, INDEX_SORT_KEY: {"S": sort}}


def _index_query(namespace: str, kind: str, name: str) -> dict[str, Any]:
    # A policy confines where an item stands in the table, and not where it says to stand in the index.
    return {
        "IndexName": INDEX,
        "KeyConditionExpression": "#0 = :0",
        "FilterExpression": "begins_with(#1, :1)",
        "ExpressionAttributeNames": {"#0": INDEX_PARTITION_KEY, "#1": PARTITION_KEY},
        "ExpressionAttributeValues": {":0": {"S": _joined(namespace, kind, name)}, ":1": {"S": _joined(namespace, "")}},
    }


def _limit_attribute(limit: Limit) -> dict[str, Any]:
    # Converted, since a subclass such as IntEnum shows another text than its number.
    numbers = {"capacity": int(limit.capacity), "amount": int(limit.refill_amount), "period": float(limit.refill_period)}
    return {"M": {"name": {"S": limit.name}} | {name: {"N": repr(number)} for name, number in numbers.items()}}


def _limits_value(item: Mapping[str, Any]) -> tuple[Limit, ...]:
    limits = []
    for attribute in item["limits"]["L"]:
        fields = attribute["M"]
        capacity, amount = (_integer(fields[name]) for name in ("capacity", "amount"))
        limits.append(Limit(_string(fields["name"]), capacity, amount, float(fields["period"]["N"])))
    return check_level(limits)


def _entity_attributes(namespace: str, record: EntityRecord) -> Item:
    entity = record.entity
    attributes: Item = {"cascade": {"BOOL": entity.cascade}}
    if entity.name is not None:
        attributes["name"] = {"S": entity.name}
    if entity.metadata:
        attributes["metadata"] = {"M": {key: {"S": value} for key, value in entity.metadata.items()}}
    if entity.parent_id is not None:
        attributes |= _listed(_joined(namespace, "p", entity.parent_id), entity.entity_id)
        attributes["parent"] = {"S": entity.parent_id}
        attributes["ancestors"] = {"L": [{"S": ancestor} for ancestor in record.ancestors]}
    return attributes


def _entity_value(item: Mapping[str, Any]) -> EntityRecord:
    cascade = item["cascade"]["BOOL"]
    if not isinstance(cascade, bool):
        raise TypeError(f"{shown(cascade)} is no boolean")
    entity = Entity(
        entity_of(item),
        parent_id=check_name("parent", item["parent"]["S"]) if "parent" in item else None,
        cascade=cascade,
        name=_string(item["name"]) if "name" in item else None,
        metadata={key: _string(value) for key, value in item["metadata"]["M"].items()} if "metadata" in item else {},
    )
    ancestors = tuple(check_name("ancestor", each["S"]) for each in item["ancestors"]["L"]) if "ancestors" in item else ()
    return EntityRecord(entity, ancestors)
