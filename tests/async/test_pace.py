# twin: ../sync/test_pace.py
"""Limiters that write to the same bucket count their writes in the item; one that is alone does no more."""

from __future__ import annotations

from typing import Any

import pytest

from limiter.core.pace import ATTEMPT, split
from limiter.core.records import BucketKey

KEY = BucketKey("default", "user-42", "api")
WRITES = 5


@pytest.mark.engines("dynoxide", "dynamodb-local", "moto")
async def test_every_write_of_a_bucket_is_counted(new_limiter: Any, repository: Any) -> None:
    """Also the first, before which nothing was seen; the count of a lone process holds no level."""
    limiter = new_limiter("requests=100/minute")
    for _ in range(WRITES):
        await limiter.try_acquire(KEY.entity_id, KEY.resource)
    assert (await repository.read_bucket(KEY)).count == WRITES * ATTEMPT


@pytest.mark.engines("dynoxide", "dynamodb-local", "moto")
async def test_the_attempts_of_all_limiters_are_counted(new_limiter: Any, repository: Any) -> None:
    """Two limiters in turn lose no write, and no decision is another for it."""
    limiters = [new_limiter("requests=100/minute") for _ in range(2)]
    for _ in range(WRITES):
        for limiter in limiters:
            assert (await limiter.try_acquire(KEY.entity_id, KEY.resource)).allowed
    assert split((await repository.read_bucket(KEY)).count)[0] >= 2 * WRITES


@pytest.mark.engines("memory")
async def test_a_store_in_memory_counts_nothing(new_limiter: Any, repository: Any) -> None:
    """No other process writes to it, so no write is counted."""
    limiters = [new_limiter("requests=100/minute") for _ in range(2)]
    for _ in range(WRITES):
        for limiter in limiters:
            await limiter.try_acquire(KEY.entity_id, KEY.resource)
    assert (await repository.read_bucket(KEY)).count == 0
