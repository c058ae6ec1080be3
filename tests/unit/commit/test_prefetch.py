"""Prefetched units: how many, for how long, and which are refunded."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from limiter.commit.prefetch import PrefetchBuffer
from limiter.core.limits import Limit, gcra
from limiter.core.prefetch import Prefetch
from limiter.core.request import Charge, Grant, Receipt
from limiter.core.units import NANOSECONDS

SECOND = NANOSECONDS
EPOCH = 1_800_000_000 * SECOND
REQUESTS, TOKENS = Limit.per_hour("requests", 1_000), Limit.per_hour("tokens", 100_000)
SMALLER = Limit.per_hour("requests", 100)
PREFETCH = Prefetch(horizon=1.0, fraction=0.5)


def grant(*charges: Charge, now: int = EPOCH) -> Grant:
    """Return the response to a write that includes the charges."""
    return Grant(tuple(Receipt(limit, units, gcra.cost(limit, units), EPOCH, now, now) for limit, units in charges), now)


def held(buffer: PrefetchBuffer) -> dict[str, int]:
    """Return the units that a full refund returns."""
    return {refund.limit.name: refund.cost // gcra.cost(refund.limit, 1) for refund in buffer.drain()}


def busy(*charges: Charge) -> PrefetchBuffer:
    """Return a buffer whose owner asks for the charges 100 times in 100 ms, and then holds a block of them."""
    buffer = PrefetchBuffer()
    for turn in range(100):
        buffer.take(charges, PREFETCH, EPOCH - (100 - turn) * SECOND // 1_000)
    buffer.add(grant(*buffer.wanted(charges)), EPOCH)
    return buffer


def test_a_block_is_what_the_rate_spends_within_the_horizon() -> None:
    """100 calls in the last 100 ms are about 100 in a memory of 1 s; at most the fraction of the capacity is prefetched."""
    for units, block in ((1, range(90, 101)), (50, range(500, 501))):
        buffer = PrefetchBuffer()
        for turn in range(100):
            buffer.take([Charge(REQUESTS, units)], PREFETCH, EPOCH + turn * SECOND // 1_000)
        ((limit, taken),) = buffer.wanted([Charge(REQUESTS, units)])
        assert (limit, taken in block) == (REQUESTS, True)


def test_a_block_is_topped_up_and_no_more() -> None:
    """Units that are still held are left out of the next block."""
    buffer = busy(Charge(REQUESTS, 50))
    assert buffer.wanted([Charge(REQUESTS, 50)]) == ()
    assert buffer.take([Charge(REQUESTS, 30)], PREFETCH, EPOCH) is not None
    assert buffer.wanted([Charge(REQUESTS, 50)]) == (Charge(REQUESTS, 30),)


def test_only_what_is_asked_for_now_is_taken_in_advance() -> None:
    """A limit that the present requests do not name is not prefetched, however often it was requested before."""
    buffer = PrefetchBuffer()
    for _ in range(100):
        buffer.take([Charge(REQUESTS, 1), Charge(TOKENS, 100)], PREFETCH, EPOCH)
    assert [limit for limit, _ in buffer.wanted([Charge(REQUESTS, 1)])] == [REQUESTS]


def test_of_versions_of_a_limit_the_last_is_taken() -> None:
    """Two requests under two versions of one limit get one block."""
    buffer = PrefetchBuffer()
    for _ in range(20):
        for limit in (REQUESTS, SMALLER):
            buffer.take([Charge(limit, 1)], PREFETCH, EPOCH)
    assert buffer.wanted([Charge(REQUESTS, 1), Charge(SMALLER, 1)]) == (Charge(SMALLER, 20),)


def test_all_that_is_asked_for_is_paid_or_nothing() -> None:
    """If one limit's block is too small or the amount is 0, the blocks of the others stay unchanged."""
    buffer = busy(Charge(REQUESTS, 10), Charge(TOKENS, 10))
    for tokens in (0, 100_000):
        assert buffer.take([Charge(REQUESTS, 1), Charge(TOKENS, tokens)], PREFETCH, EPOCH) is None
    assert held(buffer)["requests"] == 500


def test_a_block_is_stale_after_the_horizon() -> None:
    """A block is spent until a nanosecond before its horizon, and refunded from then on."""
    buffer = busy(Charge(REQUESTS, 10))
    assert buffer.drain(EPOCH + SECOND - 1) == ()
    assert buffer.take([Charge(REQUESTS, 1)], PREFETCH, EPOCH + SECOND - 1) is not None
    assert buffer.take([Charge(REQUESTS, 1)], PREFETCH, EPOCH + SECOND) is None
    assert [refund.cost for refund in buffer.drain(EPOCH + SECOND)] == [gcra.cost(REQUESTS, 499)]
    assert buffer.drain() == ()


def test_one_limits_block_keeps_no_others_fresh() -> None:
    """Each limit's units expire after their own horizon, even if another limit's are used again and again."""
    buffer = busy(Charge(REQUESTS, 10), Charge(TOKENS, 10))
    buffer.add(grant(Charge(REQUESTS, 5)), EPOCH + SECOND // 2)
    later = EPOCH + SECOND
    assert buffer.take([Charge(TOKENS, 1)], PREFETCH, later) is None
    assert [refund.limit for refund in buffer.drain(later)] == [TOKENS]
    assert buffer.take([Charge(REQUESTS, 1)], PREFETCH, later) is not None


def test_limits_that_nobody_asks_for_any_more_are_forgotten() -> None:
    """A caller whose limits are new in every call does not fill the memory, and units are never forgotten."""
    buffer = busy(Charge(REQUESTS, 10))
    for capacity in range(1, 1_000):
        now = EPOCH + capacity * SECOND
        buffer.take([Charge(Limit("requests", capacity, 1, 1.0), 1)], PREFETCH, now)
        buffer.add(grant(Charge(REQUESTS, 1), now=now), now)
        buffer.drain(now)
    assert len(buffer._held) < 50
    assert held(buffer) == {"requests": 1_499}


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2 * SECOND), st.integers(0, 60), st.booleans()), max_size=50))
def test_no_unit_is_spent_twice_or_kept_beyond_the_block(steps: list[tuple[int, int, bool]]) -> None:
    """Units spent, refunded and held add up to the units prefetched, and at most the fraction is held."""
    buffer, now, taken, gone = PrefetchBuffer(), EPOCH, 0, 0
    for passed, units, writes in steps:
        now += passed
        paid = buffer.take([Charge(REQUESTS, units)], PREFETCH, now)
        gone += 0 if paid is None else sum(receipt.cost for receipt in paid.receipts)
        if writes:
            gone += sum(refund.cost for refund in buffer.drain(now))
            block = buffer.wanted([Charge(REQUESTS, units)])
            taken += sum(gcra.cost(*charge) for charge in block)
            buffer.add(grant(*block, now=now), now)
            assert taken - gone <= gcra.cost(REQUESTS, 500)
    assert gone + sum(refund.cost for refund in buffer.drain()) == taken
