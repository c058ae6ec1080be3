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


@pytest.mark.parametrize("timeout", [0, 3_600])
@pytest.mark.parametrize("seed", [1, 4])
def test_greenlets_killed_at_once_never_give_back_too_much(seed: int, timeout: float) -> None:
    """Also where a killed leader's write carries the refunds of others, and where callers wait, all end and none gains."""
    answer = kill_some(seed, timeout, "at-once")
    assert answer["alive"] == 0
    assert answer["left"] <= CAPACITY - answer["kept"]
