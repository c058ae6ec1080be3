"""Units in advance keep one bound for several processes, checked in every state that small sizes can reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import model_checker as checker

if TYPE_CHECKING:
    from pathlib import Path

WORLDS = {"long blocks": ("CAPACITY=4", "HORIZON=2", "LAST=6"), "short blocks": ("CAPACITY=3", "HORIZON=1", "LAST=5")}
BUGS = ("BUG_FULL_WINDOW", "BUG_LASTING", "BUG_RETURNED", "BUG_DATED_BY_ITS_ANSWER")
"""The rules of ADR-180 that are left out."""


@pytest.fixture(autouse=True)
def _checker() -> None:
    checker.require()


@pytest.mark.parametrize("world", WORLDS)
def test_no_reachable_state_exceeds_the_bound(world: str, tmp_path: Path) -> None:
    """In no span more is spent than the capacity and what refills, whichever process holds blocks, however late answers come."""
    verdict = checker.verify(tmp_path, WORLDS[world], ["-O1", "-DCOLLAPSE"], model="blocks.pml")
    assert verdict.violated is None, verdict.report
    assert verdict.visited, verdict.report
    checker.check_size(f"blocks: {world}", verdict)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str, tmp_path: Path) -> None:
    """Without any of the rules a process spends beyond the bound."""
    verdict = checker.verify(tmp_path, [*WORLDS["long blocks"], bug], model="blocks.pml")
    assert verdict.violated is not None, verdict.report
    assert verdict.violated.startswith("assertion violated"), verdict.report
