"""Shadows, headroom, oversize, pauses, resets and corrections from outside a lease."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.store import Store

from limiter import Decision, Limit, Quota, ValidationError
from limiter.core import preview, status
from limiter.core.allocation import Allocation
from limiter.core.headroom import check_headroom, reserves
from limiter.core.limits import Concurrency, gcra
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, Refusal, Request
from limiter.core.state import EMPTY, UNBOUNDED
from limiter.core.units import NANOSECONDS

KEY = BucketKey("default", "user", "api")
SECOND = NANOSECONDS
TEN = Limit.per_second("a", 10)
ONE = Limit.per_second("a", 1)
DAY, TOTAL, SESSION = Quota.per_day("q", 10), Quota.total("t", 10), Quota.session("s", 10, 3_600)
LIMITS = (TEN, DAY, TOTAL, SESSION)
ids = pytest.mark.parametrize("limit", LIMITS, ids=str)


def asking(store: Store, limit: object, units: int = 1, *, wait: int = 0, share: float = 0.0, oversize: bool = False) -> Request:
    """The request of a caller."""
    charges = (Charge(limit, units),)  # type: ignore[arg-type] # any limit
    return Request(KEY, charges, deadline=store.now + wait, headroom=reserves(charges, share or None), oversize=oversize)


# Shadows.


@ids
def test_a_shadow_refuses_nothing_and_tells_what_it_would_have(limit: Limit) -> None:
    """What fits is charged, what does not is not; the status is exceeded, and the decision leaves it out."""
    shadow, store = replace(limit, enforce=False), Store()
    for _ in range(10):
        assert store.take(shadow).receipts[0].left_out is None
    for _ in range(3):
        grant = store.take(shadow)
        (told,) = status.granted(KEY, grant)
        assert (told.exceeded, told.available, grant.start) == (True, 0, store.now)
        assert Decision.of([told]).allowed
        assert Decision.of([told]).retry_after == 0.0
        assert not Allocation.of(grant.receipts[0]).release(1)[1].cost
    assert (
        status.granted(KEY, grant)[0].retry_after == status.refused(KEY, (Charge(limit, 1),), store.refusal(limit))[0].retry_after
    )


def test_a_shadow_never_delays() -> None:
    """With patience it books as a hard limit would, and its caller goes at once."""
    store = Store()
    shadow = replace(ONE, enforce=False)
    grants = [store.take(shadow, wait=2 * SECOND) for _ in range(4)]
    assert [grant.start for grant in grants] == [store.now] * 4
    assert [grant.receipts[0].left_out is None for grant in grants] == [True, True, True, False]


def test_a_shadow_above_its_capacity_has_no_time() -> None:
    """An amount that a hard limit could never allow is let through, and told as such."""
    shadow, store = replace(ONE, enforce=False), Store()
    grant = store.take(shadow, units=5)
    assert status.granted(KEY, grant)[0].retry_after is None
    assert not status.never_satisfiable([Request(KEY, (Charge(shadow, 5),))])
    assert status.never_satisfiable([Request(KEY, (Charge(ONE, 5),))])


def test_a_shadow_that_was_left_out_wrongly_defeats_the_write() -> None:
    """A field that a stale view leaves out is asserted to be absent, beside any other changes."""
    shadow, hard, store = replace(TEN, enforce=False), Limit.per_second("b", 100), Store()
    full = store.take(shadow, units=10)
    known = store.known
    store.give(full, 10)
    store.known = known
    request = Request(KEY, (Charge(hard, 1), Charge(shadow, 1)), deadline=store.now)
    assert store.ask(request) == [None]
    (outcome,) = store.ask(request)
    assert isinstance(outcome, Grant)
    assert [each.left_out for each in outcome.receipts] == [None, None]


def test_a_shadow_that_would_refuse_writes_nothing_alone() -> None:
    """In a bucket of nothing but a shadow that is exceeded a known state is enough."""
    shadow, store = replace(ONE, enforce=False), Store()
    store.take(shadow)
    before = store.state
    assert store.take(shadow).receipts[0].left_out is not None
    assert store.plan.update is None
    assert store.state == before


def test_a_shadow_that_is_left_out_beside_its_refund_can_be_written() -> None:
    """It cannot book in a batch that gives back to it; what is asserted of it is true, so the batch is written at once."""
    shadow, hard, store = replace(ONE, enforce=False), Limit.per_second("b", 10), Store()
    (receipt,) = store.take(shadow).receipts
    asking = Request(KEY, (Charge(hard, 1), Charge(shadow, 1)), deadline=store.now + 5 * SECOND)
    giving = Request(KEY, refunds=(Allocation.of(receipt).release(1)[1],))
    outcomes = store.ask(asking, giving)
    assert [isinstance(each, Grant) for each in outcomes] == [True, True]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.randoms(use_true_random=False), st.sampled_from([*LIMITS, Limit("a", 3, 7, 11.0)]))
def test_a_shadow_would_refuse_exactly_what_its_hard_twin_refuses(rng: Random, limit: Limit) -> None:
    """On the same traffic, with batches, corrections and refunds, the two decide alike and hold the same."""
    hard, soft = Store(), Store()
    shadow = replace(limit, enforce=False)
    held: list[tuple[Grant, Grant]] = []
    for _ in range(30):
        hard.now = soft.now = hard.now + rng.choice((0, 0, 1, SECOND // 10, SECOND, 600 * SECOND))
        if held and rng.random() < 0.3:
            pair = held.pop(rng.randrange(len(held)))
            for store, grant in zip((hard, soft), pair, strict=True):
                receipt = grant.receipts[0]
                store.ask(Request(KEY, refunds=(Allocation.of(receipt).release(receipt.units)[1],)))
        elif rng.random() < 0.2:
            units = rng.randint(1, limit.capacity)
            hard.force(limit, units)
            soft.force(shadow, units)
        else:
            amounts = [rng.randint(0, limit.capacity) for _ in range(rng.randint(1, 4))]
            refused = hard.ask(*(asking(hard, limit, units) for units in amounts))
            left = soft.ask(*(asking(soft, shadow, units) for units in amounts))
            for one, other in zip(refused, left, strict=True):
                assert isinstance(other, Grant)
                assert isinstance(one, Refusal) == (other.receipts[0].left_out is not None)
                if isinstance(one, Grant):
                    held.append((one, other))
        assert hard.state.levels == soft.state.levels


# Headroom.


@ids
def test_headroom_leaves_a_share_to_others(limit: Limit) -> None:
    """A caller with headroom takes four fifths of a capacity of 10; the others find the last fifth untouched."""
    store = Store()
    for _ in range(8):
        (outcome,) = store.ask(asking(store, limit, share=0.2))
        assert isinstance(outcome, Grant)
    (outcome,) = store.ask(asking(store, limit, share=0.2))
    assert isinstance(outcome, Refusal)
    store.take(limit, units=2)
    store.refusal(limit)


@ids
def test_an_amount_of_nothing_asks_for_debt_alone(limit: Limit) -> None:
    """With headroom too, 0 is refused only if the bucket is in debt."""
    store = Store()
    store.take(limit, units=10)
    (outcome,) = store.ask(asking(store, limit, 0, share=0.5))
    assert isinstance(outcome, Grant)


def test_headroom_never_books() -> None:
    """A caller with headroom and patience is refused, and told when its unit is due; an interactive caller is not held back."""
    store = Store()
    for _ in range(8):
        store.ask(asking(store, TEN, share=0.2))
    for _ in range(4):
        (outcome,) = store.ask(asking(store, TEN, share=0.2, wait=5 * SECOND))
        assert isinstance(outcome, Refusal)
        assert outcome.start == store.now + SECOND // 10
    store.take(TEN, units=2)


def test_headroom_that_leaves_too_little_is_never_satisfiable() -> None:
    """An amount above what is left beside the reserve has no time."""
    store = Store()
    request = asking(store, TEN, 9, share=0.2)
    (outcome,) = store.ask(request)
    assert isinstance(outcome, Refusal)
    assert outcome.start >= UNBOUNDED
    assert status.never_satisfiable([request])
    assert not status.never_satisfiable([request._replace(headroom=())])


def test_a_look_knows_headroom() -> None:
    """What a state proves to a caller with headroom it does not prove to another."""
    store = Store()
    store.take(TEN, units=8)
    assert isinstance(preview.look(store.state, asking(store, TEN, share=0.2), store.now), Refusal)
    assert not isinstance(preview.look(store.state, asking(store, TEN), store.now), Refusal)


@pytest.mark.parametrize("demand", [2.0, 4.0])
def test_interactive_callers_within_their_fifth_are_never_refused(demand: float) -> None:
    """With `headroom=0.2` on batch traffic of twice the limit and more, those who keep to a fifth of the rate always fit."""
    store, rng, due = Store(), Random(7), 0  # noqa: S311 - no secret
    limit = Limit.per_second("a", 50)
    for _ in range(3_000):
        store.now += SECOND // round(50 * demand)
        store.ask(asking(store, limit, share=0.2))
        due = max(due, store.now)
        if due <= store.now and rng.random() < 0.5:
            store.take(limit)
            due += SECOND // 10


def test_shares_are_meant_in_decimals() -> None:
    """Seven hundredths of 100 units are 7, however a float shows it; slots are not concerned, and names choose."""
    charges = (Charge(Quota.total("t", 100), 1), Charge(Concurrency("c", 5), 1), Charge(TEN, 1))
    assert reserves(charges[:1], 0.07) == (7,)
    assert reserves(charges, {"t": 0.5}) == (50, 0, 0)
    assert reserves(charges, {"unknown": 0.5}) == ()
    assert reserves(charges[2:], 0.2) == (SECOND // 5,)


@pytest.mark.parametrize("wrong", [1, 1.5, -0.1, True, "0.2", {"a": 1.0}, float("nan")])
def test_bad_headroom_is_refused(wrong: object) -> None:
    """A share is from 0 to below 1, and does not go with an oversize request."""
    with pytest.raises(ValidationError, match="headroom"):
        check_headroom(wrong)
    with pytest.raises(ValidationError, match="oversize"):
        check_headroom(0.2, oversize=True)
    assert check_headroom(0) is check_headroom(None, oversize=True) is None
    assert check_headroom({"a": 0.5}) == {"a": 0.5}


# Oversize.


@pytest.mark.parametrize("limit", [TEN, DAY, SESSION], ids=str)
def test_an_oversize_amount_is_admitted_when_all_is_there(limit: Limit) -> None:
    """It goes into debt, which refuses everything until it is paid or over; and not while something is used."""
    store = Store()
    store.take(limit)
    (outcome,) = store.ask(asking(store, limit, 25, oversize=True))
    assert isinstance(outcome, Refusal)
    store.now = outcome.start
    (outcome,) = store.ask(asking(store, limit, 25, oversize=True))
    assert isinstance(outcome, Grant)
    refusal = store.refusal(limit, units=0)
    assert refusal.start > store.now


def test_a_total_admits_nothing_above_its_capacity() -> None:
    """Debt in a total would never be paid."""
    store = Store()
    (outcome,) = store.ask(asking(store, TOTAL, 11, oversize=True))
    assert isinstance(outcome, Refusal)
    assert outcome.start >= UNBOUNDED


def test_an_oversize_booking_starts_when_the_bucket_is_full() -> None:
    """It waits for all that was taken or promised before it."""
    store = Store()
    store.take(ONE)
    store.take(ONE, wait=5 * SECOND)
    (outcome,) = store.ask(asking(store, ONE, 3, wait=9 * SECOND, oversize=True))
    assert isinstance(outcome, Grant)
    assert outcome.start == store.now + 2 * SECOND
    assert store.take(ONE, wait=9 * SECOND).start == store.now + 5 * SECOND


def test_a_cancelled_oversize_booking_moves_no_caller() -> None:
    """On a view that does not know of another's booking, its undoing leaves that start on record."""
    store = Store()
    first = store.take(ONE)
    known = store.known
    store.take(ONE, wait=9 * SECOND)
    store.known = known
    request = asking(store, ONE, 3, wait=9 * SECOND, oversize=True)
    outcome = store.ask(request)[0] or store.ask(request)[0]
    assert isinstance(outcome, Grant)
    store.ask(Request(KEY, refunds=tuple(each.refund() for each in outcome.receipts)))
    store.give(first, 1)
    assert store.take(ONE, wait=9 * SECOND).start == store.now + 2 * SECOND


