"""Blocks of units in advance: how many, for how long, and what of them goes back."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limiter import SyncMemoryRepository
from limiter.commit.allotment import KEPT, Allotments, Block, Payment, Stock
from limiter.commit.breaker import Breaker
from limiter.commit.bucket_queue import BucketQueue
from limiter.commit.queues import Queues
from limiter.commit.sync_batch import SyncBatch
from limiter.commit.sync_bucket_queue import SyncBucketQueue, SyncPendingRequest
from limiter.commit.sync_committer import SyncCommitter
from limiter.commit.sync_writer import SyncBatchWriter, SyncCommitterOptions
from limiter.core.limits import Limit, Quota, gcra
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, Receipt, Refund, Request
from limiter.core.state import BucketState, Level, View
from limiter.core.units import NANOSECONDS
from limiter.runtime.gate import SyncGate
from limiter.statistics import Counters

if TYPE_CHECKING:
    from limiter.commit.allotment import Order
    from limiter.models import BaseLimit

SECOND = NANOSECONDS
EPOCH = 1_800_000_000 * SECOND
KEY = BucketKey("default", "user", "api")
REQUESTS, TOKENS = Limit.per_hour("requests", 1_000, allotment=1.0), Limit.per_hour("tokens", 100_000, allotment=1.0)
SMALLER = Limit.per_hour("requests", 100, allotment=1.0)
DAILY = Quota.per_day("daily", 1_000)
EMPTY = BucketState()


def asked(*charges: tuple[BaseLimit, int], headroom: tuple[int, ...] = ()) -> Request:
    """Return a request for the charges."""
    return Request(KEY, tuple(Charge(*charge) for charge in charges), allots=True, headroom=headroom)


def grant(request: Request, now: int = EPOCH, since: int = EPOCH) -> Grant:
    """Return the response to a write that includes the request."""
    costs = [gcra.cost(limit, units) if isinstance(limit, Limit) else units for limit, units in request.charges]
    charged = zip(request.charges, costs, strict=True)
    return Grant([Receipt(limit, units, cost, since, now, now) for (limit, units), cost in charged], now)


def orders(
    allotments: Allotments, *requests: Request, now: int = EPOCH, state: BucketState = EMPTY
) -> list[tuple[Request, Order]]:
    """Return the blocks that a write of the requests takes along."""
    return allotments.orders(KEY, requests, View(state, now), now)


def busy(request: Request, now: int = EPOCH, *, block: bool = True) -> Allotments:
    """Return what a process holds that asks for the same 100 times in 100 ms, and then takes a block."""
    allotments = Allotments()
    for turn in range(100):
        allotments.observe(request, now - (100 - turn) * SECOND // 1_000)
    for taken, order in orders(allotments, request, now=now) if block else ():
        order.stock.add(grant(taken, now), (now, now), 0)
    return allotments


def spend(allotments: Allotments, request: Request, now: int = EPOCH, age: int | None = None) -> int:
    """Spend all that is held of what a request asks for; return for how many requests it was enough."""
    count = 0
    while allotments.pay(request, now, now if age is None else age) is not None:
        count += 1
    return count


def alive(kind: type[object]) -> int:
    """Return how many objects of a type are in memory."""
    gc.collect()
    return sum(type(each) is kind for each in gc.get_objects())


def test_a_block_is_what_the_rate_spends_within_three_quarters_of_its_life() -> None:
    """100 calls in the last 100 ms are about 100 in a memory of 1 s: 70 for 750 ms, of each limit what a call asks for."""
    allotments = Allotments()
    for turn in range(100):
        allotments.observe(asked((REQUESTS, 1), (TOKENS, 50)), EPOCH + turn * SECOND // 1_000)
    ((block, order),) = orders(allotments, asked((REQUESTS, 1), (TOKENS, 50)))
    assert [units for _, units in block.charges] == [order.count, 50 * order.count]
    assert 68 <= order.count <= 75


@pytest.mark.parametrize("units", [1, 50])
def test_a_block_is_topped_up_and_no_more(units: int) -> None:
    """Units that are held and may be spent are left out of the next block."""
    request = asked((TOKENS, units))
    allotments = busy(request)
    assert orders(allotments, request) == []
    for _ in range(20):
        allotments.pay(request, EPOCH, EPOCH)
    ((block, order),) = orders(allotments, request)
    assert block.charges == (Charge(TOKENS, 20 * units),)
    order.stock.add(grant(block), (EPOCH, EPOCH), 0)
    allotments.pay(request, EPOCH, EPOCH)
    ((block, _),) = orders(allotments, request)
    assert block.charges == (Charge(TOKENS, units),)


def test_what_is_held_is_as_much_as_the_scarcest_of_its_limits() -> None:
    """Requests that use up one limit of a block leave units of the others that are of no use alone."""
    request = asked((REQUESTS, 1), (TOKENS, 10))
    allotments = busy(request)
    ((block, _),) = orders(busy(asked((REQUESTS, 1), (TOKENS, 10)), block=False), request)
    spent = [spend(allotments, asked((REQUESTS, 1), (TOKENS, units))) for units in (20, 10)]
    ((again, _),) = orders(allotments, request)
    assert spent == [block.charges[0].units // 2, block.charges[0].units % 2]
    assert again.charges == block.charges


def test_a_block_takes_no_more_than_is_free() -> None:
    """What the state shows and what the same write takes leave room for so much."""
    request, cost = asked((REQUESTS, 1)), gcra.cost(REQUESTS, 1)
    allotments = busy(request)
    spend(allotments, request)
    state = BucketState({REQUESTS.identity: Level(EPOCH + REQUESTS.depth - 30 * cost, EPOCH)})
    ((block, _),) = orders(allotments, request, asked((REQUESTS, 9)), state=state)
    assert block.charges == (Charge(REQUESTS, 20),)
    paused = BucketState(paused=EPOCH + 1)
    assert orders(allotments, request, state=paused) == []


def test_what_is_free_is_told_by_what_a_request_asks_for() -> None:
    """Where 620 tokens are free, there are as many as 11 requests for 50 need, beside the one that is written."""
    request = asked((REQUESTS, 1), (TOKENS, 50))
    allotments = busy(request, block=False)
    state = BucketState({TOKENS.identity: Level(EPOCH + TOKENS.depth - 620 * gcra.cost(TOKENS, 1), EPOCH)})
    ((block, order),) = orders(allotments, request, state=state)
    assert (order.count, block.charges) == (11, (Charge(REQUESTS, 11), Charge(TOKENS, 550)))


def test_a_block_that_others_have_defeated_makes_the_next_one_smaller() -> None:
    """Where it asks for more than a quarter of what is free."""
    request = asked((REQUESTS, 1))
    allotments = busy(request, block=False)
    state = BucketState({REQUESTS.identity: Level(EPOCH + REQUESTS.depth - 101 * gcra.cost(REQUESTS, 1), EPOCH)})
    ((_, order),) = orders(allotments, request, state=state)
    order.stock.note(order.count, granted=False)
    ((_, again),) = orders(allotments, request, state=state)
    assert (order.count, again.count) == (70, int(0.75 * 70))


def test_blocks_of_one_write_share_what_is_free() -> None:
    """Callers who name other limits beside the same one take after the first ones, and a quarter of the rest in any case."""
    first, second = asked((REQUESTS, 1)), asked((REQUESTS, 1), (TOKENS, 10))
    allotments = Allotments()
    for turn in range(100):
        for request in (first, second):
            allotments.observe(request, EPOCH - (100 - turn) * SECOND // 1_000)
    state = BucketState({REQUESTS.identity: Level(EPOCH + REQUESTS.depth - 91 * gcra.cost(REQUESTS, 1), EPOCH)})
    (_, order), (other, _) = orders(allotments, first, second, state=state)
    assert 65 < order.count < 75
    assert other.charges[0].units == 91 - 2 - order.count


def test_the_latest_refusal_of_all_kinds_of_requests_is_told() -> None:
    """Those that ask for what is plentiful are not refused."""
    plenty, scarce = asked((TOKENS, 1)), asked((REQUESTS, 1))
    state = BucketState({REQUESTS.identity: Level(EPOCH + REQUESTS.depth - gcra.cost(REQUESTS, 2), EPOCH)})
    for kinds in ((plenty, scarce), (scarce, plenty)):
        allotments = Allotments()
        for request in kinds * 50:
            allotments.observe(request, EPOCH)
        assert allotments.refuse_until(KEY, View(state, EPOCH), EPOCH + 7, SECOND) == EPOCH + 7
        assert [allotments.turn(request, EPOCH) for request in (plenty, scarce)] == [0, EPOCH + 7]


def test_no_block_is_taken_of_what_cannot_be_read() -> None:
    """Blocks of other limits are."""
    first, second = asked((TOKENS, 1)), asked((REQUESTS, 1))
    allotments = Allotments()
    for turn in range(100):
        for request in (first, second):
            allotments.observe(request, EPOCH - (100 - turn) * SECOND // 1_000)
    state = BucketState(unreadable={TOKENS.identity: "no number"})
    assert [order.stock for _, order in orders(allotments, first, second, state=state)] == [
        order.stock for _, order in orders(allotments, second)
    ]
    assert allotments.refuse_until(KEY, View(state, EPOCH), EPOCH + SECOND, SECOND) == 0


def test_a_rare_caller_takes_nothing_in_advance() -> None:
    """The first request, and those that come every second or less often, take what they need."""
    allotments, request = Allotments(), asked((REQUESTS, 1))
    for turn in range(10):
        allotments.observe(request, EPOCH + turn * SECOND)
        assert orders(allotments, request, now=EPOCH + turn * SECOND) == []


def test_only_what_is_asked_for_now_is_taken_in_advance() -> None:
    """Callers who name other limits have blocks of their own."""
    allotments = busy(asked((REQUESTS, 1), (TOKENS, 100)))
    assert orders(allotments, asked((REQUESTS, 1))) == []
    assert spend(allotments, asked((REQUESTS, 1))) == 0


def test_callers_who_leave_other_headroom_have_blocks_of_their_own() -> None:
    """Units that were taken beside a reserve are spent by those who leave the same one."""
    reserved = asked((REQUESTS, 1), headroom=(5 * SECOND,))
    allotments = busy(reserved)
    assert (spend(allotments, asked((REQUESTS, 1))), spend(allotments, reserved) > 40) == (0, True)


def test_versions_of_a_limit_have_blocks_of_their_own() -> None:
    """Units that were taken under other numbers are not spent."""
    allotments = busy(asked((REQUESTS, 1)))
    assert spend(allotments, asked((SMALLER, 1))) == 0


def test_a_payment_may_note_what_was_asked_for() -> None:
    """Of a request that has just come. One that queued up was noted then, and one that is not paid will be."""
    request = asked((REQUESTS, 1))
    allotments = busy(request)
    sizing = allotments._stock(request)._sizing
    for noted in (True, False):
        before = sizing.level
        assert allotments.pay(request, EPOCH, EPOCH, noted=noted) is not None
        assert (sizing.level > before) is not noted
    before = sizing.level
    assert allotments.pay(asked((REQUESTS, 10_000)), EPOCH, EPOCH, noted=False) is None
    assert sizing.level == before


def test_all_that_is_asked_for_is_paid_or_nothing() -> None:
    """If one limit's units are too few, the others stay unchanged."""
    request = asked((REQUESTS, 1), (TOKENS, 10))
    allotments = busy(request)
    assert spend(allotments, asked((REQUESTS, 1), (TOKENS, 100_000))) == 0
    assert spend(allotments, request) > 40


