"""How far an acquire goes: the objects that it makes, and the modules that a reader has to follow it through.

Traced are the second and later acquires of two limits by the sync limiter, through `SyncRepository` and a client without a
network, on a clock that stands still. Run with `-s` to see the figures.
"""

from __future__ import annotations

import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from support.stub_client import StubClient

import limiter
from limiter import Limit, SyncRateLimiter, SyncRepository

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

PACKAGE = f"{Path(limiter.__file__).parent}/"
WARM_UP = 4
NOW = 1_800_000_000 * 10**9
MOST_OBJECTS = 22
"""Instances of the package's classes. This bound and the next two only ever fall."""
MOST_MOVES = 52
"""Changes of the module between a frame of the package and the next one that is entered."""
MOST_MOVES_AND_RETURNS = 89
"""The same, where the return to a module counts as well."""
MAKERS = {"__new__", "_make", "of"}
"""Functions that make a tuple of the class that is their first argument; those of a `NamedTuple` name it `_cls`."""


class Trace:
    """What `sys.setprofile` tells of one acquire."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()
        self.entered: list[str] = []
        self.passed: list[str] = []
        self._kept: dict[int, object] = {}

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        """Note a call or return; what C does is not told of."""
        if event == "call":
            self._count(frame)
            if module := _module(frame):
                self.entered.append(module)
                self.passed.append(module)
        elif event == "return" and _module(frame) and frame.f_back and (module := _module(frame.f_back)):
            self.passed.append(module)

    def _count(self, frame: FrameType) -> None:
        """Count the object that a frame is about to make."""
        code = frame.f_code
        name = code.co_varnames[0] if code.co_argcount else ""
        first = frame.f_locals.get(name)
        if isinstance(first, type):
            if issubclass(first, tuple) and (name == "_cls" or code.co_name in MAKERS) and _is_ours(first):
                self.made[first.__name__] += 1
        elif code.co_name == "__init__" and _is_ours(type(first)) and id(first) not in self._kept:
            self._kept[id(first)] = first  # Kept, or another object might get its id.
            self.made[type(first).__name__] += 1


def _module(frame: FrameType) -> str:
    """The module of the package that a frame is in; empty for others."""
    name = frame.f_code.co_filename
    return name.removeprefix(PACKAGE) if name.startswith(PACKAGE) else ""


def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith("limiter.")


def _moves(modules: list[str]) -> Counter[tuple[str, str]]:
    return Counter(pair for pair in pairwise(modules) if pair[0] != pair[1])


def _traced(work: Callable[[], None]) -> Trace:
    trace = Trace()
    before = sys.getprofile()
    sys.setprofile(trace)
    try:
        work()
    finally:
        sys.setprofile(before)
    return trace


def _acquires() -> Callable[[], None]:
    """A function that acquires two limits and leaves the block."""
    repository = SyncRepository("my-app", client=StubClient(), clock=lambda: NOW)
    limits = [Limit.per_minute("requests", 1_000), Limit.per_minute("tokens", 100_000)]
    amounts = MappingProxyType({"requests": 1, "tokens": 10})
    deciding = SyncRateLimiter(repository, limits)

    def acquire() -> None:
        with deciding.acquire("user-42", "gpt-4", amounts):
            pass

    return acquire


def _told(title: str, counts: Counter[Any]) -> str:
    return f"{sum(counts.values())} {title}: " + ", ".join(f"{count} {each}" for each, count in counts.most_common())


def test_a_warm_acquire_makes_few_objects_and_few_moves() -> None:
    """A warm acquire of two limits keeps to the bounds above, and to the same figures each time."""
    acquire = _acquires()
    for _ in range(WARM_UP):
        acquire()
    traces = [_traced(acquire) for _ in range(3)]
    made, entered, passed = traces[0].made, _moves(traces[0].entered), _moves(traces[0].passed)
    print(_told("objects", made))  # noqa: T201 - the figures that the test is about
    print(_told("moves between modules", entered))  # noqa: T201
    print(_told("moves and returns", passed))  # noqa: T201
    assert all((trace.made, trace.entered) == (made, traces[0].entered) for trace in traces)
    assert sum(made.values()) <= MOST_OBJECTS
    assert sum(entered.values()) <= MOST_MOVES
    assert sum(passed.values()) <= MOST_MOVES_AND_RETURNS


def _make_some() -> None:
    from limiter.core.request import Charge
    from limiter.core.state import Level

    limit = Limit.parse("requests=10/minute")
    Charge(limit, 1)._replace(units=2)
    Level()


def test_the_trace_counts_what_is_made_and_entered() -> None:
    """A value, a named tuple and its copy count once each; the module that makes them is entered."""
    _make_some()  # What is imported and compiled on first use counts for nothing.
    trace = _traced(_make_some)
    assert trace.made == {"Limit": 1, "Charge": 2, "Level": 1}
    assert {"core/limits/__init__.py", "core/limits/rate.py"} <= set(trace.entered)
