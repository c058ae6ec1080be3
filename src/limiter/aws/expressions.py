"""Conditions and changes in DynamoDB's expression language, with a placeholder for every name and value.

Most updates differ from another only in their numbers, so the texts are kept by the shape of the update: everything but values.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

ABSENT, EQUAL, FROM, UP_TO, BETWEEN = "attribute_not_exists({})", "{} = {}", "{} >= {}", "{} <= {}", "{} BETWEEN {} AND {}"
"""The forms of a condition: of one with a lower, an upper, two equal or two different bounds, or without."""
SHAPES = 1_000
"""Shapes whose texts are kept."""

Requirement = tuple[str, str, str, bool]
"""The limit and field that a condition is about, its form, and whether the field may be absent."""
Step = tuple[str, str, str | None, bool]
"""The limit and field that a change is about, the field whose old value is its base, and whether it is lowered."""
Marking = tuple[str, bool, bool, bool]
"""The name that a mark is about, whether one was seen, whether that was another text, and whether it may be absent."""


class Texts(NamedTuple):
    """The two expressions of an update, its attributes by their placeholders, and the placeholders of its values in order."""

    condition: str
    update: str
    names: dict[str, str]
    values: tuple[str, ...]


@lru_cache(maxsize=SHAPES)
def texts(
    attribute: Callable[[str, str], str],
    requirements: tuple[Requirement, ...],
    steps: tuple[Step, ...],
    marks: tuple[Marking, ...],
    removals: tuple[tuple[str, str], ...],
) -> Texts:
    """The texts of all updates of one shape; `attribute` says what the field of a limit is called, and a mark without a limit.

    The first values are the stamp, and what stands for an absent one. The others follow in the order of the requirements, the
    steps and the marks.
    """
    names = {attribute("", "stamp"): "#w", attribute("", "second"): "#w2", attribute("", "third"): "#w3"}
    values = [":w", ":none"]

    def name(limit: str, field: str) -> str:
        return names.setdefault(attribute(limit, field), f"#{len(names)}")

    def value() -> str:
        values.append(f":{len(values)}")
        return values[-1]

    conditions = ["NOT :w IN (#w, #w2, #w3)"]
    changes = ["#w3 = if_not_exists(#w2, :none), #w2 = if_not_exists(#w, :none), #w = :w"]
    for limit, field, form, absent in requirements:
        own = name(limit, field)
        text = form.format(own, *[value() for _ in range(form.count("{}") - 1)])
        conditions.append(f"(attribute_not_exists({own}) OR {text})" if absent else text)
    for limit, field, base, less in steps:
        own = name(limit, field)
        changes.append(f"{own} = {value()}" if base is None else f"{own} = {name(limit, base)} {'-' if less else '+'} {value()}")
    for limit, seen, differs, absent in marks:
        own, new = name(limit, "mark"), value()
        text = f"{own} = {value() if differs else new}" if seen else f"attribute_not_exists({own})"
        conditions.append(f"(attribute_not_exists({own}) OR {text})" if seen and absent else text)
        changes.append(f"{own} = {new}")
    removed = ", ".join([name(limit, field) for limit, field in removals])
    update = f"SET {', '.join(changes)}" + (f" REMOVE {removed}" if removed else "")
    return Texts(" AND ".join(conditions), update, {short: full for full, short in names.items()}, tuple(values))
