"""A give-back whose caller is interrupted is written by others, or counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.processes import Script


@pytest.mark.parametrize("what", ["refund", "release", "adjust"])
@pytest.mark.parametrize("runtime", ["threads", "gevent"])
def test_a_refund_that_is_interrupted_in_line_is_written(run_script: Callable[..., Script], runtime: str, what: str) -> None:
    """SIGINT or a kill that strikes a give-back behind another caller's write loses none of it."""
    assert run_script("interrupted_refunds.py", runtime, what).result == {"left": 99, "lost": 0}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_random_kills_lose_is_counted(run_script: Callable[..., Script], seed: int) -> None:
    """No bucket gets more back than was taken, and what a bucket is short of are units that were told of it."""
    result = run_script("interrupted_refunds.py", "kills", str(seed)).result
    assert [(short, told) for short, told in zip(result["short"], result["told"], strict=True) if not 0 <= short <= told] == []
    assert result["uncounted"] == 0
