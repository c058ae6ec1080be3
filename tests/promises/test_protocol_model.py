"""The protocol, checked in every state that it can reach in small sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import model_checker as checker

if TYPE_CHECKING:
    from pathlib import Path

EXPIRY = ("LAST=4", "LOSSES=1", "EXPIRY")
DELAYED = ("LAST=2", "LOSSES=1", "DELAYED")
WAITING = ("LAST=4", "PATIENCE=2")
PERSISTENT = ("LAST=2", "PATIENCE=2", "CALLS=3")
SINGLE = ("WINDOW=1", "LAST=4", "PATIENCE=2", "CALLS=3")
LATE = ("LAST=5", "LATE=1")
WIDE = ("WINDOW=3", "LAST=5", "EXPIRY")
THREE = ("CLIENTS=3", "LAST=3")
WORLDS = {
    "expiry": EXPIRY,
    "delayed": DELAYED,
    "waiting": WAITING,
    "waiting again": PERSISTENT,
    "waiting for one": SINGLE,
    "late": LATE,
    "wide": WIDE,
    "three": THREE,
}

LIMIT = "debt<="
STARTS = "seen<="
GIVEN = "effective<=valid"
ONCE = "given<=1"
WRITTEN = "total<=p[me].taken"
IN_A_ROW = "last_call!="
KEPT = "item.ttl>=item.tat"
AGREED = "start"

# Each planted bug, the model in which it shows, and the promises of which the search finds one broken first.
BUGS = {
    "BUG_NO_CEILING": (LATE, [LIMIT, KEPT, AGREED]),
    "BUG_BATCH_NOT_SUMMED": (WIDE, [LIMIT, KEPT, AGREED]),
    "BUG_IDLE_UNCONDITIONAL": (LATE, [LIMIT, GIVEN]),
    "BUG_BUSY_WHEN_FULL": (LATE, [LIMIT, GIVEN]),
    "BUG_ADMITS_FROM_MEMORY": (LATE, [LIMIT]),
    "BUG_IDLE_KEEPS_SINCE": (EXPIRY, [GIVEN]),
    "BUG_REFUND_WITHOUT_SINCE": (EXPIRY, [GIVEN]),
    "BUG_TTL_BY_GUESS": (WIDE, [KEPT]),
    "BUG_EXPIRES_BUSY": (EXPIRY, [LIMIT, GIVEN]),
    "BUG_LOST_MEANS_APPLIED": (EXPIRY, [WRITTEN]),
    "BUG_REFUNDS_AGAIN": (DELAYED, [GIVEN, ONCE, LIMIT]),
    "BUG_STAMP_UNCONDITIONAL": (DELAYED, [IN_A_ROW]),
    "BUG_COVERED_SINCE": (EXPIRY, [GIVEN]),
    "BUG_COVERED_LAST_PLAN": (DELAYED, [GIVEN]),
    "BUG_NEW_STAMP": (DELAYED, [IN_A_ROW]),
    "BUG_RESENT_DIFFERENTLY": (DELAYED, [WRITTEN]),
    "BUG_REFUND_IGNORES_BOOKINGS": (SINGLE, [STARTS, LIMIT]),
    "BUG_REFUND_UNCONDITIONAL": (SINGLE, [STARTS, LIMIT]),
    "BUG_UNDOES_ANY_BOOKING": (SINGLE, [STARTS, LIMIT]),
    "BUG_UNRECORDED_WAIT": (PERSISTENT, [STARTS, LIMIT]),
}


@pytest.fixture(autouse=True)
def _checker() -> None:
    checker.require()


@pytest.mark.parametrize("world", WORLDS)
def test_no_reachable_state_breaks_a_promise(world: str, tmp_path: Path) -> None:
    """In no reachable state of small sizes is more allowed than the limit, or more refunded than was consumed."""
    verdict = checker.verify(tmp_path, WORLDS[world], ["-O1"])
    assert verdict.violated is None, verdict.report
    assert verdict.visited, verdict.report
    checker.check_size(world, verdict)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str, tmp_path: Path) -> None:
    """A rule that is left out leads to a state that breaks a promise, and the search finds that state."""
    defines, promises = BUGS[bug]
    verdict = checker.verify(tmp_path, [*defines, bug])
    assert verdict.violated is not None, verdict.report
    assert verdict.violated.startswith("assertion violated"), verdict.report
    assert any(promise in verdict.violated for promise in promises), verdict.violated


def test_every_planted_bug_is_tried() -> None:
    """Each bug that the models can be given is in the list of bugs that must be found."""
    text = "".join((checker.MODELS / name).read_text(encoding="utf-8") for name in ("plan.pml", "protocol.pml", "rules.pml"))
    planted = {word.strip() for line in text.splitlines() if line.startswith("#if") for word in line.split() if "BUG_" in word}
    assert planted == set(BUGS)


def test_a_search_that_is_cut_short_is_no_proof(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that does not reach the end of all paths does not count as a proof."""
    monkeypatch.setattr(checker, "DEPTH", 40)
    assert not checker.verify(tmp_path, LATE).visited
