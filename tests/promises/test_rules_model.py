"""The rules of the model equal those of the code: for every small case, plan.pml and `core.plan` decide the same."""

from __future__ import annotations

import subprocess
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from support import model_checker as checker

from limiter import Limit
from limiter.core import plan as planning
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, Refund, Request
from limiter.core.state import BucketState, Level
from limiter.core.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = BucketKey("default", "user", "api")
LIMIT = Limit("only", 2, 1, 1.0)
AT, GRACE = 4, 1
MINE, OTHERS = "mine", "others"
STAMPS = {0: "", 1: OTHERS, 2: MINE}
CASES = 257_895


def moment(tick: int) -> int:
    """Convert a time of the model to nanoseconds. The model counts in units of refill, here seconds; 0 stands for absent."""
    return tick * NANOSECONDS if tick else -1


def state_of(tat: int, since: int, booked: int, floor: int, ttl: int, stamp: int = 1) -> BucketState:
    """Return a bucket in the model's notation."""
    level = Level(*map(moment, (tat, since, booked, floor)))
    return BucketState({LIMIT.identity: level}, ttl or -1, STAMPS[stamp])


def requests_of(numbers: tuple[int, ...]) -> list[Request]:
    """Return a batch in the model's notation, with the requests for units first."""
    cost1, patience1, cost2, patience2, back, bsince, bstart, blevel, bearlier = numbers
    takings = [(cost1, patience1), (cost2, patience2)]
    requests = [
        Request(KEY, (Charge(LIMIT, cost),), deadline=moment(AT + patience)) if cost else Request(KEY)
        for cost, patience in takings
    ]
    if back:
        refund = Refund(LIMIT, moment(back), moment(bsince), moment(bstart), moment(blevel), moment(bearlier))
        requests.append(Request(KEY, refunds=(refund,)))
    return requests


class Case:
    """What the code makes of a batch and a guessed state, for comparison with the model's lines."""

    def __init__(self, guess: tuple[int, ...], request: tuple[int, ...]) -> None:
        self.requests = requests_of(request)
        self.plan = planning.plan(state_of(*guess), self.requests, moment(AT), MINE)

    def outcome(self, actual: tuple[int, ...]) -> tuple[int, ...]:
        """Return what becomes of the actual item, in the model's notation."""
        before = state_of(*actual)
        update = self.plan.update
        holds = update is not None and update.holds(before)
        after = update.apply(before) if update is not None and holds else before
        carried = [bool(self.requests[place].charges) and place in self.plan.shares for place in (0, 1)]
        refused = [place in self.plan.refused for place in (0, 1)]
        level = after.level(LIMIT.identity)
        item = [0 if each < 0 else each // NANOSECONDS for each in level]
        stamp = next(number for number, name in STAMPS.items() if name == after.stamp)
        told = self._told(after) if holds else {}
        starts = [number for place in (0, 1) for number in told.get(place, (0, 0))]
        numbers = (update is not None, holds, *carried, *refused, *item, max(0, after.ttl), stamp, *starts)
        return tuple(map(int, numbers))

    def _told(self, after: BucketState) -> dict[int, tuple[int, int]]:
        grants: dict[int, Grant] = self.plan.grants(after)
        told = {}
        for place, grant in grants.items():
            for receipt in grant.receipts:
                told[place] = receipt.start // NANOSECONDS, receipt.tat // NANOSECONDS
        return told


def differences(lines: list[str]) -> Iterator[str]:
    """Return the lines of the model with which the code disagrees."""
    cases: dict[tuple[int, ...], Case] = {}
    for line in lines:
        numbers = tuple(map(int, line.split()[1:]))
        asked, actual, expected = numbers[:14], numbers[14:20], list(numbers[20:])
        case = cases.get(asked)
        if case is None:
            case = cases[asked] = Case(asked[:5], asked[5:])
        outcome = list(case.outcome(actual))
        for carried, place in ((2, 12), (3, 14)):
            if not expected[carried]:
                # A request that the write did not include gets no answer.
                expected[place : place + 2] = outcome[place : place + 2] = [0, 0]
        if outcome != expected:
            yield f"{line} -> {outcome}"


def cases(directory: Path, defines: tuple[str, ...] = ()) -> list[str]:
    """Every case that rules.pml goes through."""
    checker.build("rules.pml", directory, (f"GRACE={GRACE}", *defines), ("-DPRINTF", "-DNOREDUCE"))
    report = subprocess.run(
        ["./pan", "-m1000", "-b", "-n"], cwd=directory, capture_output=True, text=True, timeout=checker.STEP_TIMEOUT, check=True
    ).stdout
    assert "errors: 0" in report
    return sorted({line for line in report.splitlines() if line.lstrip().startswith("CASE")})


@pytest.fixture(autouse=True)
def _checker(monkeypatch: pytest.MonkeyPatch) -> None:
    checker.require()
    monkeypatch.setattr(planning, "TTL_GRACE", GRACE)


def test_the_model_decides_as_the_code_does(tmp_path: Path) -> None:
    """For every small guess, batch and item, model and code include, refuse, assert, change and answer the same."""
    lines = cases(tmp_path)
    assert len(lines) == CASES
    assert f"{CASES:,} cases" in checker.DECISION.read_text(encoding="utf-8")
    assert any(line.split()[22] == "1" for line in lines), "some update is applied"
    assert list(islice(differences(lines), 5)) == []


RULES_WITH_BUGS = ["BUG_BATCH_NOT_SUMMED", "BUG_REFUND_IGNORES_BOOKINGS", "BUG_TTL_BY_GUESS", "BUG_UNRECORDED_WAIT"]


@pytest.mark.parametrize("bug", RULES_WITH_BUGS)
def test_a_rule_that_drifts_is_noticed(bug: str, tmp_path: Path) -> None:
    """If a rule is left out of the model, the model differs from the code in some small case."""
    assert any(differences(cases(tmp_path, (bug,))))
