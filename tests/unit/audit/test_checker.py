"""The audit finds no fault with histories of an exact model of limits.

The test of `limiter.audit.capacity`, `limiter.audit.refill`, `limiter.audit.refusals`, `limiter.audit.spans` and
`limiter.audit.uses`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.recorded_histories import EPOCH, SECOND, Count, Slots, World, admitted, rate, refunded, refused, verdict

if TYPE_CHECKING:
    from support.recorded_histories import Model

SEEDS = st.integers(0, 2**32)
# Seconds for which a limiter may remember a refusal; the model remembers none, so either has to pass.
MEMORIES = st.sampled_from((0.0, 1.0))


def models(chance: random.Random, kind: str) -> list[Model]:
    """Limits of one kind, of any size."""
    capacity = chance.randint(1, 20)
    match kind:
        case "rate":
            return [rate("a", capacity, chance.randint(1, 9), chance.choice((1, 7)))]
        case "quota":
            return [Count(f"a={capacity}/hour in UTC", capacity, 3_600 * SECOND)]
        case "session":
            return [Count(f"a={capacity}/session of 30 seconds", capacity, 30 * SECOND, session=True)]
        case "total":
            return [Count(f"a={capacity} in all", capacity)]
        case "slots":
            return [Slots(f"a={capacity} at once", capacity)]
        case _:
            return [
                rate("a", capacity, chance.randint(1, 9), 3),
                Count(f"b={capacity * 5}/hour in UTC", capacity * 5, 3_600 * SECOND),
            ]


def play(
    seed: int, kind: str, *, chains: bool = False, waits: bool = False, lost: bool = False, calls: int = 120
) -> list[dict[str, Any]]:
    """A history of many calls."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    world = World(chance, latency=chance.choice((0, SECOND // 100, SECOND)))
    user, parent = models(chance, kind), models(chance, kind)
    if kind == "quota":
        world.now += 3_590 * SECOND
    most = max(1, user[0].capacity // 2)
    moment = 0
    for _ in range(calls):
        moment += chance.choice((0, 0, SECOND // 50, SECOND // 3, SECOND, 9 * SECOND))
        buckets = {"user": user} if not chains or chance.random() < 0.5 else {"user": user, "parent": parent}
        if chains and chance.random() < 0.2:
            buckets = {"parent": parent}
        call = world.call(
            buckets,
            chance.randint(1, most),
            hold=chance.choice((0, SECOND // 10, 3 * SECOND)),
            patience=chance.choice((0, 5 * SECOND)) if waits else 0,
            back=chance.choice((0.0, 0.0, 0.5, 1.0)),
            more=chance.choice((0, 0, 2)) if kind in ("rate", "total") else 0,
            lost=lost and chance.random() < 0.3,
        )
        world.start(call, moment)
    return world.run()


@settings(deadline=None, derandomize=True)  # this machine may stall
@given(SEEDS, st.sampled_from(("rate", "quota", "session", "total", "slots", "mixed")), st.booleans(), MEMORIES)
def test_histories_of_an_exact_model_pass(seed: int, kind: str, chains: bool, memory: float) -> None:
    """What an exact model decides breaks no promise, with any latencies, corrections, refunds and chains."""
    found = verdict(play(seed, kind, chains=chains), denial_ttl=memory)
    assert not found.findings


@settings(deadline=None, derandomize=True)  # this machine may stall
@given(SEEDS, st.booleans(), MEMORIES)
@example(8222240, False, 0.0)  # A bucket that is full to the nanosecond, where the sum of rounded costs is not
def test_callers_who_wait_pass(seed: int, chains: bool, memory: float) -> None:
    """Admissions that start later count at their start, and are in order."""
    found = verdict(play(seed, "rate", chains=chains, waits=True), denial_ttl=memory)
    assert not found.findings


@settings(deadline=None, derandomize=True)  # this machine may stall
@given(SEEDS, st.sampled_from(("rate", "quota", "session", "total")), MEMORIES)
def test_refunds_that_may_be_lost_pass(seed: int, kind: str, memory: float) -> None:
    """A refund without a response may have been written or not."""
    found = verdict(play(seed, kind, lost=True), denial_ttl=memory)
    assert not found.findings


def test_a_full_bucket_is_full_however_costs_are_rounded() -> None:
    """A bucket that has just become full gives nothing back of what was taken before, though rounded costs add up to more."""
    limit = rate("a", 3, 3, 1).text
    taken = [admitted("first", EPOCH, limit), admitted("second", EPOCH, limit, 2), admitted("third", EPOCH + SECOND, limit, 3)]
    lines = [*taken, refunded("second", EPOCH + SECOND, EPOCH + SECOND, limit, 2), refused("last", EPOCH + SECOND, limit)]
    assert not verdict(lines).findings


def test_a_refund_that_is_seen_late_is_worth_no_more() -> None:
    """What a refund gives back refills in any case by the time the bucket would be full, also for one who sees it later."""
    limit = rate("a", 4, 1, 1).text
    late = EPOCH + 39 * SECOND // 10
    lines = [
        admitted("first", EPOCH, limit, 2),
        admitted("second", EPOCH, limit, 2),
        refunded("second", EPOCH + SECOND, EPOCH + SECOND, limit, 2),
        admitted("third", late, limit, 4),
        refused("last", late + SECOND // 5, limit),
    ]
    assert not verdict(lines, denial_ttl=3.0).findings
    assert verdict([*lines[:3], *lines[4:]], denial_ttl=3.0).findings
