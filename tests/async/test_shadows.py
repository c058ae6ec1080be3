# twin: ../sync/test_shadows.py
"""A shadow beside a hard limit on the same traffic: what it says is what the hard limit does, and it costs no call of its own."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from limiter import Decision, Limit, MemoryRepository, Quota, RateLimiter
from limiter.contrib.http import rate_headers

if TYPE_CHECKING:
    from support.engines import FakeClock

    from limiter import BaseLimit
    from limiter.events import DecisionEvent

LIMITS: tuple[BaseLimit, ...] = (
    Limit("a", 8, 4, 1.0),
    Limit("a", 3, 7, 11.0),
    Limit.at_most("a", 9, 12.0),
    Quota.per_hour("a", 9),
    Quota.session("a", 6, 5.0),
    Quota.total("a", 60),
)


class Side:
    """A limiter with one limit on a bucket of its own, and the events that it told."""

    def __init__(self, clock: FakeClock, *limits: BaseLimit) -> None:
        self.events: list[DecisionEvent] = []
        self.limiter = RateLimiter(
            MemoryRepository(clock=clock), limits, denial_ttl=0, on_decision=self.events.append, decision_timeout=60.0
        )

    async def ask(self, amounts: dict[str, int]) -> Decision:
        """Ask for good."""
        return await self.limiter.try_acquire("user", "api", amounts)

    @property
    def calls(self) -> int:
        """Calls made to the store so far."""
        return self.limiter.stats().calls


def hardened(statuses: Any) -> tuple[Any, ...]:
    """What statuses of a shadow would be of a hard limit."""
    return tuple(replace(each, limit=replace(each.limit, enforce=True)) for each in statuses)


@pytest.mark.parametrize("limit", LIMITS, ids=str)
async def test_a_shadow_tells_what_its_hard_twin_does(clock: FakeClock, limit: BaseLimit) -> None:
    """Statuses, events, headers, looks and counts agree on random traffic with corrections, and so does what is left."""
    chance = random.Random(str(limit))  # noqa: S311 - no secret
    hard, soft = Side(clock, limit), Side(clock, replace(limit, enforce=False))
    refused = 0
    for _ in range(80):
        clock.advance(chance.choice((0.0, 0.001, 0.3, 1.0, 7.0)))
        units, before = chance.randint(0, limit.capacity // 2), (hard.calls, soft.calls)
        if chance.random() < 0.15:
            change = {"a": chance.randint(-units, units)}
            await hard.limiter.adjust("user", "api", change)
            await soft.limiter.adjust("user", "api", change)
        else:
            told, shown = await hard.ask({"a": units}), await soft.ask({"a": units})
            refused += not told
            assert (shown.allowed, shown.retry_after) == (True, 0.0)
            assert hardened(shown.statuses) == told.statuses
            assert Decision.of(hardened(shown.statuses)) == told
            headers = [rate_headers(each, headers="draft-11") for each in (told.statuses, hardened(shown.statuses))]
            assert headers[0] == headers[1]
            assert hardened(soft.events[-1].statuses) == hard.events[-1].statuses
            assert (soft.events[-1].allowed, hard.events[-1].allowed) == (True, told.allowed)
        assert soft.calls - before[1] <= hard.calls - before[0]
        looks = [await side.limiter.check("user", "api", {"a": units}) for side in (hard, soft)]
        assert hardened(looks[1].statuses) == looks[0].statuses
    assert refused > 3
    counts = [side.limiter.stats() for side in (hard, soft)]
    assert counts[0].decisions == counts[1].decisions
    assert (counts[0].refusals, counts[1].refusals) == (refused, 0)


async def test_a_shadow_adds_no_call_to_a_bucket(clock: FakeClock) -> None:
    """With a shadow beside it a hard limit decides the same with as many calls, and leaves as much."""
    chance = random.Random(5)  # noqa: S311 - no secret
    plain, shadowed = (
        Side(clock, Limit("a", 8, 4, 1.0)),
        Side(clock, Limit("a", 8, 4, 1.0), Quota.per_hour("b", 20, enforce=False)),
    )
    exceeded = 0
    for _ in range(150):
        clock.advance(chance.choice((0.0, 0.3, 1.0)))
        units = chance.randint(1, 4)
        told, shown = await plain.ask({"a": units}), await shadowed.ask({"a": units, "b": units})
        assert (told.allowed, told.retry_after) == (shown.allowed, shown.retry_after)
        assert [each for each in shown.statuses if each.limit.enforce] == list(told.statuses)
        assert shadowed.calls == plain.calls
        exceeded += shown.allowed and shown.statuses[1].exceeded
    assert exceeded > 20


async def test_a_shadow_of_another_rate_holds_up_no_refusal(clock: FakeClock) -> None:
    """A shadow that is new beside another rate of its name leaves a refusal as it is: told at once, and the table in reach."""
    rates = (Limit("a", 5, 5, 60.0, enforce=False), Limit("a", 5, 5, 3_600.0, enforce=False))
    limiter = RateLimiter(MemoryRepository(clock=clock), stored=False)
    assert await limiter.try_acquire("user", limits=[Quota.total("b", 1), rates[0]])
    told = await limiter.try_acquire("user", limits=[Quota.total("b", 1), rates[1]])
    assert [status.limit.name for status in told.statuses if status.exceeded] == ["b"]
    assert limiter.stats().failures == 0


async def test_a_full_rate_of_another_number_holds_up_no_refusal(clock: FakeClock) -> None:
    """Nor does a rate that begins full, because the other rate of its name has refilled."""
    limiter = RateLimiter(MemoryRepository(clock=clock), stored=False)
    assert await limiter.try_acquire("user", limits=[Quota.total("b", 1), Limit("a", 5, 5, 1.0)])
    clock.advance(10.0)
    told = await limiter.try_acquire("user", limits=[Quota.total("b", 1), Limit("a", 5, 5, 60.0)])
    assert [status.limit.name for status in told.statuses if status.exceeded] == ["b"]
    assert limiter.stats().failures == 0
