# twin: sync_retry.py
"""How often a call is repeated, and the pause before the next attempt."""

from __future__ import annotations

import asyncio
import random
from time import monotonic

ATTEMPTS = 3
"""How many times a repeatable call is made before the table counts as unavailable."""
RETRY_FOR = 1.0
"""Seconds that all attempts together may be expected to take."""
BACKOFF = 0.05
"""Seconds before the second attempt, on average; doubled before the next."""


async def backoff(attempt: int) -> None:
    """Wait before the attempt after number `attempt`: longer each time, and at random, so that callers do not retry in step."""
    await asyncio.sleep(BACKOFF * 2**attempt * random.uniform(0.25, 0.75))  # noqa: S311 - spreads callers, hides nothing


class Retry:
    """How often something is attempted: `attempts` times at most, while the next attempt can be expected to end in time."""

    def __init__(self, attempts: int = ATTEMPTS) -> None:
        self._attempts = attempts
        self._attempt = 1
        self._first = self._began = monotonic()

    def is_over(self) -> bool:
        """Tell whether the attempt that has just failed was the last."""
        # The next attempt may take as long as this one.
        return self._attempt == self._attempts or 2 * monotonic() - self._began - self._first > RETRY_FOR

    async def backoff(self) -> None:
        """Wait before the next attempt."""
        await backoff(self._attempt)
        self._attempt += 1
        self._began = monotonic()
