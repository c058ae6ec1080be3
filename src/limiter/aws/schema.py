"""The table's layout: keys, and items to values and back. Nothing else knows an attribute's name.

One table, partition key `pk` and sort key `sk`, both strings. Every `pk` starts with the namespace and `#`. A `#` within a
namespace is escaped (as `%23`), so the first one ends it: a principal can be confined to a namespace by `dynamodb:LeadingKeys`,
and no id can forge another's key. Other ids stand as they are, since each is the last part of its key.

| item | pk | sk | attributes |
|---|---|---|---|
| bucket | `namespace#entity` | `b#resource` | see below |
| entity | `namespace#entity` | `e` | `v`, `parent`, `cascade`, `name`, `metadata`, `ancestors`, `w` |
| entity's limits for a resource | `namespace#entity` | `l#resource` | `v`, and see below |
| entity's limits for any resource | `namespace#entity` | `l` | the same |
| resource's limits | `namespace#` | `l#resource` | the same |
| namespace's limits | `namespace#` | `l` | the same |

The attributes of a bucket, all numbers but for the marks and the stamps:

| attribute | what |
|---|---|
| `t:` `s:` `b:` `f:` + identity of a limit | its level: tat, or units used; since; booked; floor |
| `m:` + name of a limit | what the units of its account born last are counted by: the identity without the name |
| `h:` + name of a concurrency limit | slots held in all |
| `c:` + holder's id (8 characters) + name | until when a process holds slots, in ms, times 1,000,000, plus how many |
| `g` | the fence: the last number drawn by a write that took slots |
| `x` | the time up to which nothing is allowed |
| `n` | the count: 100,000,000 for each attempt to write to the bucket, plus the level of the fleet's interval; see ADR-186 |
| `w` `w2` `w3` | the stamps of the last write and of the two before it |
| `ttl` | seconds since the epoch after which the item is not needed |

A level of limits holds `limits`, a list of maps with the `name` of a limit and `limit`, the rest of its text; or `access`, which
is "unlimited" or "blocked". With a schedule it also holds `schedule`: maps with `when`, `zone`, and `limits` or `access`.

An entity's `w` is the mark of a link that is under way, and may be empty. An item with `w` and without `v` is not an entity yet.

The index `listing` (keys `lpk`, `lsk`, keys only) serves listings for people: an entity with a parent stands under
`namespace#p#parent`, an entity's limits for a resource under `namespace#r#resource`. A bucket carries neither key, so no write
to a bucket touches the index. `v` is the version of an item's layout; a higher one than this version's is not read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ..core.limits import Access, check_level, read_limit, text_of
from ..core.limits.births import measure
from ..core.records import BucketKey, EntityKey, EntityRecord, LimitsKey, ScheduledLimits, scheduled
from ..core.schedule import Schedule, check_schedule
from ..core.slots import NO_SLOTS
from ..core.state import ABSENT as ABSENT_LEVEL
from ..core.state import COUNT, EMPTY, MARK, PAUSED, TTL, BucketState, Level, Update
from ..core.validation import check_name, shown
from ..core.visible import visible
from ..exceptions import UnreadableItem
from ..models import Entity
from .expressions import ABSENT, BETWEEN, EQUAL, FROM, UP_TO, texts
from .slots import SLOTS, read_slots, write_slots

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..core.records import Record, RecordKey
    from ..core.schedule import Limits

Item = dict[str, dict[str, Any]]
"""An item in DynamoDB's own notation, such as `{"pk": {"S": "default#user-42"}}`."""

PARTITION_KEY, SORT_KEY = "pk", "sk"
INDEX, INDEX_PARTITION_KEY, INDEX_SORT_KEY = "listing", "lpk", "lsk"
TTL_ATTRIBUTE, STAMP_ATTRIBUTE, PAUSE_ATTRIBUTE, COUNT_ATTRIBUTE = "ttl", "w", "x", "n"
STAMP_ATTRIBUTES = (STAMP_ATTRIBUTE, "w2", "w3")
"""Those of the last three writes, the last one first."""
_NO_STAMP = {"S": ""}
PARENT_ATTRIBUTE = "parent"
VERSION = 1
"""The newest layout of records that this version reads, and the one that it writes."""
VERSION_ATTRIBUTE = "v"
_PREFIX = {"tat": "t:", "since": "s:", "booked": "b:", "floor": "f:", "mark": MARK}
_UNREADABLE = {TTL_ATTRIBUTE: TTL, PAUSE_ATTRIBUTE: PAUSED, COUNT_ATTRIBUTE: COUNT}
_OF_BUCKET = {"ttl": TTL_ATTRIBUTE, "paused": PAUSE_ATTRIBUTE, "count": COUNT_ATTRIBUTE}
_OF_BUCKET |= zip(("stamp", "second", "third"), STAMP_ATTRIBUTES, strict=True)
_ESCAPED = re.compile("%(23|25)")
"""A `#` or `%` in the namespace of a key. A `%` stands for itself unless it would read as one of these."""
_DIGITS = 38
"""What DynamoDB keeps of a number."""
_FIELD = {prefix: Level._fields.index(name) for name, prefix in _PREFIX.items() if name in Level._fields}


