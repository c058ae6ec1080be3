"""Limiters and repositories that are given to processes of multiprocessing, by pickling or by a fork."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

import pytest

from limiter.audit import judge

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.engines import Engine
    from support.processes import Script

CAPACITY, ASKED = 100, 160
WAYS, GIVEN = ("processes", "pool"), ("limiter", "async", "repository")
# Every start method with every thing that is given, in one of the two ways.
CASES = [
    (WAYS[(row + column) % 2], method, what)
    for row, method in enumerate(multiprocessing.get_all_start_methods())
    for column, what in enumerate(GIVEN)
]


@pytest.mark.parametrize(("way", "method", "what"), CASES)
@pytest.mark.engines("dynoxide")
def test_processes_take_from_one_limit(
    server_engine: Engine,
    table: str,
    way: str,
    method: str,
    what: str,
    run_script: Callable[..., Script],
    tmp_path: Path,
) -> None:
    """Four jobs ask for 160 units of 100 and are allowed exactly 100, which the judge of the record confirms."""
    path = str(tmp_path / "decisions.jsonl")
    environment = {"STACK": table, "ENDPOINT": str(server_engine.endpoint_url), "RECORD": path}
    result = run_script("pickled_limiters.py", way, method, what, **environment).result

    assert result["allowed"] == CAPACITY
    assert 1 <= result["processes"] <= 4
    if way == "processes":
        assert result["processes"] == 4
    verdict = judge(path, clock_error=1.0)
    assert not verdict.findings
    assert verdict.decisions == ASKED
