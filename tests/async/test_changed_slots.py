# twin: ../sync/test_changed_slots.py
"""What a change of limits does to slots that are held."""

from __future__ import annotations

from typing import Any

import pytest

from limiter import Limit, RateLimitExceeded


async def left(limiter: Any, text: str) -> int:
    """Units, or slots, of the limit that are left."""
    limit = Limit.parse(text)
    (status,) = (await limiter.check("user", consume={limit.name: 0}, limits=[limit])).statuses
    return int(status.available)


async def test_above_a_lowered_capacity_no_slot_is_taken(new_limiter: Any) -> None:
    """Leases keep their slots until they end; a higher capacity frees the difference at once."""
    limiter, other = new_limiter("calls=3 at once"), new_limiter("calls=2 at once")
    async with limiter.acquire("user") as first:
        async with limiter.acquire("user"), limiter.acquire("user"):
            assert await left(limiter, "calls=2 at once") == -1
            assert await left(limiter, "calls=5 at once") == 2
        assert await left(limiter, "calls=1 at once") == 0
        with pytest.raises(RateLimitExceeded):
            await other.acquire("user", limits=[Limit.parse("calls=1 at once")]).__aenter__()
        assert not first.lost
        async with other.acquire("user"):
            pass
    assert await left(limiter, "calls=1 at once") == 1


async def test_slots_stay_held_under_another_ttl(new_limiter: Any) -> None:
    """The time to live is no part of what slots are counted by."""
    limiter, other = new_limiter("calls=1 at once"), new_limiter("calls=1 at once ttl 5")
    async with limiter.acquire("user"):
        with pytest.raises(RateLimitExceeded):
            await other.acquire("user").__aenter__()
    async with other.acquire("user"):
        assert await left(limiter, "calls=1 at once") == 0


async def test_slots_of_another_name_or_kind_begin_unused(new_limiter: Any) -> None:
    """Slots that are held no longer count, and are freed at the end of their lease."""
    limiter = new_limiter("calls=1 at once")
    async with limiter.acquire("user"):
        assert await left(limiter, "jobs=1 at once") == 1
        assert await left(limiter, "calls=5/hour") == 5
        async with limiter.acquire("user", limits=[Limit.parse("calls=5/hour")]):
            assert await left(limiter, "calls=5/hour") == 4
            assert await left(limiter, "calls=1 at once") == 0
    assert await left(limiter, "calls=1 at once") == 1
    assert await left(limiter, "calls=5/hour") == 4
