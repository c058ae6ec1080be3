"""An update that was given up for lost may arrive late, and must not pass for another that was sent in its place."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from limiter import Limit, MemoryRepository, RateLimiterUnavailable
from limiter.commit.committer import Committer
from limiter.commit.writer import CommitterOptions
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from support.engines import FakeClock

    from limiter.core.state import Update, WriteResult

KEY = BucketKey("default", "user", "api")
LIMIT = Limit("requests", 3, 1, 1.0)
ONE, NOTHING = (Request(KEY, (Charge(LIMIT, units),)) for units in (1, 0))


class Late(MemoryRepository):
    """Takes its time for every write, and holds one back until just before the next."""

    between: Callable[[], Awaitable[None]] | None = None
    held: Update | None = None

    async def write_bucket(self, key: BucketKey, update: Update) -> WriteResult:
        await asyncio.sleep(0)
        if self.between is not None:
            between, self.between = self.between, None
            await between()
            self.held = update
            raise RateLimiterUnavailable("timed out")
        if self.held is not None:
            held, self.held = self.held, None
            assert (await super().write_bucket(key, held)).applied
        return await super().write_bucket(key, update)


async def test_what_is_sent_again_passes_for_no_more_than_was_written(clock: FakeClock) -> None:
    """Two callers ask where one unit is left; its update hangs; then there is room for both, and the update arrives after all."""
    repository = Late(clock=clock)
    ours, other = (Committer(repository, CommitterOptions()) for _ in range(2))
    await other.decide([ONE])
    theirs = (await other.decide([ONE]))[0]
    assert isinstance(theirs, Grant)

    async def refund_grants() -> None:
        await other.refund_grants([(KEY, theirs)])

    await ours.decide([NOTHING])  # and so know that one unit is left
    repository.between = refund_grants
    outcomes = await asyncio.gather(ours.decide([ONE]), ours.decide([ONE]))
    granted = sum(isinstance(outcome, Grant) for (outcome,) in outcomes)
    taken = (await repository.read_bucket(KEY)).level(LIMIT.identity).tat - clock()
    assert granted == 2
    assert taken >= (1 + granted) * 1_000_000_000
