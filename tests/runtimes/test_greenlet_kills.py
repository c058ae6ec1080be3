"""Greenlets that are killed anywhere in a call, in a process of their own, patched first."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = str(Path(__file__).parents[1] / "support" / "greenlet_kills.py")
CAPACITY = 500


def kill_some(seed: int, timeout: float, how: str) -> dict[str, int]:
    """What is left after many kills, and what should be."""
    command = [sys.executable, SCRIPT, str(seed), str(timeout), how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, int] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("seed", [1, 4, 8])
def test_a_killed_greenlet_keeps_nothing(seed: int) -> None:
    """A greenlet that is killed, as leader, in the queue or in its block, ends and keeps no units."""
    answer = kill_some(seed, 0, "one-by-one")
    assert answer["alive"] == 0
    assert answer["left"] == CAPACITY - answer["kept"]


@pytest.mark.parametrize("seed", [1, 4, 5])
def test_greenlets_killed_at_once_lose_what_is_told_and_no_more(seed: int) -> None:
    """Where a killed leader's write carries the refunds of others too, the bucket lacks at most the units told as lost."""
    answer = kill_some(seed, 0, "at-once")
    assert answer["alive"] == 0
    assert 0 <= CAPACITY - answer["kept"] - answer["left"] <= answer["told"]
    assert answer["uncounted"] == 0


@pytest.mark.parametrize("seed", [1, 4])
def test_waiting_greenlets_killed_at_once_never_give_back_too_much(seed: int) -> None:
    """All end and none gains. What later callers have booked upon is not given back, and is no loss."""
    answer = kill_some(seed, 3_600, "at-once")
    assert answer["alive"] == 0
    assert answer["left"] <= CAPACITY - answer["kept"]
    assert answer["uncounted"] == 0