@pytest.mark.parametrize(("now", "age"), [(SECOND, 0), (0, SECOND)])
def test_a_block_dies_by_either_clock(now: int, age: int) -> None:
    """A block is spent until a nanosecond before its allotment ends, by the larger of both ages; nothing of a rate goes back."""
    request = asked((REQUESTS, 1))
    allotments = busy(request)
    assert spend(allotments, asked((REQUESTS, 1)), EPOCH + max(0, now - 1), EPOCH + max(0, age - 1)) > 40
    allotments = busy(request)
    assert spend(allotments, request, EPOCH + now, EPOCH + age) == 0
    assert allotments.end(EPOCH + now, EPOCH + age) == ()
    assert spend(allotments, request) == 0


def test_a_blocks_age_is_told_by_a_clock_of_its_own() -> None:
    """The monotonic clock need not show the store's time."""
    request = asked((REQUESTS, 1))
    allotments = busy(request, block=False)
    ((block, order),) = orders(allotments, request)
    order.stock.add(grant(block), (EPOCH, 5), 0)
    assert [allotments.covers(request, EPOCH, age) for age in (5, 4 + SECOND, 5 + SECOND)] == [True, True, False]


def test_a_block_lives_from_the_first_plan_on() -> None:
    """The times of the plan count, however late its grant is known."""
    request = asked((REQUESTS, 1))
    allotments = busy(request)
    spend(allotments, request)
    ((block, order),) = orders(allotments, request)
    order.stock.add(grant(block), (EPOCH - SECOND, EPOCH), 0)
    assert spend(allotments, request) == 0