def bucket_key(key: BucketKey) -> Item:
    """Return the primary key of a bucket's item."""
    return _key(key.namespace, key.entity_id, "b#" + key.resource)


def bucket_state(item: dict[str, Any] | None) -> BucketState:
    """Return the state that a bucket's item holds; a missing item is an empty bucket.

    An attribute of a wrong type, or a number that is no integer, makes the limit that it belongs to unreadable, and no other.
    """
    if not isinstance(item, dict | None):
        raise UnreadableItem(f"the table's answer holds {shown(item)} in place of a bucket")
    fields: dict[str, list[int]] = {}
    marks: dict[str, str] = {}
    slots: dict[str, Any] = {}
    unreadable: dict[str, str] = {}
    numbers = {TTL_ATTRIBUTE: EMPTY.ttl, PAUSE_ATTRIBUTE: EMPTY.paused, COUNT_ATTRIBUTE: EMPTY.count}
    for attribute, value in (item or {}).items():
        # Every limit has a name; an empty one would address the `ttl`.
        kind, name = attribute[:2], attribute[2:]
        place = _FIELD.get(kind) if name else None
        try:
            if place is not None:
                if name not in fields:
                    fields[name] = list(ABSENT_LEVEL)
                fields[name][place] = _integer(value)
            elif attribute in numbers:
                numbers[attribute] = _integer(value)
            elif kind == MARK and name:
                marks[name] = f"{name}|{_string(value)}"
            elif kind in SLOTS:
                slots[attribute] = value
        except (KeyError, TypeError, ValueError):
            text = "no text" if kind == MARK else "no integer"
            text = f"attribute {shown(attribute)} of the bucket {_shown_key(item)} is {text}: delete the item"
            unreadable[name if place is not None else _UNREADABLE.get(attribute, attribute)] = text
    levels = {name: Level(*level) for name, level in fields.items()}
    held = read_slots(slots, _integer, unreadable, _shown_key(item)) if slots else NO_SLOTS
    stamp, second, third = [_text(item, each) or "" for each in STAMP_ATTRIBUTES]
    ttl, paused, count = numbers.values()
    return BucketState(levels, ttl, stamp, unreadable, paused, marks, (second, third), held, count)


