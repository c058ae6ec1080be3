"""Stamps: an update is known by one of the last three, and what it granted is known well enough behind two writes of others."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
from support.bucket_world import EPOCH, KEY
from support.store import Store

from limiter import Limit, Quota
from limiter.core import plan as planning
from limiter.core.request import Charge, Grant, Request
from limiter.core.state import EMPTY, BucketState, Change, Level, Update

if TYPE_CHECKING:
    from limiter.models import BaseLimit

SECOND = 10**9
RATE = Limit("rate", 10, 10, 1.0)
KINDS = [RATE, Quota.per_day("day", 100), Quota.session("session", 100, 3_600), Quota.total("total", 100)]


def update(stamp: str) -> Update:
    """An update without conditions."""
    return Update(stamp, (), (Change("a", "tat", None, 1),))


def test_an_update_is_not_applied_again_while_its_stamp_is_on_record() -> None:
    """Of an update that two others have covered the stamp still stands; three cover it."""
    state = update("mine").apply(EMPTY)
    for other in ("first", "second"):
        assert not update("mine").holds(state)
        state = update(other).apply(state)
        assert state.has_stamp("mine")
    state = update("third").apply(state)
    assert not state.has_stamp("mine")
    assert update("mine").holds(state)


def test_the_writes_since_a_state_are_all_on_record_or_not() -> None:
    """An empty bucket's stamp stands as long as there were fewer than three writes."""
    state = EMPTY
    for written in range(5):
        assert state.has_stamp(EMPTY.stamp) == (written < 3)
        state = update(str(written)).apply(state)


class Covered:
    """A request that was written, and others that have written behind it."""

    def __init__(self, store: Store, *limits: BaseLimit, units: int = 1, wait: int = 0) -> None:
        self.store = store
        charges = tuple(Charge(limit, units) for limit in limits)
        self.plan = planning.plan(store.known, [Request(KEY, charges, deadline=store.now + wait)], store.now, "mine")
        self.written = self.plan.update is not None and self.plan.update.holds(store.state)
        if self.written and self.plan.update is not None:
            store.state = store.known = self.plan.update.apply(store.state)
        self.direct = store.state

    @property
    def told(self) -> Grant:
        """What the caller is told in time."""
        return self.plan.grants(self.direct)[0]

    @property
    def found(self) -> Grant:
        """What the caller is told that finds its stamp in the present state."""
        return self.plan.grants(self.store.state)[0]


@pytest.mark.parametrize("limit", KINDS, ids=lambda limit: limit.name)
@pytest.mark.parametrize("busy", [False, True])
def test_what_a_covered_write_took_can_be_given_back(limit: BaseLimit, busy: bool) -> None:
    """The grant names the same busy period, or opening, as the one that was told in time; so its refund counts."""
    store = Store()
    if busy:
        store.take(limit)
        store.now += 1_000
    covered = Covered(store, limit, units=3)
    store.take(limit)
    store.take(limit)
    assert [each.since for each in covered.found.receipts] == [each.since for each in covered.told.receipts]
    before = store.tat(limit)
    store.give(covered.found, 3)
    assert store.tat(limit) == before - covered.told.receipts[0].cost


@pytest.mark.parametrize("limit", KINDS[:3], ids=lambda limit: limit.name)
def test_a_covered_write_gives_nothing_back_to_a_later_period(limit: BaseLimit) -> None:
    """Where the bucket was full since, and others have begun again, the refund of a covered write is void."""
    store = Store()
    covered = Covered(store, limit, units=3)
    store.now += 2 * 86_400 * SECOND
    store.take(limit, units=5)
    before = store.tat(limit)
    store.give(covered.found, 3)
    assert store.tat(limit) == before


def test_which_of_two_updates_under_one_stamp_was_applied_is_not_known() -> None:
    """Where an update was sent again, and one of both is found behind others, its refund counts in the older period alone."""
    store = Store()
    store.take(RATE)
    asked = [Request(KEY, (Charge(RATE, 1),))]
    late = planning.plan(store.state, asked, store.now + 1, "mine")
    store.now += 2 * SECOND
    again = planning.plan(store.state, asked, store.now, "mine")
    assert late.update is not None
    store.state = store.known = late.update.apply(store.state)  # It arrives when it was taken for lost, and planned again.
    store.take(RATE, units=5)
    assert store.state.has_stamp("mine")
    (receipt,) = again.grants(store.state, late)[0].receipts
    before = store.tat(RATE)
    store.ask(Request(KEY, refunds=(receipt.refund(),)))
    assert store.tat(RATE) == before


def test_a_covered_booking_is_not_taken_for_one_that_was_built_on_it() -> None:
    """A caller that finds its place in line behind another's does not free the other's place when it gives up."""
    limit = Limit("only", 1, 1, 1.0)
    store = Store()
    store.take(limit)
    covered = Covered(store, limit, wait=10 * SECOND)
    behind = store.take(limit, wait=10 * SECOND)
    found = covered.found
    assert found.start >= covered.told.start == EPOCH + SECOND
    store.ask(Request(KEY, refunds=tuple(each.refund() for each in found.receipts)))
    assert store.take(limit, wait=10 * SECOND).start == behind.start + SECOND


def test_a_covered_write_admits_no_caller_too_early() -> None:
    """Two others write behind a write: its callers start no earlier than if told in time, nor too late, and free no more."""
    seen = 0
    for seed in range(3_000):
        chance = Random(seed)  # noqa: S311 - no secret
        store, held = Store(), []
        limits = [Limit(name, chance.randint(1, 4), 1, 1.0) for name in ("a", "b")]
        for _ in range(chance.randint(0, 4)):
            act(store, limits, held, chance)
        wait = chance.choice([0, 0, 2, 5]) * SECOND
        covered = Covered(store, *limits, wait=wait)
        if not covered.written or 0 not in covered.plan.shares:
            continue
        began, told = store.now, covered.told
        for _ in range(chance.randint(1, 2)):
            act(store, limits, held, chance)
        if store.state.stamp == "mine":
            continue
        seen += 1
        for true, found in zip(told.receipts, covered.found.receipts, strict=True):
            assert true.cost == found.cost
            assert true.start <= max(found.start, store.now)
            assert found.start <= began + wait
            level = store.state.level(found.limit.identity)
            assert found.since == true.since or found.since != level.since
    assert seen > 1_000


def act(store: Store, limits: list[Limit], held: list[Grant], chance: Random) -> None:
    """One write by another client, or time that passes before it."""
    if chance.random() < 0.4:
        store.now += chance.choice([1, SECOND // 2, 2 * SECOND])
    limit = chance.choice(limits)
    kind = chance.choice(["take", "take", "wait", "give", "force"])
    if kind == "give" and held:
        grant = held.pop(chance.randrange(len(held)))
        store.ask(Request(KEY, refunds=tuple(each.refund() for each in grant.receipts)))
    elif kind == "force":
        held.append(store.force(limit, 1))
    else:
        outcome = store.try_take(limit, wait=5 * SECOND if kind == "wait" else 0)
        held += [outcome] if isinstance(outcome, Grant) else []


def test_a_covered_write_is_granted_though_its_account_has_left() -> None:
    """An account that was full and left the item since is no obstacle."""
    store = Store()
    covered = Covered(store, RATE)
    gone = BucketState({}, covered.direct.ttl, "third", earlier=("second", "mine"))
    (receipt,) = covered.plan.grants(gone)[0].receipts
    assert receipt.since == covered.told.receipts[0].since
    assert gone.level(RATE.identity) == Level()