# Pauses.


@ids
def test_a_paused_bucket_admits_nothing(limit: Limit) -> None:
    """Not to those with patience either, who are told when to ask again; corrections and refunds go on; then it is as before."""
    store = Store()
    held = store.take(limit, units=2)
    store.ask(Request(KEY, pause=store.now + 30 * SECOND))
    until = store.now + 30 * SECOND
    assert store.refusal(limit).start == until
    assert store.refusal(limit, wait=60 * SECOND).start == until
    assert store.refusal(limit, units=0).start == until
    (told,) = status.preview(KEY, (Charge(limit, 1),), store.state, store.now)
    assert (told.exceeded, told.retry_after) == (True, 30.0)
    store.force(limit, 1)
    store.give(held, 1)
    store.now = until
    store.take(limit)


def test_a_correction_and_a_refund_in_one_batch_are_written_in_a_pause() -> None:
    """Neither takes anything that the pause refuses, so their update asserts nothing of it."""
    store = Store()
    (receipt,) = store.take(TEN, units=4).receipts
    store.ask(Request(KEY, pause=store.now + 30 * SECOND))
    giving = Request(KEY, refunds=(Allocation.of(receipt).release(4)[1],))
    outcomes = store.ask(Request(KEY, (Charge(TEN, 1),), forced=True), giving)
    assert [isinstance(each, Grant) for each in outcomes] == [True, True]