def bucket_update(key: BucketKey, update: Update) -> dict[str, Any]:
    """Return the parameters of UpdateItem for `update`, without the table's name; it returns the item in either case."""
    return update_parameters(update) | {
        "Key": bucket_key(key),
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


def update_parameters(update: Update) -> dict[str, Any]:
    """Return the parameters of UpdateItem for `update`, without the table's name and the key."""
    requirements, numbers = [], []
    for limit, field, low, high, absent in update.conditions:
        if low is None:
            form = ABSENT if high is None else UP_TO
        else:
            form = FROM if high is None else EQUAL if low == high else BETWEEN
            numbers.append(low)
        if high is not None and form != EQUAL:
            numbers.append(high)
        requirements.append((limit, field, form, absent and form != ABSENT))
    steps = []
    for limit, field, base, value in update.changes:
        less = base is not None and value < 0
        numbers.append(-value if less else value)
        steps.append((limit, field, base, less))
    marks = tuple([(name, seen is not None, seen != new, absent) for name, seen, absent, new in update.marks])
    shape = texts(_attribute, tuple(requirements), tuple(steps), marks, update.removals, bool(update.count))
    # Not `str`, which would store a float, and make the bucket unreadable for every process.
    if update.count:
        numbers.insert(0, update.count)
    values = [{"S": update.stamp}, _NO_STAMP, *[{"N": int.__repr__(number)} for number in numbers]]
    for _, seen, _, new in update.marks:
        values += [{"S": measure(each)} for each in ([new] if seen in (None, new) else [new, seen])]
    parameters = {
        "ConditionExpression": shape.condition,
        "UpdateExpression": shape.update,
        "ExpressionAttributeNames": dict(shape.names),
        "ExpressionAttributeValues": dict(zip(shape.values, values, strict=True)),
    }
    if update.slots:
        write_slots(parameters, update.slots)
    return parameters


def record_key(namespace: str, key: RecordKey) -> Item:
    """Return the primary key of a record's item."""
    if isinstance(key, EntityKey):
        return _key(namespace, key.entity_id, "e")
    return _key(namespace, key.entity_id or "", "l" if key.resource is None else joined("l", key.resource))


def record_item(namespace: str, key: RecordKey, record: Record) -> Item:
    """Return the item that stores a record."""
    item = record_key(namespace, key) | {VERSION_ATTRIBUTE: {"N": str(VERSION)}}
    if isinstance(record, EntityRecord):
        return item | _entity_attributes(namespace, record)
    if isinstance(key, LimitsKey) and key.entity_id is not None and key.resource is not None:
        item |= _listed(within(namespace, "r", key.resource), key.entity_id)
    if isinstance(record, ScheduledLimits):
        return item | _level_attributes(record.plain) | {"schedule": _schedule_attribute(record.schedule)}
    return item | _level_attributes(record)


def record_value(item: Mapping[str, Any] | None) -> Record | UnreadableItem | None:
    """Return the record that an item stores, None for a missing item, or the error that prevents reading it."""
    if not item or _is_only_marked(item):
        return None
    try:
        version = _integer(item[VERSION_ATTRIBUTE])
        if version > VERSION:
            return UnreadableItem(f"item {_shown_key(item)} was written by a newer version of the limiter: upgrade this one")
        if version < 1:
            raise ValueError("it was not written by any version of the limiter")
        return _limits_value(item) if item_key(item)[1].startswith("l") else _entity_value(item)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, UnreadableItem) as error:
        # Cut, because the malformed part may be long.
        return UnreadableItem(f"item {_shown_key(item)} makes no sense ({error!r:.300}): write it anew or delete it")


def item_key(item: Mapping[str, Any]) -> tuple[str, str]:
    """Return an item's primary key as plain strings; raises `UnreadableItem` if it is not an item of a table."""
    partition, sort = _text(item, PARTITION_KEY), _text(item, SORT_KEY)
    if partition is None or sort is None:
        raise UnreadableItem(f"the table's answer holds an item without a key: {shown(item)}")
    return partition, sort


def limits_key(item: Mapping[str, Any]) -> LimitsKey | None:
    """Return the level of limits that an item stores; None for an item of another kind."""
    kind, mark, resource = item_key(item)[1].partition("#")
    return LimitsKey(entity_of(item) or None, resource if mark else None) if kind == "l" else None


def entity_of(item: Mapping[str, Any]) -> str:
    """Return the entity that an item belongs to; empty for the items of a whole namespace."""
    return item_key(item)[0].partition("#")[2]


def namespace_of(item: Mapping[str, Any]) -> str:
    """Return the namespace that an item belongs to."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), item_key(item)[0].partition("#")[0])


def resource_of(item: Mapping[str, Any]) -> str:
    """Return the resource that a bucket's item belongs to."""
    return item_key(item)[1].partition("#")[2]


def entity_key(item: Mapping[str, Any]) -> EntityKey | None:
    """Return the entity that an item stores; None for an item of another kind."""
    return EntityKey(entity_of(item)) if item_key(item)[1] == "e" else None


def link_of(item: Mapping[str, Any] | None) -> tuple[bool, str | None]:
    """Return whether an entity is stored, and its parent."""
    stored = item is not None and VERSION_ATTRIBUTE in item
    return stored, _text(item, PARENT_ATTRIBUTE) if stored else None


def mark_of(item: Mapping[str, Any] | None) -> str:
    """Return the mark of the link that is about to store an entity; empty without one."""
    return _text(item, STAMP_ATTRIBUTE) or ""


def _is_only_marked(item: Mapping[str, Any]) -> bool:
    return VERSION_ATTRIBUTE not in item and STAMP_ATTRIBUTE in item


def _attribute(limit: str, field: str) -> str:
    return _OF_BUCKET[field] if limit == TTL else _PREFIX[field] + limit


def _shown_key(item: object) -> str:
    return visible("/".join(_text(item, key) or "?" for key in (PARTITION_KEY, SORT_KEY)))


