"""Clients that share buckets of every kind of limit at once, held against the promises of the design."""

from __future__ import annotations

import asyncio
import logging
import os
from random import Random
from typing import TYPE_CHECKING

import pytest
from support.bucket_world import PromiseBroken
from support.kinds_tasks import KindsTasks
from support.limiter_tasks import Script
from support.planted_races import FAULTS

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = int(os.environ.get("LIMITER_FUZZ_RUNS", "40")) // 2
FEW = 150
"""The number of runs within which a planted fault shows."""
SCRIPTS = {
    "every kind": Script(),
    "orders from outside": Script(orders=True),
    "answers that get lost": Script(orders=True, losses=0.1),
    "mixed fleets": Script(fleets=True),
    "everything": Script(fleets=True, orders=True, losses=0.05, steady=False, lingers=(0.0, 0.1)),
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Silence the warnings about refunds that are lost on purpose, and about rates that take turns."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def search(script: Script, runs: int) -> str | None:
    """Return the first broken promise that random runs find, or None."""
    for seed in range(runs):
        try:
            asyncio.run(KindsTasks(Random(seed), script).run())  # noqa: S311 - no secret
        except PromiseBroken as broken:
            return f"{broken} (seed {seed})"
    return None


@pytest.mark.parametrize("name", SCRIPTS)
def test_promises_hold_for_every_kind_at_once(name: str) -> None:
    """Rates, quotas, sessions, totals, slots and shadows of several targets keep every promise in any order.

    In a mixed fleet, in which several rates or periods of a name take turns, a change admits at most the capacities together,
    once; another rate or period begins with what is used under its name.
    """
    assert search(SCRIPTS[name], RUNS) is None


@pytest.mark.parametrize("name", FAULTS)
def test_planted_races_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limiter with a known fault, which shows only where clients act at once, breaks a promise within the first runs."""
    plant, script = FAULTS[name]
    plant(monkeypatch)
    assert search(script, FEW) is not None