def test_a_pause_is_seen_by_writers_that_do_not_know_of_it() -> None:
    """A write that was planned before it fails, and its caller learns."""
    store = Store()
    store.take(TEN)
    known = store.known
    store.ask(Request(KEY, pause=store.now + 30 * SECOND))
    store.known = known
    assert store.ask(asking(store, TEN)) == [None]
    store.refusal(TEN)


@pytest.mark.parametrize(
    "limit", [replace(ONE, enforce=False), Concurrency("c", 4)], ids=["a shadow that is left out", "0 slots"]
)
def test_a_pause_is_seen_by_calls_that_take_nothing(limit: Limit) -> None:
    """A call that takes nothing needs no write of its own; if it shares the write of a refund, that asserts the pause."""
    store = Store()
    held = store.take(DAY, units=4)
    if not limit.enforce:
        store.take(limit)
    known = store.known
    store.ask(Request(KEY, pause=store.now + 30 * SECOND))
    store.known = known
    giving = Request(KEY, refunds=(Allocation.of(held.receipts[0]).release(4)[1],))
    call = asking(store, limit, 0 if limit.enforce else 1)
    assert store.ask(call, giving) == [None, None]
    told = store.ask(call, giving)
    assert [type(each) for each in told] == [Refusal, Grant]
    assert store.tat(DAY) == 0