def _text(item: object, name: str) -> str | None:
    value = item.get(name) if isinstance(item, dict) else None
    text = value.get("S") if isinstance(value, dict) else None
    return text if isinstance(text, str) else None


def _string(value: Mapping[str, Any]) -> str:
    text = value["S"]
    if not isinstance(text, str):
        raise TypeError(f"{shown(text)} is not a string")
    return text


def _integer(value: Mapping[str, Any]) -> int:
    # Stricter than int(), which also accepts blanks, underscores, other digits, and values that are not strings.
    text = value["N"]
    digits = text.removeprefix("-") if isinstance(text, str) else ""
    if not (len(digits) <= _DIGITS and digits.isdecimal() and digits.isascii()):
        raise ValueError(f"{shown(text)} is not an integer")
    return int(text)


def _key(namespace: str, entity_id: str, sort: str) -> Item:
    return {PARTITION_KEY: {"S": within(namespace, entity_id)}, SORT_KEY: {"S": sort}}


def within(namespace: str, *parts: str) -> str:
    """Return a key of the table or of the index, which begins with its namespace."""
    if "#" in namespace or "%" in namespace:
        namespace = _ESCAPED.sub(r"%25\1", namespace).replace("#", "%23")
    return joined(namespace, *parts)


def joined(*parts: str) -> str:
    """Join the parts of a key."""
    # Not formatted: a subclass of str may format as another text than was checked, as members of an Enum do.
    return "#".join(parts)


def _listed(partition: str, sort: str) -> Item:
    return {INDEX_PARTITION_KEY: {"S": partition}, INDEX_SORT_KEY: {"S": sort}}


def _level_attributes(limits: Limits) -> Item:
    """Return the attributes for a list of limits, or for the constant that replaces it."""
    if isinstance(limits, Access):
        return {"access": {"S": str(limits)}}
    return {"limits": {"L": [{"M": {"name": {"S": each.name}, "limit": {"S": text_of(each)}}} for each in limits]}}


def _level_value(item: Mapping[str, Any]) -> Limits:
    if "access" in item:
        return Access(_string(item["access"]))
    maps = [each["M"] for each in item["limits"]["L"]]
    return check_level([read_limit(check_name("limit name", _string(each["name"])), _string(each["limit"])) for each in maps])


def _schedule_attribute(schedule: Schedule) -> dict[str, Any]:
    texts = [{"when": {"S": window.when}, "zone": {"S": window.zone}} for window in schedule.windows]
    windows = zip(texts, schedule.windows, strict=True)
    return {"L": [{"M": text | _level_attributes(window.limits)} for text, window in windows]}


def _limits_value(item: Mapping[str, Any]) -> Limits | ScheduledLimits:
    plain = _level_value(item)
    if "schedule" not in item:
        return plain
    windows = [each["M"] for each in item["schedule"]["L"]]
    read = [(_string(each["when"]), _string(each["zone"]), _level_value(each)) for each in windows]
    return scheduled(plain, check_schedule(read))


def _entity_attributes(namespace: str, record: EntityRecord) -> Item:
    entity = record.entity
    attributes: Item = {"cascade": {"BOOL": entity.cascade}}
    if entity.name is not None:
        attributes["name"] = {"S": entity.name}
    if entity.metadata:
        attributes["metadata"] = {"M": {key: {"S": value} for key, value in entity.metadata.items()}}
    if entity.parent_id is not None:
        attributes |= _listed(within(namespace, "p", entity.parent_id), entity.entity_id)
        attributes[PARENT_ATTRIBUTE] = {"S": entity.parent_id}
        attributes["ancestors"] = {"L": [{"S": ancestor} for ancestor in record.ancestors]}
    return attributes


def _entity_value(item: Mapping[str, Any]) -> EntityRecord:
    cascade = item["cascade"]["BOOL"]
    if not isinstance(cascade, bool):
        raise TypeError(f"{shown(cascade)} is not a boolean")
    entity = Entity(
        entity_of(item),
        parent_id=check_name("parent", item[PARENT_ATTRIBUTE]["S"]) if PARENT_ATTRIBUTE in item else None,
        cascade=cascade,
        name=_string(item["name"]) if "name" in item else None,
        metadata={key: _string(value) for key, value in item["metadata"]["M"].items()} if "metadata" in item else {},
    )
    ancestors = tuple(check_name("ancestor", each["S"]) for each in item["ancestors"]["L"]) if "ancestors" in item else ()
    return EntityRecord(entity, ancestors)
