"""Conditions and changes in DynamoDB's expression language, with a placeholder for every name and value.

Most updates differ only in their numbers, so the texts are cached by the shape of the update, which is everything but the values.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

ABSENT, EQUAL, FROM, UP_TO, BETWEEN = "attribute_not_exists({})", "{} = {}", "{} >= {}", "{} <= {}", "{} BETWEEN {} AND {}"
"""The forms of a condition: absent, with two equal bounds, with a lower bound, with an upper bound, with two bounds."""
SHAPES = 1_000
"""Shapes whose texts are cached."""

Requirement = tuple[str, str, str, bool]
"""The limit and field of a condition, its form, and whether the field may be absent."""
Step = tuple[str, str, str | None, bool]
"""The limit and field of a change, the field whose old value is its base, and whether the value is subtracted."""
Marking = tuple[str, bool, bool, bool]
"""The name of a mark, whether a mark was seen, whether its text was another one, and whether it may be absent."""


class Texts(NamedTuple):
    """The two expressions of an update, its attributes by placeholder, and the placeholders of its values in order."""

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
    counted: bool,
) -> Texts:
    """Return the texts of all updates of one shape; `attribute` gives the name of a limit's field, or of a name's mark.

    The first values are the stamp, and the text for an absent one, and what is added to the count if it is `counted`. The others
    follow in the order of the requirements, the steps and the marks.
    """
    names = {attribute("", "stamp"): "#w", attribute("", "second"): "#w2", attribute("", "third"): "#w3"}
    values = [":w", ":none"]
    if counted:
        names[attribute("", "count")] = "#n"
        values.append(":n")

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
    update = ("ADD #n :n " if counted else "") + f"SET {', '.join(changes)}" + (f" REMOVE {removed}" if removed else "")
    return Texts(" AND ".join(conditions), update, {short: full for full, short in names.items()}, tuple(values))
