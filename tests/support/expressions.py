"""As much of DynamoDB's expressions as the limiter uses, read strictly and carried out on an item.

A reader of its own, which knows nothing of how the expressions were put together: what it cannot read, or what DynamoDB would
call invalid (names and values undefined or unused, bounds in the wrong order, a path set twice, redundant parentheses), is an
error.
"""

from __future__ import annotations

import re
from typing import Any

TOKEN = re.compile(r"\s*(#\w+|:\w+|<>|<=|>=|[()=,+-]|[A-Za-z_]+)")
MAX_EXPRESSION, MAX_OPERATORS = 4_096, 300


class Invalid(ValueError):
    """DynamoDB would respond with a ValidationException."""


def size(item: dict[str, Any]) -> int:
    """Return an item's size in bytes, by the rules of the developer's guide: names, and values by type."""
    return sum(len(name.encode()) + value_size(value) for name, value in item.items())


def value_size(value: dict[str, Any]) -> int:
    """Return the size of a value. A number takes one byte for two significant digits and one more; text takes its UTF-8 bytes."""
    ((kind, content),) = value.items()
    if kind == "S":
        return len(content.encode())
    digits = content.lstrip("-").strip("0")
    return (len(digits) + 1) // 2 + 1 + content.startswith("-")


class Reader:
    """Tokens of one expression, with the names and values that it may use."""

    def __init__(self, text: str, parameters: dict[str, Any], used: set[str]) -> None:
        if len(text.encode()) > MAX_EXPRESSION:
            raise Invalid(f"the expression has {len(text.encode())} bytes")
        self.tokens: list[str] = []
        place = 0
        while place < len(text):
            found = TOKEN.match(text, place)
            if found is None:
                raise Invalid(f"syntax error at {text[place:]!r}")
            self.tokens.append(found[1])
            place = found.end()
        operators = [each for each in self.tokens if not each.startswith(("#", ":")) and each not in "(),"]
        if len(operators) > MAX_OPERATORS:
            raise Invalid(f"the expression has {len(operators)} operators")
        self.names, self.values, self.used = parameters["ExpressionAttributeNames"], parameters["ExpressionAttributeValues"], used

    def next(self, *expected: str) -> str:
        """Return the next token, which must be one of those expected, if any are."""
        if not self.tokens or (expected and self.tokens[0] not in expected):
            raise Invalid(f"expected {expected} at {self.tokens[:5]}")
        return self.tokens.pop(0)

    def accept(self, token: str) -> bool:
        """Tell whether the next token is this one, and consume it if so."""
        found = self.tokens[:1] == [token]
        if found:
            self.tokens.pop(0)
        return found

    def name(self) -> str:
        """Return the attribute that the next token stands for."""
        token = self.next()
        if not token.startswith("#") or token not in self.names:
            raise Invalid(f"undefined name {token!r}")
        self.used.add(token)
        return str(self.names[token])

    def value(self) -> Any:
        """Return the value that the next token stands for."""
        token = self.next()
        if not token.startswith(":") or token not in self.values:
            raise Invalid(f"undefined value {token!r}")
        self.used.add(token)
        return plain(self.values[token])


def plain(value: dict[str, Any]) -> Any:
    """Convert a DynamoDB value to a Python value."""
    ((kind, content),) = value.items()
    if kind == "N":
        if len(content.lstrip("-").strip("0")) > 38:
            raise Invalid(f"{content} has more than 38 digits")
        return int(content)
    if kind != "S":
        raise Invalid(f"a value of type {kind}")
    return content


def holds(parameters: dict[str, Any], item: dict[str, Any]) -> bool:
    """Tell whether the condition of an UpdateItem, PutItem or DeleteItem holds on an item."""
    used: set[str] = set()
    condition = _condition(Reader(parameters["ConditionExpression"], parameters, used), item)
    if "UpdateExpression" in parameters:
        _changes(Reader(parameters["UpdateExpression"], parameters, used), {})
    unused = (set(parameters["ExpressionAttributeNames"]) | set(parameters.get("ExpressionAttributeValues", ()))) - used
    if unused:
        raise Invalid(f"unused: {', '.join(sorted(unused))}")
    return condition


