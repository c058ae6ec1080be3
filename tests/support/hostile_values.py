"""Values of every type that a caller may pass by mistake or with intent."""

from __future__ import annotations

import itertools
from collections import UserDict, UserString
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from limiter import Limit


class Mute:
    """A value whose repr fails."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Text(str):
    """A string that shows another text than it holds, as members of an enumeration do."""

    __slots__ = ()

    def __format__(self, specification: str) -> str:
        return "other#entity"

    __str__ = __repr__ = lambda self: "other#entity"


class Colour(StrEnum):
    RED = "red"


class Mixed(StrEnum):
    RED = "red"


class Number(IntEnum):
    TWO = 2


@dataclass
class Endless:
    """An iterator without an end."""

    value: Any

    def __iter__(self) -> Any:
        return itertools.repeat(self.value)


def deep() -> list[Any]:
    """A list nested so deeply that its repr fails."""
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    return nested


DEEP = deep()
NUMBERS = st.sampled_from(
    [
        0,
        1,
        -1,
        2,
        10,
        11,
        True,
        False,
        10**12,
        10**12 + 1,
        2**63,
        10**38,
        10**4000,
        -(10**4000),
        Number.TWO,
        0.0,
        -0.0,
        0.5,
        1.0,
        -1.0,
        5e-324,
        1e308,
        float("inf"),
        float("-inf"),
        float("nan"),
        Decimal(1),
        Decimal("NaN"),
        Fraction(1, 3),
        1j,
        timedelta(1),
    ]
)
TEXTS = st.sampled_from(
    [
        "",
        "requests",
        "a#b",
        "#",
        "a\x00",
        "\x1b[2J",
        "�",
        "\x85",
        "é" * 255,
        "x" * 256,
        "x" * 10000,
        "💥",
        "10/minute",
        "block",
        "requests=1/s",
        "=1/s",
        "local",
        Text("red"),
        Colour.RED,
        Mixed.RED,
        UserString("user"),
        b"user",
    ]
) | st.text(max_size=5)
OBJECTS = st.sampled_from(
    [
        None,
        ...,
        Mute(),
        Mute,
        object(),
        int,
        list,
        dict,
        len,
        print,
        lambda: 1,
        datetime.now(UTC),
        DEEP,
        range(3),
        Limit,
        Limit.per_second("requests", 5),
        ValueError("x"),
        memoryview(b"x"),
        frozenset([1]),
        bytearray(b"user"),
        Endless(1),
        Endless("a"),
        Endless(Limit.per_second("a", 1)),
    ]
)
SCALARS = NUMBERS | TEXTS | OBJECTS
NAMES = TEXTS | st.integers() | st.none() | st.tuples(st.integers())
ANYTHING = (
    SCALARS
    | st.lists(SCALARS, max_size=3)
    | st.tuples(SCALARS)
    | st.dictionaries(NAMES, SCALARS, max_size=3)
    | st.dictionaries(st.just("requests"), SCALARS, max_size=1).map(UserDict)
)
