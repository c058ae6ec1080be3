# twin: ../sync/test_priorities.py
"""Traffic of two classes on one bucket: batch work leaves room, and people find it."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any

from limiter.runtime.concurrency import gather

if TYPE_CHECKING:
    from support.engines import FakeClock

STEPS = 150


async def ask(limiter: Any, told: list[bool], **options: Any) -> None:
    """One call for a unit."""
    told.append(bool(await limiter.try_acquire("model", "api", {"requests": 1}, **options)))


async def test_people_within_their_fifth_are_never_refused(new_limiter: Any, clock: FakeClock) -> None:
    """With `headroom=0.2` on batch traffic at twice the limit, from several limiters at once, a steady fifth always fits."""
    batch = [new_limiter("requests=50/second") for _ in range(3)]
    people = [new_limiter("requests=50/second"), new_limiter("requests=50/second", denial_ttl=0)]
    chance = random.Random(7)  # noqa: S311 - no secret
    waited: list[bool] = []
    told: list[bool] = []
    began = clock()
    for step in range(STEPS):
        clock.advance(0.02)
        calls = [partial(ask, chance.choice(batch), waited, headroom=0.2) for _ in range(2)]
        if step % 5 == 0:
            calls.insert(chance.randint(0, 2), partial(ask, chance.choice(people), told))
        assert not [error for error in await gather(calls) if error is not None]
    assert told == [True] * (STEPS // 5)
    admitted = sum(waited)
    # Both classes together stay within the limit, and what is not needed by people goes to batch work. A pace moves the clock on.
    refilled = 50 * (clock() - began) / 1e9
    assert 50 * STEPS * 0.02 <= refilled < 1.2 * 50 * STEPS * 0.02
    assert 0.75 * 50 * STEPS * 0.02 <= admitted <= 40 + refilled - len(told)


async def test_a_fifth_is_there_after_any_rush_of_batch_work(new_limiter: Any) -> None:
    """Exactly a fifth of the capacity is left to others, regardless of how many batch callers ask, with or without timeouts."""
    batch, people = [new_limiter("requests=50/second") for _ in range(3)], new_limiter("requests=50/second")
    told: list[bool] = []
    calls = [partial(ask, limiter, told, headroom=0.2) for limiter in batch for _ in range(30)]
    assert not [error for error in await gather(calls) if error is not None]
    assert sum(told) == 40
    await gather([partial(ask, people, told) for _ in range(20)])
    assert sum(told) == 50
