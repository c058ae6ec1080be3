"""Conditions and changes in DynamoDB's expression language, with a placeholder for every name and value."""

from __future__ import annotations

from typing import Any


class Expressions:
    """The condition and the update of one UpdateItem in the making; what an attribute is called is told by the caller."""

    def __init__(self, stamp_attribute: str, stamp: str) -> None:
        self._names = {stamp_attribute: "#w"}
        self._values: dict[str, dict[str, str]] = {":w": {"S": stamp}}
        self._conditions = ["(attribute_not_exists(#w) OR #w <> :w)"]
        self._changes = ["#w = :w"]
        self._removals: list[str] = []

    def require(self, attribute: str, low: int | None, high: int | None, absent: bool) -> None:
        """A number must lie between two bounds, both inclusive, or may be absent; without bounds it must be absent."""
        name = self._name(attribute)
        if low is None:
            if high is None:
                self._conditions.append(f"attribute_not_exists({name})")
                return
            text = f"{name} <= {self._number(high)}"
        elif high is None:
            text = f"{name} >= {self._number(low)}"
        elif low == high:
            text = f"{name} = {self._number(low)}"
        else:
            text = f"{name} BETWEEN {self._number(low)} AND {self._number(high)}"
        self._conditions.append(f"(attribute_not_exists({name}) OR {text})" if absent else text)

    def change(self, attribute: str, base: str | None, value: int) -> None:
        """A number becomes a value, plus the old value of another attribute."""
        if base is None:
            self._changes.append(f"{self._name(attribute)} = {self._number(value)}")
            return
        sign, size = ("-", -value) if value < 0 else ("+", value)
        self._changes.append(f"{self._name(attribute)} = {self._name(base)} {sign} {self._number(size)}")

    def increase(self, attribute: str, start: int, value: int) -> None:
        """A number is changed by a value; where it is absent it starts from `start`."""
        sign, size = ("-", -value) if value < 0 else ("+", value)
        name = self._name(attribute)
        self._changes.append(f"{name} = if_not_exists({name}, {self._number(start)}) {sign} {self._number(size)}")

    def mark(self, attribute: str, seen: str | None, absent: bool, new: str) -> None:
        """A text must be as it was seen, or may be absent, and becomes another."""
        name, value = self._name(attribute), self._text(new)
        if seen is None:
            self._conditions.append(f"attribute_not_exists({name})")
        else:
            text = f"{name} = {value if seen == new else self._text(seen)}"
            self._conditions.append(f"(attribute_not_exists({name}) OR {text})" if absent else text)
        self._changes.append(f"{name} = {value}")

    def remove(self, attribute: str) -> None:
        """An attribute is absent afterwards."""
        self._removals.append(self._name(attribute))

    def parameters(self) -> dict[str, Any]:
        """The parameters of UpdateItem that say all of it."""
        removals = f" REMOVE {', '.join(self._removals)}" if self._removals else ""
        return {
            "ConditionExpression": " AND ".join(self._conditions),
            "UpdateExpression": f"SET {', '.join(self._changes)}{removals}",
            "ExpressionAttributeNames": {placeholder: name for name, placeholder in self._names.items()},
            "ExpressionAttributeValues": self._values,
        }

    def _name(self, attribute: str) -> str:
        return self._names.setdefault(attribute, f"#{len(self._names)}")

    def _number(self, value: int) -> str:
        # Not `str`, which would store a float, and make the bucket unreadable for everybody.
        self._values[placeholder := f":{len(self._values)}"] = {"N": int.__repr__(value)}
        return placeholder

    def _text(self, value: str) -> str:
        self._values[placeholder := f":{len(self._values)}"] = {"S": value}
        return placeholder
