# twin: ../sync/test_audited_schedules.py
"""A record of limits that change by a schedule keeps every promise of the audit."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, RateLimiter, RateLimitExceeded
from limiter.audit import judge, record
from limiter.runtime.concurrency import gather

if TYPE_CHECKING:
    from pathlib import Path

    from support.engines import FakeClock

pytestmark = pytest.mark.one_server  # What is decided and recorded does not depend on the engine, and takes many calls.
LIMITS = [Limit.parse("requests=8/minute"), Limit.parse("calls=2 at once")]
OTHERS = [Limit.parse("requests=30/minute burst 12"), Limit.parse("calls=3 at once")]


async def one_call(limiter: RateLimiter, chance: random.Random, clock: FakeClock) -> None:
    """Acquire at random, and give some back."""
    timeout = chance.choice([None, None, 30.0])
    try:
        async with limiter.acquire("user", "api", {"requests": chance.randint(1, 4), "calls": 1}, timeout=timeout) as lease:
            clock.advance(chance.choice([0.0, 1.0]))
            if chance.random() < 0.3:
                await lease.release(requests=1)
    except RateLimitExceeded:
        pass


@pytest.mark.parametrize("seed", range(6))
async def test_a_record_across_change_overs_passes(
    repository: Any, open_repository: Any, clock: FakeClock, tmp_path: Path, seed: int
) -> None:
    """Rates and slots that alternate every two minutes are kept by two limiters, each within its own time."""

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    chance = random.Random(seed)  # noqa: S311 - no secret
    recorder = record(tmp_path / "record")
    new = partial(RateLimiter, sleep=sleep, on_decision=recorder, decision_timeout=60.0)
    limiters = [new(repository), new(open_repository())]
    windows = [(f"08:{minute:02}-08:{minute + 2:02}", "UTC", OTHERS) for minute in range(2, 58, 4)]
    await limiters[0].set_limits(LIMITS, schedule=windows)
    for _ in range(40):
        crowd = [partial(one_call, chance.choice(limiters), chance, clock) for _ in range(chance.randint(1, 3))]
        assert not [each for each in await gather(crowd) if each is not None]
        clock.advance(chance.choice([0.0, 0.5, 5.0, 40.0]))
    verdict = judge(recorder.path)
    recorder.close()
    assert not verdict.findings
    assert verdict.limits == 4
