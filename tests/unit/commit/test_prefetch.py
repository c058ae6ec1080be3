"""What is taken in advance: how much, for how long, and what goes back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from limiter.commit.prefetch import Purse
from limiter.core.limits import gcra
from limiter.core.request import Charge, Grant, Receipt
from limiter.models import Limit, Prefetch

SECOND = gcra.NANOSECONDS
EPOCH = 1_800_000_000 * SECOND
REQUESTS, TOKENS = Limit.per_hour("requests", 1_000), Limit.per_hour("tokens", 100_000)
SMALLER = Limit.per_hour("requests", 100)
PREFETCH = Prefetch(horizon=1.0, fraction=0.5)


def grant(*charges: Charge, now: int = EPOCH) -> Grant:
    """What a write that takes the charges is answered with."""
    return Grant(tuple(Receipt(limit, units, gcra.cost(limit, units), EPOCH, now, now) for limit, units in charges), now)


def held(purse: Purse) -> dict[str, int]:
    """What goes back when everything does, in units."""
    return {credit.limit.name: credit.cost // gcra.cost(credit.limit, 1) for credit in purse.empty()}


def busy(*charges: Charge) -> Purse:
    """A purse whose owner asks for the charges 100 times in 100 ms, and holds a block of them from then on."""
    purse = Purse()
    for turn in range(100):
        purse.spend(charges, PREFETCH, EPOCH - (100 - turn) * SECOND // 1_000)
    purse.deposit(grant(*purse.order(charges)), EPOCH)
    return purse


def test_a_block_is_what_the_rate_spends_within_the_horizon() -> None:
    """100 calls in the last 100 ms come to about 100 in a memory of 1 s; and at most the fraction of the capacity is taken."""
    for units, block in ((1, range(90, 101)), (50, range(500, 501))):
        purse = Purse()
        for turn in range(100):
            purse.spend([Charge(REQUESTS, units)], PREFETCH, EPOCH + turn * SECOND // 1_000)
        ((limit, taken),) = purse.order([Charge(REQUESTS, units)])
        assert (limit, taken in block) == (REQUESTS, True)


def test_a_block_is_topped_up_and_no_more() -> None:
    """What is still held is left out of the next block."""
    purse = busy(Charge(REQUESTS, 50))
    assert purse.order([Charge(REQUESTS, 50)]) == ()
    assert purse.spend([Charge(REQUESTS, 30)], PREFETCH, EPOCH) is not None
    assert purse.order([Charge(REQUESTS, 50)]) == (Charge(REQUESTS, 30),)


def test_only_what_is_asked_for_now_is_taken_in_advance() -> None:
    """A limit that the present requests do not name is not taken of, however often it was asked for before."""
    purse = Purse()
    for _ in range(100):
        purse.spend([Charge(REQUESTS, 1), Charge(TOKENS, 100)], PREFETCH, EPOCH)
    assert [limit for limit, _ in purse.order([Charge(REQUESTS, 1)])] == [REQUESTS]


def test_of_versions_of_a_limit_the_last_is_taken() -> None:
    """Two requests under two versions of one limit take one block."""
    purse = Purse()
    for _ in range(20):
        for limit in (REQUESTS, SMALLER):
            purse.spend([Charge(limit, 1)], PREFETCH, EPOCH)
    assert purse.order([Charge(REQUESTS, 1), Charge(SMALLER, 1)]) == (Charge(SMALLER, 20),)


def test_all_that_is_asked_for_is_paid_or_nothing() -> None:
    """Where one limit's block is too small or the amount is 0, the others' stay whole."""
    purse = busy(Charge(REQUESTS, 10), Charge(TOKENS, 10))
    for tokens in (0, 100_000):
        assert purse.spend([Charge(REQUESTS, 1), Charge(TOKENS, tokens)], PREFETCH, EPOCH) is None
    assert held(purse)["requests"] == 500


def test_a_block_is_stale_after_the_horizon() -> None:
    """It is spent up to a nanosecond before, and given back from then on."""
    purse = busy(Charge(REQUESTS, 10))
    assert purse.empty(EPOCH + SECOND - 1) == ()
    assert purse.spend([Charge(REQUESTS, 1)], PREFETCH, EPOCH + SECOND - 1) is not None
    assert purse.spend([Charge(REQUESTS, 1)], PREFETCH, EPOCH + SECOND) is None
    assert [credit.cost for credit in purse.empty(EPOCH + SECOND)] == [gcra.cost(REQUESTS, 499)]
    assert purse.empty() == ()


def test_one_limits_block_keeps_no_others_fresh() -> None:
    """Every limit's units are stale after their own horizon, though another's are taken again and again."""
    purse = busy(Charge(REQUESTS, 10), Charge(TOKENS, 10))
    purse.deposit(grant(Charge(REQUESTS, 5)), EPOCH + SECOND // 2)
    later = EPOCH + SECOND
    assert purse.spend([Charge(TOKENS, 1)], PREFETCH, later) is None
    assert [credit.limit for credit in purse.empty(later)] == [TOKENS]
    assert purse.spend([Charge(REQUESTS, 1)], PREFETCH, later) is not None


def test_limits_that_nobody_asks_for_any_more_are_forgotten() -> None:
    """A caller whose limits are new in every call fills no memory, and units are never forgotten."""
    purse = busy(Charge(REQUESTS, 10))
    for capacity in range(1, 1_000):
        now = EPOCH + capacity * SECOND
        purse.spend([Charge(Limit("requests", capacity, 1, 1.0), 1)], PREFETCH, now)
        purse.deposit(grant(Charge(REQUESTS, 1), now=now), now)
        purse.empty(now)
    assert len(purse._stocks) < 50
    assert held(purse) == {"requests": 1_499}


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2 * SECOND), st.integers(0, 60), st.booleans()), max_size=50))
def test_no_unit_is_spent_twice_or_kept_beyond_the_block(steps: list[tuple[int, int, bool]]) -> None:
    """What is spent, given back and held is what was taken, and what is held is never more than the fraction."""
    purse, now, taken, gone = Purse(), EPOCH, 0, 0
    for passed, units, writes in steps:
        now += passed
        paid = purse.spend([Charge(REQUESTS, units)], PREFETCH, now)
        gone += 0 if paid is None else sum(receipt.cost for receipt in paid.receipts)
        if writes:
            gone += sum(credit.cost for credit in purse.empty(now))
            block = purse.order([Charge(REQUESTS, units)])
            taken += sum(gcra.cost(*charge) for charge in block)
            purse.deposit(grant(*block, now=now), now)
            assert taken - gone <= gcra.cost(REQUESTS, 500)
    assert gone + sum(credit.cost for credit in purse.empty()) == taken