def test_a_pause_only_grows_but_0_ends_it() -> None:
    """A shorter one changes nothing; the item lives as long as the longest."""
    store = Store()
    store.ask(Request(KEY, pause=store.now + 30 * SECOND))
    store.ask(Request(KEY, pause=store.now + 10 * SECOND))
    assert store.state.paused == store.now + 30 * SECOND
    store.ask(Request(KEY, pause=store.now + 90_000 * SECOND))
    assert store.state.ttl * SECOND >= store.now + 90_000 * SECOND
    store.ask(Request(KEY, pause=0))
    store.take(TEN)
    assert store.ask(Request(KEY, pause=0)) != [None]


def test_a_slow_limit_keeps_its_capacity_through_a_pause() -> None:
    """Five a day are five after a pause of 30 seconds."""
    slow, store = Limit.per_day("a", 5), Store()
    store.ask(Request(KEY, pause=store.now + 30 * SECOND))
    store.now += 30 * SECOND
    store.take(slow, units=5)


# From outside a lease.


@ids
def test_a_reset_makes_old_refunds_void(limit: Limit) -> None:
    """As if nothing had been used: all is there, and what was taken before cannot be given back."""
    store = Store()
    held = store.take(limit, units=7)
    store.ask(Request(KEY, clear=(limit.name,)))
    store.take(limit, units=10)
    store.give(held, 7)
    store.refusal(limit)


@ids
def test_a_correction_gives_back_what_others_took(limit: Limit) -> None:
    """Never above the capacity, and the receipt says how much it was."""
    store = Store()
    store.take(limit, units=7)
    cost = 7 * SECOND // 10 if limit is TEN else 7
    (receipt,) = store.force(limit, -20).receipts
    assert -receipt.cost == cost
    assert status.granted(KEY, store.force(limit, -1))[0].available == 10
    store.take(limit, units=10)
    store.refusal(limit)


@ids
def test_a_correction_may_go_into_debt(limit: Limit) -> None:
    """A positive one is written whether it fits or not."""
    store = Store()
    assert status.granted(KEY, store.force(limit, 25))[0].available == -15


def test_a_correction_gives_back_nothing_that_a_booking_was_built_on() -> None:
    """While a caller waits for its promised start, only what was taken after it is free."""
    store = Store()
    store.take(ONE)
    waiting = store.take(ONE, wait=5 * SECOND)
    assert store.force(ONE, -5).receipts[0].cost == 0
    store.force(ONE, 2)
    assert store.force(ONE, -5).receipts[0].cost == -2 * SECOND
    assert store.take(ONE, wait=9 * SECOND).start > waiting.start


def test_an_order_is_planned_alone_and_on_a_fresh_state() -> None:
    """Others of its batch are left for the next update; a state that is not the batch's own is read first."""
    store = Store()
    store.take(TEN)
    order = Request(KEY, clear=("a",))
    assert [each is None for each in store.ask(asking(store, TEN), order)] == [False, True]
    assert [each is None for each in store.ask(order, asking(store, TEN))] == [False, True]
    store.ask(order, fresh=False)
    assert (store.plan.update, store.plan.shares) == (None, {})


def test_a_reset_of_nothing_writes_nothing() -> None:
    """An empty bucket has nothing to reset."""
    store = Store()
    assert isinstance(store.ask(Request(KEY, clear=("a", "b")))[0], Grant)
    assert store.state == EMPTY


def test_units_of_a_rate_are_nanoseconds() -> None:
    """A cost of a rate is what its units take to refill."""
    assert gcra.cost(TEN, 3) == 3 * SECOND // 10