def apply(parameters: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """Return the item after the update; right-hand sides see the old item."""
    after = dict(item)
    for name, (base, value) in _changes(Reader(parameters["UpdateExpression"], parameters, set()), item).items():
        if value is None:
            after.pop(name, None)
            continue
        if base is not None and base not in item:
            raise Invalid(f"the item has no attribute {base!r}")
        result = value if base is None else plain(item[base]) + value
        after[name] = {"S": result} if isinstance(result, str) else {"N": str(result)}
    return after


def _condition(reader: Reader, item: dict[str, Any]) -> bool:
    result = not _is_in(reader, item) if reader.accept("NOT") else _term(reader, item)
    while reader.accept("AND"):
        result = _term(reader, item) and result
    if reader.tokens:
        raise Invalid(f"left over: {reader.tokens}")
    return result


def _term(reader: Reader, item: dict[str, Any]) -> bool:
    if not reader.accept("("):
        return _comparison(reader, item)
    result = _comparison(reader, item)
    reader.next("OR")  # Otherwise the parentheses were redundant.
    result = _comparison(reader, item) or result
    reader.next(")")
    return result


def _is_in(reader: Reader, item: dict[str, Any]) -> bool:
    value = reader.value()
    reader.next("IN")
    reader.next("(")
    found = False
    while True:
        name = reader.name()
        found = found or (name in item and plain(item[name]) == value)
        if reader.next(",", ")") == ")":
            return found


def _comparison(reader: Reader, item: dict[str, Any]) -> bool:
    for function, wanted in (("attribute_exists", True), ("attribute_not_exists", False)):
        if reader.accept(function):
            reader.next("(")
            name = reader.name()
            reader.next(")")
            return (name in item) is wanted
    name = reader.name()
    operator = reader.next("=", "<>", "<=", ">=", "BETWEEN")
    low = reader.value()
    high = low
    if operator == "BETWEEN":
        reader.next("AND")
        high = reader.value()
        if low > high:
            raise Invalid("the bounds of BETWEEN are in the wrong order")
    if name not in item:
        return operator == "<>"
    value = plain(item[name])
    if type(value) is not type(low):
        return operator == "<>"
    if operator in ("=", "BETWEEN"):
        return bool(low <= value <= high)
    return bool({"<>": value != low, "<=": value <= low, ">=": value >= low}[operator])


def _changes(reader: Reader, item: dict[str, Any]) -> dict[str, tuple[str | None, Any]]:
    changes: dict[str, tuple[str | None, Any]] = {}
    if reader.accept("ADD"):
        name, more = reader.name(), reader.value()
        changes[name] = None, (plain(item[name]) if name in item else 0) + more
    reader.next("SET")
    while True:
        name = reader.name()
        if name in changes:
            raise Invalid(f"{name!r} is set twice")
        reader.next("=")
        if reader.tokens[:1] and reader.tokens[0].startswith(":"):
            changes[name] = None, reader.value()
        elif reader.accept("if_not_exists"):
            changes[name] = None, _present(reader, item)
        else:
            base, sign = reader.name(), reader.next("+", "-")
            changes[name] = base, reader.value() * (1 if sign == "+" else -1)
        if not reader.accept(","):
            break
    while reader.accept("," if None in [value for _, value in changes.values()] else "REMOVE"):
        name = reader.name()
        if name in changes:
            raise Invalid(f"{name!r} is set and removed")
        changes[name] = None, None
    if reader.tokens:
        raise Invalid(f"left over: {reader.tokens}")
    return changes


def _present(reader: Reader, item: dict[str, Any]) -> Any:
    reader.next("(")
    name = reader.name()
    reader.next(",")
    value = reader.value()
    reader.next(")")
    return plain(item[name]) if name in item else value
