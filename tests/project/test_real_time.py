"""Tests that sleep or look at a real clock are the ones that tests/README.md lists, each with its reason."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SLEEPS = {"asyncio.sleep", "gevent.sleep", "time.sleep"}
CLOCKS = {"time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.time", "time.time_ns"}


def uses_real_time(source: str) -> bool:
    """Tell whether a test sleeps or reads a clock. A sleep of 0 only lets other tasks run."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    slept = [each for each in calls if ast.unparse(each.func) in SLEEPS and [ast.unparse(it) for it in each.args] != ["0"]]
    return bool(slept) or any(ast.unparse(each.func) in CLOCKS for each in calls)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import time\ntime.sleep(0.1)", True),
        ("start = time.monotonic()", True),
        ("async def wait():\n    await asyncio.sleep(pause)", True),
        ("async def wait():\n    await asyncio.sleep(0)", False),
        ("clock.sleep(30)\nclock.monotonic()", False),
    ],
)
def test_real_time_is_recognised(source: str, expected: bool) -> None:
    """Sleeps and clocks of the machine count, those of an injected clock do not."""
    assert uses_real_time(source) == expected


def test_the_list_of_tests_in_real_time_is_complete() -> None:
    """Each test that uses real time stands in the table, and each that stands there uses it."""
    section = (TESTS / "README.md").read_text(encoding="utf-8").partition("## Real time")[2]
    listed = {name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)}
    files = [path for path in sorted(TESTS.rglob("test_*.py")) if not path.is_relative_to(TESTS / "sync")]
    found = {path.relative_to(TESTS).as_posix() for path in files if uses_real_time(path.read_text(encoding="utf-8"))}
    assert found == listed
