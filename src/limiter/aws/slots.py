"""Slots as attributes of a bucket's item, flat numbers, and their part of an UpdateItem; see `schema` for what each holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.slots import HOLDER_LENGTH, NONE, Slots

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..core.slots import SlotWrite
    from .expressions import Expressions

HELD, ENTRY, FENCE = "h:", "c:", "g"


def is_of_slots(attribute: str) -> bool:
    """Whether an attribute belongs to the slots of a limit, or is the fence."""
    least = {HELD: len(HELD), ENTRY: len(ENTRY) + HOLDER_LENGTH}.get(attribute[:2])
    return attribute == FENCE if least is None else len(attribute) > least


def slots_identity(attribute: str) -> str:
    """The identity of the limit whose slots an attribute is about; another attribute as it is."""
    if attribute == FENCE or not is_of_slots(attribute):
        return attribute
    return f"{_split(attribute)[1]}|"


def read_slots(attributes: Mapping[str, int]) -> Slots:
    """The slots that an item's attributes say."""
    held: dict[str, int] = {}
    entries: dict[str, dict[str, int]] = {}
    for attribute, number in attributes.items():
        if attribute == FENCE:
            continue
        holder, name = _split(attribute)
        if holder:
            entries.setdefault(name, {})[holder] = number
        else:
            held[name] = number
    return Slots(held, entries, attributes.get(FENCE, NONE))


def write_slots(expressions: Expressions, writes: Sequence[SlotWrite]) -> None:
    """Add the conditions and changes that make the writes."""
    for write in writes:
        held = HELD + write.name
        if write.entry is not None:
            own = ENTRY + write.holder + write.name
            seen = None if write.seen < 0 else write.seen
            expressions.require(own, seen, seen, False)
            if write.entry < 0:
                expressions.remove(own)
            else:
                expressions.change(own, None, write.entry)
        if write.least:
            expressions.require(held, write.least, write.most, False)
        elif write.most is not None:
            expressions.require(held, None, write.most, True)
        if write.change:
            expressions.increase(held, 0, write.change)
        for holder, entry in write.dead:
            expressions.require(ENTRY + holder + write.name, entry, entry, False)
            expressions.remove(ENTRY + holder + write.name)
    numbers = sum(write.numbers for write in writes)
    if numbers:
        expressions.increase(FENCE, max(write.first for write in writes), numbers)


def _split(attribute: str) -> tuple[str, str]:
    """The holder, empty where it is about the number held in all, and the limit's name."""
    if attribute[:2] == HELD:
        return "", attribute[2:]
    end = len(ENTRY) + HOLDER_LENGTH
    return attribute[2:end], attribute[end:]