def test_units_that_count_go_back_whole() -> None:
    """Of a dead block the rate's units are lost, and the quota's go back to the opening that they were taken in."""
    request = asked((REQUESTS, 1), (DAILY, 2))
    allotments = busy(request)
    assert allotments.pay(request, EPOCH, EPOCH) is not None
    (refund,) = allotments.end(EPOCH + SECOND, EPOCH)
    assert (refund.limit, refund.since) == (DAILY, EPOCH)
    assert 130 < refund.cost < 150
    assert allotments.end(EPOCH + SECOND, EPOCH) == allotments.leave() == ()


def test_a_block_ends_before_its_quota_does() -> None:
    """By the error of the clock on either side no unit of a period is spent in the next one."""
    midnight = EPOCH - EPOCH % (86_400 * SECOND) + 86_400 * SECOND
    request, now = asked((REQUESTS, 1), (DAILY, 1)), midnight - SECOND // 2
    for error, last in ((0, midnight - 1), (SECOND // 10, midnight - SECOND // 5 - 1)):
        allotments = busy(request, now)
        spend(allotments, request, now)
        ((block, order),) = orders(allotments, request, now=now)
        order.stock.add(grant(block, now, now), (now, now), error)
        assert allotments.covers(request, last, now)
        assert not allotments.covers(request, last + 1, now)


def test_a_bucket_owes_what_a_block_holds_of_a_quota_until_the_quota_ends() -> None:
    """Units of a rate are owed to no bucket, and nor are units of a quota that were spent, or whose period is over."""
    end = DAILY.ends(EPOCH, EPOCH)
    assert not busy(asked((REQUESTS, 1))).owes(EPOCH)
    allotments = busy(asked((REQUESTS, 1), (DAILY, 1)))
    assert [allotments.owes(now) for now in (EPOCH, end - 1, end)] == [True, True, False]
    allotments.observe(asked((TOKENS, 1)), EPOCH)
    assert allotments.owes(EPOCH)
    spend(allotments, asked((REQUESTS, 1), (DAILY, 1)))
    assert not allotments.owes(EPOCH)


def test_a_bucket_owes_what_a_block_holds_until_the_last_of_its_quotas_ends() -> None:
    """Units of the others are lost before."""
    hourly = Quota.per_hour("hourly", 1_000)
    allotments = busy(asked((REQUESTS, 1), (DAILY, 1), (hourly, 1)))
    ends = [quota.ends(EPOCH, EPOCH) for quota in (hourly, DAILY)]
    assert ends[0] < ends[1]
    assert [allotments.owes(end) for end in ends] == [True, False]


@pytest.mark.parametrize(("spent", "owes"), [(((REQUESTS, 1), (DAILY, 2)), False), (((REQUESTS, 2), (DAILY, 1)), True)])
def test_a_bucket_owes_only_units_that_count(spent: tuple[tuple[BaseLimit, int], ...], owes: bool) -> None:
    """If a block's units of a rate or of a quota are used up before the others, what is left is owed if it is the quota's."""
    allotments = busy(asked((REQUESTS, 1), (DAILY, 1)))
    block = allotments._stock(asked((REQUESTS, 1), (DAILY, 1)))._blocks[0]
    spend(allotments, asked(*spent))
    spend(allotments, asked(*[(limit, units - 1) for limit, units in spent]))
    assert sorted(block.units(place) > 0 for place in range(2)) == [False, True]
    assert allotments.owes(EPOCH) == owes


def test_units_of_a_call_that_could_not_use_them_go_back_into_the_block() -> None:
    """They die with it: their age counts on."""
    request = asked((REQUESTS, 1), (DAILY, 2))
    allotments = busy(request)
    payments = []
    while (payment := allotments.pay(request, EPOCH, EPOCH)) is not None:
        payments.append(payment)
    for payment in payments:
        payment.give_back()
    assert spend(allotments, request, EPOCH + SECOND - 1) == len(payments) > 40
    payments[0].give_back()
    assert spend(allotments, request, EPOCH + SECOND) == 0


def test_units_of_a_block_that_has_ended_go_back_to_the_bucket() -> None:
    """A call that could not use its units may end after their block: those of a quota go back whole, those of a rate are lost."""
    request = asked((REQUESTS, 1), (DAILY, 2))
    allotments = busy(request)
    payments = [allotments.pay(request, EPOCH, EPOCH) for _ in range(3)]
    assert [payment.give_back() for payment in payments[:1] if payment is not None] == [[]]
    allotments.end(EPOCH + SECOND, EPOCH + SECOND)
    for payment in payments[1:]:
        assert payment is not None
        assert payment.give_back() == [Refund(DAILY, 2, EPOCH)]
    assert allotments.leave() == ()


def test_units_of_a_spent_block_that_was_forgotten_go_back_to_the_bucket() -> None:
    """A block is forgotten when many others have come after it was spent."""
    request = asked((REQUESTS, 1), (DAILY, 1))
    allotments = busy(request)
    first = allotments.pay(request, EPOCH, EPOCH)
    for _ in range(30):
        spend(allotments, request)
        for block, order in orders(allotments, request):
            order.stock.add(grant(block), (EPOCH, EPOCH), 0)
        allotments.end(EPOCH, EPOCH)
    assert first is not None
    assert first.give_back() == [Refund(DAILY, 1, EPOCH)]


def test_what_is_left_of_a_quota_in_a_block_goes_back_when_the_block_ends() -> None:
    """However many blocks have come since, and although what is left of its rate covers no request."""
    request = asked((REQUESTS, 1), (DAILY, 1))
    allotments = busy(request)
    half = spend(allotments, asked((REQUESTS, 2), (DAILY, 1)))
    spend(allotments, asked((REQUESTS, 1), (DAILY, 1)))
    assert half > 20
    for _ in range(KEPT + 1):
        for block, order in orders(allotments, request):
            order.stock.add(grant(block), (EPOCH, EPOCH), 0)
        spend(allotments, request)
    assert allotments.end(EPOCH, EPOCH) == ()
    (refund,) = allotments.end(EPOCH + SECOND, EPOCH)
    assert (refund.limit, refund.cost) == (DAILY, half)


@pytest.mark.parametrize(("blocks", "kept"), [(KEPT, True), (KEPT + 1, False)])
def test_some_spent_blocks_are_kept_for_units_that_come_back(blocks: int, kept: bool) -> None:
    """Then the next request is paid from them, and nothing has to be written."""
    request = asked((REQUESTS, 1), (DAILY, 1))
    allotments = busy(request)
    first = allotments.pay(request, EPOCH, EPOCH)
    spend(allotments, request)
    for _ in range(blocks - 1):
        for block, order in orders(allotments, request):
            order.stock.add(grant(block), (EPOCH, EPOCH), 0)
        spend(allotments, request)
    assert allotments.end(EPOCH, EPOCH) == ()
    assert first is not None
    assert first.give_back() == ([] if kept else [Refund(DAILY, 1, EPOCH)])
    assert spend(allotments, request) == kept


def test_units_of_a_bucket_that_was_forgotten_go_back_to_it() -> None:
    """A process may forget a bucket whose blocks are spent, while calls that were paid from them are under way."""
    request = asked((REQUESTS, 1), (DAILY, 1))
    queues = Queues(BucketQueue, 1, lambda: EPOCH)
    allotments = queues[KEY].allotments = busy(request)
    first = allotments.pay(request, EPOCH, EPOCH)
    spend(allotments, request)
    assert queues[KEY._replace(entity_id="other")] is not None
    assert KEY not in queues
    assert first is not None
    assert first.give_back() == [Refund(DAILY, 1, EPOCH)]


def test_a_committer_writes_what_a_block_that_has_ended_cannot_hold() -> None:
    """The count of the quota is what was used, however late a call leaves."""
    time = [EPOCH]
    store = SyncMemoryRepository(clock=lambda: time[0])
    committer = SyncCommitter(store, SyncCommitterOptions())
    request = asked((REQUESTS, 1), (DAILY, 1))

    def call() -> Grant:
        time[0] += SECOND // 1_000
        (outcome,) = committer.decide([request])
        assert isinstance(outcome, Grant)
        return outcome

    paid = [each for each in (call() for _ in range(50)) if isinstance(each, Payment)]
    time[0] += 10 * SECOND
    call()
    committer.refund_grants([(KEY, each) for each in paid])
    committer.close()
    assert paid
    assert store.read_bucket(KEY).level(DAILY.identity).tat == 51 - len(paid)


def test_an_error_that_is_no_limiters_reaches_the_caller_of_a_refund(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of a store is raised, although a refund that an unreachable store prevents is only counted."""
    store = SyncMemoryRepository(clock=lambda: EPOCH)
    committer = SyncCommitter(store, SyncCommitterOptions())
    (taken,) = committer.decide([asked((DAILY, 1))._replace(allots=False)])
    assert isinstance(taken, Grant)

    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(store, "write_bucket", fail)
    with pytest.raises(ZeroDivisionError, match="a fault"):
        committer.refund_grants([(KEY, taken)])


def test_a_batch_gives_back_what_a_block_held_and_asks_for_no_block_twice() -> None:
    """What goes back counts as a refund until it is written, and a block that others have defeated leaves the batch."""
    request, options = asked((REQUESTS, 1), (DAILY, 1)), SyncCommitterOptions()
    store, queue = SyncMemoryRepository(clock=lambda: EPOCH + 2 * SECOND), SyncBucketQueue(KEY)
    writer = SyncBatchWriter(store, threading.Lock(), Breaker(), Counters(), SyncGate(1), options)
    queue.allotments, queue.seen = busy(request), EPOCH
    for _ in range(1_000):
        queue.allotments.observe(request, EPOCH + 2 * SECOND)
    batch = SyncBatch(writer, queue, [SyncPendingRequest(request, queue)])
    batch.blocks.place(batch.requests)
    _, returned, block = batch.requests
    assert ([each.limit for each in returned.request.refunds], queue.returning) == ([DAILY], 1)
    assert (batch.blocks.drop(defeated=True), block.done, returned.done) == (True, True, False)
    batch.carry_out()
    assert (queue.returning, batch.requests) == (0, [])


@pytest.mark.parametrize(("used", "notes"), [(0, [True]), (990, [False])], ids=["granted", "defeated"])
def test_a_stock_learns_what_became_of_its_block(used: int, notes: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that a write has taken was granted; one whose write others have defeated is given up, so the request is decided."""
    request, told, clock = asked((REQUESTS, 1)), [], lambda: EPOCH + 2 * SECOND
    monkeypatch.setattr(Stock, "note", lambda _stock, _count, *, granted: told.append(granted))
    store, queue = SyncMemoryRepository(clock=clock), SyncBucketQueue(KEY)
    if used:
        SyncCommitter(store, SyncCommitterOptions()).decide([asked((REQUESTS, used))._replace(allots=False)])
    writer = SyncBatchWriter(store, threading.Lock(), Breaker(), Counters(), SyncGate(1), SyncCommitterOptions())
    queue.allotments = Allotments()
    for _ in range(100):
        queue.allotments.observe(request, clock())
    pending = SyncPendingRequest(request, queue)
    batch = SyncBatch(writer, queue, [pending])
    batch.blocks.place(batch.requests)
    assert len(batch.requests) == 1  # It is unknown how much is free.
    queue.seen = clock()
    batch.blocks.place(batch.requests)
    assert len(batch.requests) == 2
    batch.carry_out()
    batch.keep_blocks()
    assert (told, isinstance(pending.outcome, Grant), batch.requests) == (notes, True, [])


def test_a_shadow_that_did_not_fit_pays_for_nothing() -> None:
    """Where a shadow would have refused the block, each request is written, and reported."""
    shadow = Limit("shadow", 5, 5, 1.0, allotment=0.5, enforce=False)
    request = asked((REQUESTS, 1), (shadow, 1))
    allotments = busy(request)
    spend(allotments, request)
    ((block, order),) = orders(allotments, request)
    first, second = grant(block).receipts
    order.stock.add(Grant([first, second._replace(cost=0, earlier=-EPOCH)], EPOCH), (EPOCH, EPOCH), 0)
    assert spend(allotments, request) == 0


def test_limits_that_nobody_asks_for_any_more_are_forgotten() -> None:
    """A caller whose limits are new in every call does not fill the memory."""
    allotments, before = Allotments(), alive(Stock)
    for capacity in range(100, 1_100):
        now = EPOCH + capacity * SECOND
        allotments.observe(asked((Limit("requests", capacity, 1, 1.0, allotment=1.0), 1)), now)
        allotments.end(now, now)
    assert alive(Stock) - before < 50


def test_spent_blocks_are_forgotten() -> None:
    """However long an allotment, what is remembered of blocks is bounded."""
    hourly = Limit.per_day("requests", 1_000_000, allotment=3_600.0)
    request, before = asked((hourly, 1)), alive(Block)
    allotments = busy(request)
    for _ in range(30):
        spend(allotments, request)
        for block, order in orders(allotments, request):
            order.stock.add(grant(block), (EPOCH, EPOCH), 0)
        allotments.end(EPOCH, EPOCH)
    spend(allotments, request)
    assert orders(allotments, request, asked((hourly, 1_000)))
    assert alive(Block) - before <= 10


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2 * SECOND), st.integers(1, 60), st.booleans()), max_size=50))
def test_no_unit_is_spent_twice_or_kept_beyond_the_block(steps: list[tuple[int, int, bool]]) -> None:
    """Units spent, given back and held add up to the units taken, of a quota; of a rate no more are spent than were taken."""
    allotments, now, taken, gone, spent = Allotments(), EPOCH, 0, 0, 0
    for passed, units, writes in steps:
        now += passed
        request = asked((REQUESTS, units), (DAILY, units))
        allotments.observe(request, now)
        paid = allotments.pay(request, now, now)
        spent += 0 if paid is None else units
        if writes:
            gone += sum(refund.cost for refund in allotments.end(now, now))
            for block, order in orders(allotments, request, now=now):
                taken += block.charges[1].units
                order.stock.add(grant(block, now), (now, now), 0)
    assert spent + gone + sum(refund.cost for refund in allotments.leave()) == taken
