"""The counters of the storage for `limits`: requests to the table, and what their responses say. No I/O.

| item | pk | sk | attributes |
|---|---|---|---|
| fixed window | `namespace#key` | `c#f` | `n` (count), `x` (end, ms since the epoch), `i` (id of the last write), `ttl` |
| sliding window | `namespace#key` | `c#s#expiry` | `w` (number of the window), `c` (its count), `p` (count before), `i`, `ttl` |
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ..aws.schema import within

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    Call = tuple[str, dict[str, Any]]
    """A method of a DynamoDB client, and its parameters."""
    T = TypeVar("T")
    Steps = Generator[Call, dict[str, Any], T]
    """Calls to make in order, each of which receives its response; returns a result."""

MILLISECONDS = 1000
KEPT = 3600
"""Seconds that a counter stays in the table after it has ended."""
REMEMBERED = 10_000
"""Counters whose last state is remembered, so that the first write fits; when there are more, all are forgotten."""
DELETED_AT_ONCE = 25
FAILED = "failed"
"""Stands in a response for the item on which a condition has failed."""


class Window(NamedTuple):
    """The state of a sliding window: its number since the epoch, the count before it and its own."""

    number: int
    before: int
    units: int

    @classmethod
    def of(cls, item: dict[str, Any]) -> Window | None:
        """Return the window that an item holds; None for an absent or cleared one."""
        return cls(*(int(item[name]["N"]) for name in ("w", "p", "c"))) if "w" in item else None


class Moment(NamedTuple):
    """A time in milliseconds, relative to windows of `expiry` milliseconds."""

    now: int
    expiry: int

    @property
    def number(self) -> int:
        """Number of the present window."""
        return self.now // self.expiry

    @property
    def left(self) -> int:
        """Milliseconds to the end of the present window."""
        return self.expiry - self.now % self.expiry

    def most_before(self, room: int) -> int:
        """Return the largest count of the window before whose weight is at most `room` now."""
        return ((room + 1) * self.expiry - 1) // self.left

    def within(self, window: Window) -> Moment:
        """Return the same moment, or the window's beginning if another machine's clock has begun it already."""
        return self if window.number <= self.number else Moment(window.number * self.expiry, self.expiry)

    def present(self, window: Window | None) -> Window:
        """Return what `window` has become by now."""
        if window is None or window.number < self.number - 1:
            return Window(self.number, 0, 0)
        return window if window.number >= self.number else Window(self.number, window.units, 0)

    def weight(self, window: Window) -> int:
        """Return the units that count against the limit in a present window."""
        return window.before * self.within(window).left // self.expiry + window.units


class Counters:
    """The requests that each operation of a storage makes to the table, without sending them."""

    def __init__(self, table: str, namespace: str, clock: Callable[[], float]) -> None:
        self._table = table
        self._prefix = within(namespace, "")
        self._clock = clock
        self._ends: dict[str, int] = {}
        self._windows: dict[tuple[str, int], Window] = {}

    def increment(self, key: str, expiry: int, amount: int) -> Steps[int]:
        """Count `amount` in the fixed window of a key, which begins with its first hit; returns the count."""
        write = uuid.uuid4().hex
        begins = self._ends.get(key, 0) <= self._now()
        while True:
            now = self._now()
            answer = yield self._begin(key, expiry, amount, now, write) if begins else self._add(key, amount, now, write)
            item = _item(answer)
            if FAILED not in answer or _text(item, "i") == write:
                _remember(self._ends, key, _number(item, "x"))
                return _number(item, "n")
            begins = _number(item, "x") <= now

    def count(self, key: str) -> Steps[tuple[int, float]]:
        """Return the count of a fixed window, and its end in seconds since the epoch; now, if there is none."""
        answer = yield self._get(key, "c#f")
        item, now = answer.get("Item", {}), self._now()
        end = _number(item, "x")
        return (_number(item, "n"), end / MILLISECONDS) if end > now else (0, now / MILLISECONDS)

    def acquire(self, key: str, limit: int, expiry: int, amount: int) -> Steps[bool]:
        """Count `amount` in the sliding window of a key if it fits: one conditional write if the state is as remembered."""
        if amount > limit:
            return False
        write = uuid.uuid4().hex
        seen = self._windows.get((key, expiry))
        if seen is not None and not self._fits(seen, limit, expiry, amount):
            seen = Window.of((yield self._get(key, f"c#s#{expiry}")).get("Item", {}))  # Cheaper than a write that fails.
            if not self._fits(seen, limit, expiry, amount):
                return False
        while True:
            moment = Moment(self._now(), expiry * MILLISECONDS)
            answer = yield self._slide(key, moment, seen, limit, amount, write)
            item = _item(answer)
            seen = Window.of(item)
            if seen is not None:
                _remember(self._windows, (key, expiry), seen)
            if FAILED not in answer or _text(item, "i") == write:
                return True
            if not self._fits(seen, limit, expiry, amount):
                return False

    def window(self, key: str, expiry: int) -> Steps[tuple[int, float, int, float]]:
        """Return the count before, the seconds that it still weighs, the present count, and the seconds to its end."""
        answer = yield self._get(key, f"c#s#{expiry}")
        moment = Moment(self._now(), expiry * MILLISECONDS)
        window = moment.present(Window.of(answer.get("Item", {})))
        left = moment.within(window).left / MILLISECONDS
        return window.before, left if window.before else 0.0, window.units, left + expiry

    def clear(self, key: str, expiry: int | None = None) -> Steps[None]:
        """Forget a fixed window, or the sliding one of `expiry`. The item stays, since `acquire` policies cannot delete."""
        sort, attributes = ("c#f", "n, x") if expiry is None else (f"c#s#{expiry}", "w, p, c")
        self._ends.pop(key, None)
        yield (
            "update_item",
            self._addressed(key, sort)
            | {
                "UpdateExpression": f"REMOVE {attributes}",
                "ConditionExpression": "attribute_exists(pk)",
            },
        )

    def reset(self) -> Steps[int]:
        """Delete all counters of the namespace, and return how many there were. Reads the whole table."""
        self._ends.clear()
        self._windows.clear()
        deleted, start = 0, dict[str, Any]()
        counters = "begins_with(pk, :p) AND begins_with(sk, :s) AND (attribute_exists(x) OR attribute_exists(w))"
        while True:
            page = yield (
                "scan",
                {
                    "TableName": self._table,
                    "ProjectionExpression": "pk, sk",
                    "FilterExpression": counters,
                    "ExpressionAttributeValues": {":p": {"S": self._prefix}, ":s": {"S": "c#"}},
                    **start,
                },
            )
            yield from self._delete(page["Items"])
            deleted += len(page["Items"])
            if not page.get("LastEvaluatedKey"):
                return deleted
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def check(self) -> Steps[bool]:
        """Check that the table responds; raises the error otherwise."""
        yield self._get("", "c#f")
        return True

    def _fits(self, window: Window | None, limit: int, expiry: int, amount: int) -> bool:
        moment = Moment(self._now(), expiry * MILLISECONDS)
        return moment.weight(moment.present(window)) + amount <= limit

    def _now(self) -> int:
        return int(self._clock() * MILLISECONDS)

    def _addressed(self, key: str, sort: str) -> dict[str, Any]:
        return {"TableName": self._table, "Key": {"pk": {"S": self._prefix + key}, "sk": {"S": sort}}}

    def _get(self, key: str, sort: str) -> Call:
        return "get_item", self._addressed(key, sort) | {"ConsistentRead": True}

    def _update(self, key: str, sort: str, change: str, condition: str, write: str, **numbers: int) -> Call:
        values: dict[str, Any] = {f":{name}": {"N": str(number)} for name, number in numbers.items()}
        parameters = {
            "UpdateExpression": change + ", i = :i",
            "ConditionExpression": condition,
            "ExpressionAttributeValues": values | {":i": {"S": write}},
            "ReturnValues": "ALL_NEW",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        if ":ttl" in values:
            parameters["ExpressionAttributeNames"] = {"#ttl": "ttl"}
        return "update_item", self._addressed(key, sort) | parameters

    def _begin(self, key: str, expiry: int, amount: int, now: int, write: str) -> Call:
        change, absent = "SET n = :n, x = :x, #ttl = :ttl", "attribute_not_exists(x) OR x <= :now"
        end = now + expiry * MILLISECONDS
        return self._update(key, "c#f", change, absent, write, n=amount, x=end, ttl=end // MILLISECONDS + KEPT, now=now)

    def _add(self, key: str, amount: int, now: int, write: str) -> Call:
        return self._update(key, "c#f", "SET n = n + :n", "x > :now AND i <> :i", write, n=amount, now=now)

    def _slide(self, key: str, moment: Moment, seen: Window | None, limit: int, amount: int, write: str) -> Call:
        """Return the write that counts `amount` if it fits and the item is in the state `seen`, or in one that leads to the same.

        1. No hit in this window or the one before: this window begins.
        2. The last hit was in the window before: its count becomes the weight, if that leaves room.
        3. The window has begun: the count grows, if the count before is as seen and leaves room.
        """
        room, number = limit - amount, moment.number
        ttl = (number + 2) * moment.expiry // MILLISECONDS + KEPT
        sort = f"c#s#{moment.expiry // MILLISECONDS}"
        if seen is None or seen.number < number - 1:
            condition = "attribute_not_exists(w) OR w < :b"
            change, numbers = "SET w = :w, p = :p, c = :a, #ttl = :ttl", {"w": number, "b": number - 1, "p": 0, "ttl": ttl}
        elif seen.number < number:
            condition = "w = :b AND c <= :most"
            most = moment.most_before(room)
            change, numbers = "SET w = :w, p = c, c = :a, #ttl = :ttl", {"w": number, "b": number - 1, "most": most, "ttl": ttl}
        else:
            condition = "w = :w AND p = :p AND c <= :most AND i <> :i"
            most = room - moment.weight(seen._replace(units=0))
            change, numbers = "SET c = c + :a", {"w": seen.number, "p": seen.before, "most": most}
        return self._update(key, sort, change, condition, write, a=amount, **numbers)

    def _delete(self, keys: list[dict[str, Any]]) -> Steps[None]:
        while keys:
            requests = [{"DeleteRequest": {"Key": key}} for key in keys[:DELETED_AT_ONCE]]
            answer = yield "batch_write_item", {"RequestItems": {self._table: requests}}
            left = answer.get("UnprocessedItems", {}).get(self._table, [])
            keys = [each["DeleteRequest"]["Key"] for each in left] + keys[DELETED_AT_ONCE:]


def _number(item: dict[str, Any], name: str) -> int:
    """Return a number of an item; 0 if it is absent."""
    return int(item[name]["N"]) if name in item else 0


def _text(item: dict[str, Any], name: str) -> str | None:
    text: str | None = item.get(name, {}).get("S")
    return text


def _item(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the item after the write, or the one on which its condition has failed."""
    item: dict[str, Any] = answer[FAILED] if FAILED in answer else answer["Attributes"]
    return item


def _remember(states: dict[Any, Any], key: Any, state: Any) -> None:
    if len(states) >= REMEMBERED:
        states.clear()
    states[key] = state
