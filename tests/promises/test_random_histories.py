"""The promises of the design, held against whole limiters whose clients do everything that they may.

They share batches, remember refusals, take in advance, wait, give back, go into debt, change limits, are cancelled, lose answers
and have clocks that disagree. Seeded runs drive asynchronous limiters all at once, and a state machine of Hypothesis synchronous
ones call by call. One judge reckons with both in exact fractions. Every run is the same each time; `LIMITER_FUZZ_RUNS` asks for
more of them.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from support import planted_faults as faults
from support.bucket_world import PromiseBroken
from support.limiter_machine import AllottedMachine, LimiterMachine, SkewedMachine
from support.limiter_tasks import Play, Script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.planted_faults import Fault

RUNS = int(os.environ.get("LIMITER_FUZZ_RUNS", "40"))
FEW = 60
"""The number of runs within which a planted fault shows."""
SCRIPTS = {
    "one bucket": Script(chains=False),
    "chains": Script(),
    "limits of calls": Script(overrides=True),
    "limits that change": Script(changes=True, overrides=True),
    "answers that get lost": Script(losses=0.1),
    "answers that are long in getting lost": Script(losses=0.1, silence=20),
    "clocks that disagree": Script(skew=300_000_000),
    "slow writes": Script(steady=False),
    "writes that linger": Script(lingers=(0.0, 0.1, 1.0)),
    "blocks taken in advance": Script(allotments=True, cancels=False),
    "blocks, and limits of calls": Script(allotments=True, overrides=True),
    "everything": Script(
        changes=True,
        overrides=True,
        losses=0.05,
        lingers=(0.0, 0.1),
        allotments=True,
        steady=False,
    ),
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Silence the warnings about refunds that are lost on purpose."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def search(script: Script, runs: int) -> str | None:
    """Return the first broken promise that random runs find, or None."""
    for seed in range(runs):
        try:
            asyncio.run(Play(Random(seed), script).run())  # noqa: S311 - no secret
        except PromiseBroken as broken:
            return f"{broken} (seed {seed})"
    return None


@pytest.mark.parametrize("name", SCRIPTS)
def test_promises_hold(name: str) -> None:
    """Tasks of several clients run in random order: every promise holds, and nothing leaks."""
    assert search(SCRIPTS[name], RUNS) is None


QUICK = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("machine", [LimiterMachine, AllottedMachine, SkewedMachine])
def test_promises_hold_for_one_call_after_another(machine: type[LimiterMachine]) -> None:
    """No sequence of calls by three clients breaks a promise, and each client gets exactly what it is told."""
    run_state_machine_as_test(machine, settings=QUICK)


PLAIN = Script(chains=False)
CALM = replace(PLAIN, cancels=False)
FAULTS: dict[str, tuple[Fault, Script]] = {
    "batching: a batch charges whom it refuses": (faults.refused_and_charged, CALM),
    "batching: a neighbour's limits": (faults.limits_of_the_neighbour, replace(CALM, overrides=True)),
    "denials: remembered for ever": (faults.denial_without_end, replace(CALM, waits=False, denial_ttls=(0.01,))),
    "denials: for those who have gone": (faults.denial_behind_too_many, replace(CALM, waits=False, denial_ttls=(1.0,))),
    "denials: behind the refused": (
        faults.denial_behind_the_refused,
        replace(CALM, waits=False, debts=False, failures=False, denial_ttls=(1.0,)),
    ),
    "denials: admissions too": (faults.cache_that_admits, CALM),
    "allotments: stale blocks spent": (faults.stale_blocks, replace(CALM, allotments=True)),
    "allotments: units spent and kept": (faults.units_spent_and_kept, replace(CALM, allotments=True)),
    "allotments: no room for the refill": (faults.full_window, replace(CALM, allotments=True)),
    "waiting: a booking not recorded": (faults.drop_changes("booked", "floor"), CALM),
    "waiting: no caller waits": (faults.nobody_told_to_wait, CALM),
    "refunds: after the bucket was full": (faults.relax(faults.without_since), CALM),
    "refunds: repeated when an answer is lost": (
        faults.lost_refunds_repeated,
        replace(CALM, waits=False, losses=0.2, silence=20),
    ),
    "debt: half forgiven": (faults.debts_half_forgiven, CALM),
    "debt: refused": (faults.debts_refused, CALM),
    "debt: nothing for free": (faults.nothing_for_free_in_debt, CALM),
    "changes: limits read once": (faults.limits_read_once, replace(CALM, changes=True)),
    "changes: blocks of another limit": (faults.blocks_of_another_limit, replace(CALM, allotments=True, overrides=True)),
    "cancellations: a waiter keeps what it took": (faults.waiters_keep, PLAIN),
    "cancellations: a leader takes its batch along": (faults.leaders_take_their_batch_along, PLAIN),
    "clocks: the future overwritten": (faults.the_future_overwritten, replace(CALM, skew=300_000_000)),
    "lost answers: written again": (faults.stamps_ignored, replace(CALM, losses=0.2)),
    "arithmetic: a ceiling too high": (faults.relax(faults.wrong_ceiling), CALM),
    "arithmetic: zero costs": (faults.zero_that_costs, CALM),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limiter with a known fault breaks a promise within the first runs."""
    plant, script = FAULTS[name]
    plant(monkeypatch)
    assert search(script, FEW) is not None


# Faults that do not depend on concurrency, so that sequential calls show them too.
SHARED = (
    "refunds: after the bucket was full",
    "debt: half forgiven",
    "waiting: no caller waits",
    "clocks: the future overwritten",
    "arithmetic: zero costs",
)
UNSHRUNK = settings(QUICK, max_examples=2_000, phases=(Phase.generate,), report_multiple_bugs=False)


@pytest.mark.parametrize("name", SHARED)
def test_the_machine_finds_planted_faults(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state machine finds the faults that it can express."""
    FAULTS[name][0](monkeypatch)
    with pytest.raises(PromiseBroken):
        run_state_machine_as_test(SkewedMachine if name.startswith("clocks") else LimiterMachine, settings=UNSHRUNK)
