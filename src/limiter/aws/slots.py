"""Slots as attributes of a bucket's item, each a plain number, and their part of an UpdateItem; `schema` lists the attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.slots import HOLDER_LENGTH, NONE, Slots
from ..core.validation import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..core.slots import SlotWrite

HELD, ENTRY, FENCE = "h:", "c:", "g"
SLOTS = frozenset((HELD, ENTRY, FENCE))
"""The beginnings of the attributes of slots."""


def read_slots(attributes: Mapping[str, Any], integer: Callable[[Any], int], unreadable: dict[str, str], bucket: str) -> Slots:
    """Return the slots in an item's attributes. Adds malformed ones to `unreadable`, by the limit's identity."""
    held: dict[str, int] = {}
    entries: dict[str, dict[str, int]] = {}
    fence = NONE
    for attribute, value in attributes.items():
        holder, name = _split(attribute)
        try:
            number = integer(value)
            if number < 0:
                raise ValueError("slots are counted from 0")
        except (KeyError, TypeError, ValueError):
            text = f"attribute {shown(attribute)} of the bucket {bucket} is not an integer of 0 or more: delete the item"
            unreadable[f"{name}|" if name else attribute] = text
            continue
        if attribute == FENCE:
            fence = number
        elif holder:
            entries.setdefault(name, {})[holder] = number
        elif name:
            held[name] = number
    for name in entries.keys() - held.keys():
        text = f"the number of slots held of limit {shown(name)} is missing in the bucket {bucket}: delete the item"
        unreadable.setdefault(f"{name}|", text)
    return Slots(held, entries, fence)


def write_slots(parameters: dict[str, Any], writes: Sequence[SlotWrite]) -> None:
    """Add to the parameters of an UpdateItem the conditions and changes that make the writes."""
    made = _Expressions()
    for write in writes:
        held = HELD + write.name
        if write.entry is not None:
            made.replace(ENTRY + write.holder + write.name, write.seen, write.entry)
        if write.least:
            made.require(f"{made.name(held)} >= {made.value(write.least)}")
        if write.most is not None:
            name = made.name(held)
            made.require(f"(attribute_not_exists({name}) OR {name} <= {made.value(write.most)})")
        if write.change:
            made.increase(made.name(held), 0, write.change)
        for holder, entry in write.dead:
            made.replace(ENTRY + holder + write.name, entry, NONE)
    numbers = sum(write.numbers for write in writes)
    if numbers:
        made.increase(made.name(FENCE), max(write.first for write in writes), numbers)
    made.join(parameters)


class _Expressions:
    """Conditions and changes that are being built, with placeholders that no other part of the update uses."""

    def __init__(self) -> None:
        self._conditions: list[str] = []
        self._changes: list[str] = []
        self._removals: list[str] = []
        self._names: dict[str, str] = {}
        self._values: dict[str, dict[str, str]] = {}

    def require(self, condition: str) -> None:
        self._conditions.append(condition)

    def name(self, attribute: str) -> str:
        return self._names.setdefault(attribute, f"#s{len(self._names)}")

    def value(self, number: int) -> str:
        placeholder = f":s{len(self._values)}"
        self._values[placeholder] = {"N": int.__repr__(number)}
        return placeholder

    def replace(self, attribute: str, seen: int, entry: int) -> None:
        """Require that an entry is as it was seen, and replace it."""
        name = self.name(attribute)
        self._conditions.append(f"attribute_not_exists({name})" if seen < 0 else f"{name} = {self.value(seen)}")
        if entry < 0:
            self._removals.append(name)
        else:
            self._changes.append(f"{name} = {self.value(entry)}")

    def increase(self, name: str, start: int, value: int) -> None:
        """Change a number by a value; an absent one counts as `start`."""
        sign, size = ("-", -value) if value < 0 else ("+", value)
        self._changes.append(f"{name} = if_not_exists({name}, {self.value(start)}) {sign} {self.value(size)}")

    def join(self, parameters: dict[str, Any]) -> None:
        """Append them to the conditions and changes of an update."""
        changes, _, removals = parameters["UpdateExpression"].partition(" REMOVE ")
        changes = ", ".join([changes, *self._changes])
        removals = ", ".join(filter(None, [removals, *self._removals]))
        parameters["ConditionExpression"] = " AND ".join([parameters["ConditionExpression"], *self._conditions])
        parameters["UpdateExpression"] = f"{changes} REMOVE {removals}" if removals else changes
        parameters["ExpressionAttributeNames"] |= {placeholder: name for name, placeholder in self._names.items()}
        parameters["ExpressionAttributeValues"] |= self._values


def _split(attribute: str) -> tuple[str, str]:
    """Return the holder, empty for the number held by all processes, and the limit's name, empty if there is none."""
    end = len(HELD) if attribute[:2] == HELD else len(ENTRY) + HOLDER_LENGTH
    return attribute[2:end], attribute[end:]
