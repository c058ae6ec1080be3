"""How accounts are born beside others of their name, checked in every state that small sizes can reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import model_checker as checker

if TYPE_CHECKING:
    from pathlib import Path

WORLDS = {"one change": ("LAST=4", "WRITES=3", "CHANGES=1"), "there and back": ("LAST=5", "WRITES=2", "CHANGES=2")}

INHERITED = "inherited"
UNDER = "under[0]"

BUGS = {"BUG_NOTHING_IS_INHERITED": INHERITED, "BUG_NO_MARK": INHERITED, "BUG_OVERWRITES": UNDER}
"""What is planted, and the promise that it breaks."""


@pytest.fixture(autouse=True)
def _checker() -> None:
    checker.require()


@pytest.mark.parametrize("world", WORLDS)
def test_no_reachable_state_breaks_a_promise(world: str, tmp_path: Path) -> None:
    """A birth inherits what is used under the name but for what was admitted since the look, and no rate admits too much."""
    verdict = checker.verify(tmp_path, WORLDS[world], ["-O1", "-DCOLLAPSE"], model="births.pml")
    assert verdict.violated is None, verdict.report
    assert verdict.visited, verdict.report
    checker.check_size(world, verdict)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str, tmp_path: Path) -> None:
    """A rule that is left out leads to a state that breaks the promise, and the search meets it."""
    verdict = checker.verify(tmp_path, [*WORLDS["one change"], bug], model="births.pml")
    assert verdict.violated is not None, verdict.report
    assert verdict.violated.startswith("assertion violated"), verdict.report
    assert BUGS[bug] in verdict.violated, verdict.violated
