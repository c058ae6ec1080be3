"""The rules of slots, checked in every state that they can reach in small sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import model_checker as checker

if TYPE_CHECKING:
    from pathlib import Path

ONE = ("SLOTS=1", "LAST=5", "WRITES=2")
TWO = ("SLOTS=2", "LAST=5", "WRITES=2")
APART = ("SLOTS=1", "LAST=5", "WRITES=2", "ERROR=2")
MANY = ("SLOTS=2", "LAST=5", "WRITES=3", "LOSSES=0")
LONG = ("SLOTS=1", "LAST=7", "WRITES=2")
WORLDS = {"one slot": LONG, "two slots": TWO}
"""In the first one every entry can expire before the last moment, also where the clocks are as far apart as they may be."""

AT_WORK = "at_work<="
SUM = "held==sum"
IN_TIME = "now<p[i].deadline"
FREED = "assertion violated 0"

BUGS = {
    "BUG_HAND_ON_WHAT_IS_GIVEN_UP": (ONE, [AT_WORK]),
    "BUG_HAND_ON_AFTER_THE_DEADLINE": (ONE, [IN_TIME, AT_WORK]),
    "BUG_NO_OWN_ENTRY": (TWO, [SUM, AT_WORK, FREED]),
    "BUG_ENTRIES_REPEAT": (MANY, [SUM, FREED]),
    "BUG_NO_CEILING": (ONE, [AT_WORK]),
    "BUG_DEADLINE_FROM_THE_ANSWER": (ONE, [AT_WORK]),
    "BUG_KEEPS_LOST_LEASES": (TWO, [SUM, AT_WORK, FREED]),
    "BUG_EVICTS_BY_ITS_OWN_TIME": (APART, [AT_WORK]),
    "BUG_HOLDER_FORGETS_ITS_ERROR": (APART, [AT_WORK]),
    "BUG_NO_DOUBT": (ONE, [AT_WORK]),
}
"""What is planted, where it shows, and by which promises."""


@pytest.fixture(autouse=True)
def _checker() -> None:
    checker.require()


@pytest.mark.parametrize("world", WORLDS)
def test_no_reachable_state_breaks_a_promise(world: str, tmp_path: Path) -> None:
    """In every state that small sizes can reach no more slots are held than there are, and the sum of the entries is right."""
    verdict = checker.verify(tmp_path, WORLDS[world], ["-O1", "-DCOLLAPSE"], model="slots.pml")
    assert verdict.violated is None, verdict.report
    assert verdict.visited, verdict.report
    checker.check_size(world, verdict)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str, tmp_path: Path) -> None:
    """A rule that is left out leads to a state that breaks a promise, and the search meets it."""
    defines, promises = BUGS[bug]
    verdict = checker.verify(tmp_path, [*defines, bug], model="slots.pml")
    assert verdict.violated is not None, verdict.report
    assert verdict.violated.startswith("assertion violated"), verdict.report
    assert any(promise in verdict.violated for promise in promises), verdict.violated
