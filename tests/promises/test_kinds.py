"""Whole limiters beside an exact model of every kind of limit and every way to acquire."""

from __future__ import annotations

import os
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.bucket_world import PromiseBroken
from support.kinds_machine import KindsPlay
from support.planted_kinds import FAULTS

RUNS = int(os.environ.get("LIMITER_FUZZ_RUNS", "40"))
FEW = 100
"""Plays within which a planted fault shows itself."""


def search(runs: int, steps: int = 60) -> str | None:
    """The first broken promise that chance finds, if any."""
    for seed in range(runs):
        try:
            KindsPlay(Random(seed)).run(steps)  # noqa: S311 - no secret
        except PromiseBroken as broken:
            return f"{broken} (seed {seed})"
    return None


def test_calls_of_every_kind_are_decided_as_by_the_model() -> None:
    """Rates, quotas, sessions, totals and shadows in up to 16 buckets of a call: all is told and taken as by exact arithmetic.

    So it is with headroom, oversize, pauses, waits, resets, corrections from inside and outside, and stale knowledge.
    """
    assert search(2 * RUNS) is None


@settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_calls_of_every_kind_are_decided_as_by_the_model_however_they_are_drawn(rng: Random, steps: int) -> None:
    """Hypothesis draws the same plays, prefers extreme ones, and shrinks what it finds."""
    KindsPlay(rng).run(steps)


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limiter with a known fault in what kinds and ways to acquire add is found out within the first plays."""
    FAULTS[name](monkeypatch)
    assert search(FEW) is not None
