"""The four promises of the design hold in random worlds, and in the cases that are easy to get wrong.

The test of `limiter.core.limits.accounts` and `limiter.core.limits.protocol`.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.bucket_world import EPOCH, Call, Client, PromiseBroken, Script, World, play, play_seed
from support.planted_kinds import headroom_taken, headroom_that_books, oversize_beside_use, oversize_without_wait

from limiter.core import plan as planning
from limiter.core import preview
from limiter.core.limits import Limit, account, gcra
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, Receipt, Refund, Refusal, Request
from limiter.core.state import EMPTY, BucketState, Level
from limiter.core.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from limiter.core.state import Change, Condition, Update

    Fault = Callable[[pytest.MonkeyPatch], None]

KEY = BucketKey("default", "user", "api")
SECOND = NANOSECONDS
SCRIPTS = {
    "admissions": Script(bookings=False, refunds=False, debts=False, expiry=True),
    "bookings": Script(refunds=False, debts=False, expiry=True),
    "debts": Script(refunds=False, expiry=True),
    "refunds": Script(bookings=False, debts=False),
    "refunds of bookings": Script(debts=False),
    "everything": Script(),
    "everything, one client": Script(clients=1),
    "everything, for long": Script(steps=120),
    "everything, and items expire": Script(expiry=True),
    "headroom": Script(headroom=True, refunds=False),
    "headroom, with refunds": Script(headroom=True),
    "oversize requests with bookings": Script(oversize=True),
    "oversize requests without refunds": Script(oversize=True, refunds=False, debts=False),
    "headroom, oversize and other capacities": Script(headroom=True, oversize=True, overrides=True, refunds=False, expiry=True),
    "headroom, oversize and other rates": Script(headroom=True, oversize=True, rates=True),
}
WORLDS = {"everything, for long": 60}
MANY = 200
FEW = 100
"""Number of worlds within which a planted fault shows."""


def search(script: Script, worlds: int) -> str | None:
    """Return the first broken promise that random worlds find, or None."""
    for seed in range(worlds):
        try:
            play_seed(seed, script)
        except PromiseBroken as broken:
            return f"{broken} (seed {seed})"
    return None


@pytest.mark.parametrize("name", SCRIPTS)
def test_promises_hold(name: str) -> None:
    """Clients with old knowledge, batches, bookings, debts and refunds in any order break no promise."""
    assert search(SCRIPTS[name], WORLDS.get(name, MANY)) is None


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.randoms(use_true_random=False))
def test_promises_hold_in_small_worlds(rng: Random) -> None:
    """No small world breaks a promise; hypothesis would shrink a failing world to its simplest form."""
    play(rng, Script(clients=2, steps=12))


def test_promises_hold_while_limits_change() -> None:
    """Callers with other capacities for the same limit break no promise, for themselves or for others."""
    assert search(Script(overrides=True, clients=1), MANY) is None
    assert search(Script(overrides=True), MANY) is None


def test_limits_that_change_admit_no_more() -> None:
    """In a span with several capacities, at most the largest of them and what refills is allowed."""
    assert search(Script(overrides=True, refunds=False, expiry=True), MANY) is None


def test_clocks_that_disagree_admit_no_more() -> None:
    """Clients with different clocks together stay within the limit, each call counted by its client's clock."""
    assert search(Script(offsets=40, refunds=False), MANY) is None


# Faults, planted one at a time: a search that misses them would miss similar ones.


def rewrite_updates(change: Callable[[list[Condition], list[Change]], tuple[list[Any], list[Any]]]) -> Fault:
    """A fault in every update that is planned."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        sound = planning.Plan._write

        def faulty(self: Any, *arguments: Any) -> Update | None:
            update = sound(self, *arguments)
            if update is None:
                return None
            conditions, changes = change(list(update.conditions), list(update.changes))
            return replace(update, conditions=tuple(conditions), changes=tuple(changes))

        monkeypatch.setattr(planning.Plan, "_write", faulty)

    return plant


def drop_conditions(field: str) -> Fault:
    """A fault: conditions on a field check only that it exists."""

    def relax(each: Condition) -> Condition:
        return each if each.field != field else each._replace(low=0 if not each.absent else None, high=10**30)

    return rewrite_updates(lambda conditions, changes: ([relax(each) for each in conditions], changes))


def drop_changes(field: str) -> Fault:
    """A fault: a field is never written."""
    return rewrite_updates(lambda conditions, changes: (conditions, [each for each in changes if each.field != field]))


def drop_lower_bound(conditions: list[Condition], changes: list[Change]) -> tuple[list[Any], list[Any]]:
    """A fault: a busy bucket is not asserted to be busy."""
    busy = [each for each in conditions if each.field == "tat" and each.low is not None and each.high is not None]
    return [each._replace(low=0) if each in busy else each for each in conditions], changes


def drop_idle_bound(conditions: list[Condition], changes: list[Change]) -> tuple[list[Any], list[Any]]:
    """A fault: an idle bucket is not asserted to be idle."""
    idle = {each.limit for each in changes if each.field == "tat" and each.base is None}
    return [each._replace(high=10**30) if each.limit in idle and each.field == "tat" else each for each in conditions], changes


def set_attribute(owner: Any, name: str, faulty: Any) -> Fault:
    """A fault: an attribute is replaced."""
    return lambda monkeypatch: monkeypatch.setattr(owner, name, faulty)


def admit_without_cost(self: Any, bound: int, cost: int, patience: int) -> None:
    """A fault: the ceiling leaves no room for the units consumed."""
    before = min(self.ceiling, self.prompt)
    SOUND_ADMIT(self, bound, cost, patience)
    self.ceiling = self.prompt = min(before, self.now + patience + bound)


def admit_each_alone(self: Any, bound: int, cost: int, patience: int) -> None:
    """A fault: the requests of a batch do not count for each other."""
    before = min(self.ceiling, self.prompt)
    SOUND_ADMIT(self, bound, cost, patience)
    self.ceiling = self.prompt = min(before, self.now + patience + bound - cost)


def grant_without_wait(self: Any, *others: Any) -> Grant:
    """A fault: a caller that has to wait is told to start at once."""
    return Grant([each._replace(start=self.now) for each in SOUND_GRANT(self, *others).receipts], self.now)


def grant_of_the_first(self: Any, request: Request, _first: int, *others: Any) -> Grant:
    """A fault: every request of a batch is told that it was the first."""
    alone = replace(self, totals=[gcra.cost(*charge) for charge in request.charges])
    return SOUND_GRANT(alone, request, 0, *others)


def undo_any_booking(level: Level, refunds: Any, now: int) -> tuple[int, int]:
    """A fault: a booking is undone even if others were built on it."""
    undone = sum(refund.cost for refund in refunds if refund.start > now)
    return undone, level.booked - undone


def undo_to_the_start(level: Level, refunds: Any, now: int) -> tuple[int, int]:
    """A fault: undoing the last booking undoes all."""
    undone, booked = SOUND_UNDO(level, refunds, now)
    return undone, min(booked, now) if undone else booked


def account_that_is_never_idle(self: Any, limit: Limit) -> Any:
    """A fault: time does not refill."""
    opened = SOUND_ACCOUNT(self, limit)
    opened.idle = opened.idle and opened.level.tat < 0
    return opened


def bear_without_use(self: Any, limit: Limit, view: Any, others: Any) -> None:
    """Do not carry over what is used under the name."""
    SOUND_BEAR(self, limit, view, others)
    self.tat = max(self.level.tat, view.now)


SOUND_BEAR = account.RateAccount._bear
SOUND_ADMIT = account.RateAccount._admit
SOUND_GRANT = planning.Plan._grant
SOUND_ACCOUNT = planning.Plan._account
SOUND_UNDO = account.undo_last_bookings
EVERYTHING = Script()
FAULTS: dict[str, tuple[Fault, Script]] = {
    "the ceiling without the cost": (set_attribute(account.RateAccount, "_admit", admit_without_cost), EVERYTHING),
    "the ceiling of each alone": (set_attribute(account.RateAccount, "_admit", admit_each_alone), EVERYTHING),
    "busy without the lower bound": (rewrite_updates(drop_lower_bound), EVERYTHING),
    "idle without the upper bound": (rewrite_updates(drop_idle_bound), EVERYTHING),
    "never idle again": (set_attribute(planning.Plan, "_account", account_that_is_never_idle), EVERYTHING),
    "`since` not written": (drop_changes("since"), EVERYTHING),
    "a refund without `since`": (drop_conditions("since"), EVERYTHING),
    "`booked` not written": (drop_changes("booked"), EVERYTHING),
    "a refund without `booked`": (drop_conditions("booked"), EVERYTHING),
    "a refund that ignores bookings": (set_attribute(account, "undo_last_bookings", lambda *_: (0, -1)), EVERYTHING),
    "any booking undone": (set_attribute(account, "undo_last_bookings", undo_any_booking), EVERYTHING),
    "no booking undone": (set_attribute(account, "undo_last_bookings", lambda level, *_: (0, level.booked)), EVERYTHING),
    "the last booking taken for the only one": (set_attribute(account, "undo_last_bookings", undo_to_the_start), EVERYTHING),
    "`floor` not written": (drop_changes("floor"), EVERYTHING),
    "a refund without `floor`": (drop_conditions("floor"), Script(overrides=True)),
    "no refund": (set_attribute(account.RateAccount, "_write_refunds", lambda *_: None), EVERYTHING),
    "`ttl` not written": (drop_changes("ttl"), EVERYTHING),
    "`ttl` not extended": (set_attribute(planning.Plan, "_extend_ttl", lambda *_: None), EVERYTHING),
    "no condition on `ttl`": (drop_conditions("ttl"), EVERYTHING),
    "waits not told": (set_attribute(planning.Plan, "_grant", grant_without_wait), EVERYTHING),
    "a batch told alike": (set_attribute(planning.Plan, "_grant", grant_of_the_first), EVERYTHING),
    "headroom that is not left": (headroom_taken, Script(headroom=True, refunds=False)),
    "headroom that books": (headroom_that_books, Script(headroom=True, refunds=False)),
    "an oversize request beside use": (oversize_beside_use, Script(oversize=True, refunds=False)),
    "an oversize request that starts too early": (oversize_without_wait, Script(oversize=True)),
    "a newborn that owes nothing": (
        set_attribute(account.RateAccount, "_bear", bear_without_use),
        Script(rates=True),
    ),
    "costs rounded down": (
        set_attribute(gcra, "cost", lambda limit, units: units * limit.period_ns // limit.refill_amount),
        SCRIPTS["admissions"],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bucket with a known fault breaks a promise within the first worlds."""
    plant, script = FAULTS[name]
    plant(monkeypatch)
    assert search(script, FEW) is not None


def test_the_judge_sees_two_starts_at_once() -> None:
    """Two callers of a bucket for one who start together break the promise about spans; a second apart they do not."""
    limit = Limit.per_second("a", 1)
    for apart, fits in ((SECOND, True), (SECOND - 1, False)):
        world = World()
        player = Client(world, "client")
        for place in range(2):
            receipt = Receipt(limit, 1, SECOND, EPOCH, EPOCH + place * apart, EPOCH)
            grant = Grant((receipt,), EPOCH)
            player._enter(Call(Request(KEY, (Charge(limit, 1),), deadline=EPOCH + apart)), grant, {limit.identity: 0})
        if fits:
            world.judge()
        else:
            with pytest.raises(PromiseBroken, match="in a span"):
                world.judge()


# One caller at a time, by hand.

ONE = Limit.per_second("a", 1)
TEN = Limit.per_second("a", 10)
OTHER = Limit.per_second("b", 10)


class Store:
    """A bucket, and a client that knows its state; counts the updates that it plans."""

    def __init__(self, state: BucketState = EMPTY) -> None:
        self.now = EPOCH
        self.state = state
        self.known = state
        self.planned = 0

    def ask(self, *requests: Request) -> list[Grant | Refusal | None]:
        """Plan once, write, and return the outcomes; None for a request that has to be planned again."""
        plan = planning.plan(self.known, requests, self.now, f"stamp-{self.planned}")
        outcomes: dict[int, Grant | Refusal] = dict(plan.refused)
        if plan.update is not None:
            self.planned += 1
            applied = plan.update.holds(self.state)
            self.state = plan.update.apply(self.state) if applied else self.state
            self.known = self.state
            outcomes = outcomes | plan.grants(self.state) if applied else {}
        elif not plan.refused:
            outcomes |= plan.grants(self.state)
        return [outcomes.get(index) for index in range(len(requests))]

    def take(self, limit: Limit, units: int = 1, *, patience: float = 0) -> Grant:
        """Consume, and expect to be allowed."""
        outcome = self.ask(self.taking(limit, units, patience=patience))[0]
        assert isinstance(outcome, Grant)
        return outcome

    def taking(self, limit: Limit, units: int = 1, *, patience: float = 0) -> Request:
        """Return the request of an acquire."""
        return Request(KEY, (Charge(limit, units),), deadline=self.now + round(patience * SECOND))

    def refuses(self, limit: Limit, units: int = 1) -> bool:
        """Tell whether units cannot be consumed now."""
        return isinstance(self.ask(self.taking(limit, units))[0], Refusal)

    def available(self, limit: Limit) -> int:
        """Return the units that can be consumed now."""
        return gcra.available(limit, self.state.level(limit.identity).tat, self.now)


def refunds_of(grant: Grant) -> Request:
    """Return the refunds that a cancelled caller sends."""
    return Request(KEY, refunds=tuple(each.refund() for each in grant.receipts))


def settlement(limit: Limit, units: int) -> Request:
    """Return the request of a lease that corrects its use upwards, whether it fits or not."""
    return Request(KEY, (Charge(limit, units),), forced=True)


def test_a_cancelled_booking_moves_no_caller_onto_anothers_start() -> None:
    """Of bookings at 1 s and 2 s the first is cancelled: the next newcomer starts at 3 s, not at 2 s with the second."""
    store = Store()
    store.take(ONE)
    first, second = store.take(ONE, patience=5), store.take(ONE, patience=5)
    assert [first.start - EPOCH, second.start - EPOCH] == [SECOND, 2 * SECOND]
    store.ask(refunds_of(first))
    assert store.take(ONE, patience=5).start - EPOCH == 3 * SECOND


def test_the_last_booking_is_given_back_whole() -> None:
    """When the last of several bookings is cancelled, the next newcomer gets its place; so it goes for all, last to first."""
    store = Store()
    store.take(ONE)
    first, second = store.take(ONE, patience=5), store.take(ONE, patience=5)
    store.ask(refunds_of(second))
    assert store.take(ONE, patience=5).start == second.start
    store = Store()
    store.take(ONE)
    first, second = store.take(ONE, patience=5), store.take(ONE, patience=5)
    store.ask(refunds_of(second))
    store.ask(refunds_of(first))
    assert store.take(ONE, patience=5).start == first.start


def test_a_refund_is_whole_once_the_bookings_have_started() -> None:
    """A booking holds refunds back until its start, and not after it."""
    store = Store()
    taken = store.take(TEN, 10)
    store.take(TEN, 1, patience=1)
    store.now += SECOND // 10
    store.ask(refunds_of(taken))
    assert store.available(TEN) == 10


def test_a_debt_beyond_the_last_booking_can_be_given_back() -> None:
    """Debt that a correction adds after the last booking can be refunded while that booking is still in the future."""
    store = Store()
    taken = store.take(ONE)
    booked = store.take(ONE, patience=5)
    store.ask(settlement(ONE, 1))
    store.ask(refunds_of(taken))
    assert store.take(ONE, patience=5).start == booked.start + SECOND


def test_a_debt_that_is_given_back_undoes_no_booking() -> None:
    """Debt can reach a start that a caller was promised later; when the debt is refunded, the promise stands."""
    store = Store()
    store.take(TEN, 10)
    debt = store.ask(settlement(TEN, 5))[0]
    assert isinstance(debt, Grant)
    store.ask(Request(KEY, refunds=(Refund(TEN, gcra.cost(TEN, 1), EPOCH),)))
    waiting = store.take(TEN, 1, patience=5)
    store.ask(refunds_of(debt))
    assert store.take(TEN, 1, patience=5).start > waiting.start


def test_a_refund_is_whole_by_any_older_state() -> None:
    """The client has seen that a booking was cancelled elsewhere: its refund is complete, although it shares a write."""
    store = Store()
    taken = store.ask(Request(KEY, (Charge(TEN, 10), Charge(OTHER, 1)), deadline=EPOCH))[0]
    waiting = store.take(TEN, 1, patience=5)
    known = store.known
    store.ask(refunds_of(waiting))
    store.known = known
    assert isinstance(taken, Grant)
    whole = Request(KEY, refunds=tuple(each.refund()._replace(start=-1) for each in taken.receipts))
    while store.ask(whole) == [None]:
        pass
    assert [store.available(limit) for limit in (TEN, OTHER)] == [10, 10]


def test_a_refund_that_is_held_back_alone_writes_nothing() -> None:
    """The reason for refunding nothing is asserted beside other changes, and alone is no reason to write."""
    store = Store()
    taken = store.take(ONE)
    store.take(ONE, patience=5)
    assert planning.plan(store.state, [refunds_of(taken)], store.now, "x").update is None


def test_a_grant_shows_what_was_taken() -> None:
    """Its text names the receipts, which the flat tuple does not."""
    grant = Store().take(ONE)
    assert repr(grant) == f"Grant(receipts={grant.receipts!r}, now={EPOCH})"


def test_each_booking_of_a_batch_knows_the_one_before_it() -> None:
    """Its receipt tells the latest start that was promised before, which is what is left when it is cancelled."""
    store = Store()
    store.take(ONE)
    grants = store.ask(*[store.taking(ONE, patience=9)] * 3)
    receipts = [receipt for grant in grants if isinstance(grant, Grant) for receipt in grant.receipts]
    assert [receipt.start for receipt in receipts] == [EPOCH + turn * SECOND for turn in (1, 2, 3)]
    assert [receipt.earlier for receipt in receipts] == [-1, EPOCH + SECOND, EPOCH + 2 * SECOND]


def test_a_booking_waits_for_the_refunds_of_its_batch() -> None:
    """A refund of one of its limits is enough to leave a booking to the next write, which then need not book."""
    store = Store()
    mine = store.take(ONE)
    asked = Request(KEY, (Charge(OTHER, 1), Charge(ONE, 1)), deadline=store.now + 5 * SECOND)
    assert store.ask(asked, refunds_of(mine))[0] is None
    (outcome,) = store.ask(asked)
    assert isinstance(outcome, Grant)
    assert outcome.start == store.now


def test_a_batch_makes_no_caller_wait_who_is_not_on_record() -> None:
    """Under a larger limit, a request behind one that waits need not wait; when the bucket is fuller than known, both wait."""
    wide, narrow, store = Limit.per_second("a", 4, burst=5), Limit.per_second("a", 4, burst=3), Store()
    store.take(wide, 3)
    known = store.known
    store.take(wide, 1)
    store.known = known
    batch = [store.taking(limit, patience=5) for limit in (narrow, wide)]
    assert store.ask(*batch) == [None, None]
    assert all(isinstance(each, Grant) for each in store.ask(*batch))
    level = store.state.level(wide.identity)
    assert level.floor == level.tat


def test_nothing_is_given_back_after_the_bucket_was_full() -> None:
    """A refund comes too late once the bucket has refilled, even if others have consumed since."""
    store = Store()
    late = store.take(TEN, 5)
    store.now += SECOND
    store.take(TEN, 10)
    assert store.available(TEN) == 0
    store.ask(refunds_of(late))
    assert store.available(TEN) == 0


def test_no_two_busy_periods_have_the_same_number() -> None:
    """Within one instant a bucket is used and full again; a client that knows an older state does not repeat the number."""
    store = Store()
    store.ask(refunds_of(store.take(TEN)))
    known = store.known
    earlier = store.take(TEN)
    store.ask(refunds_of(earlier))
    store.known = known
    assert store.ask(store.taking(TEN)) == [None]
    assert store.take(TEN).receipts[0].since > earlier.receipts[0].since


def test_a_refund_never_gives_more_than_capacity() -> None:
    """A refund does not refill what time has refilled already."""
    store = Store()
    taken = store.take(TEN, 10)
    store.now += SECOND * 7 // 10
    store.ask(refunds_of(taken))
    assert store.available(TEN) == 10
    store.take(TEN, 10)
    assert store.refuses(TEN)


def test_a_refund_to_a_bucket_that_is_gone_comes_to_an_end() -> None:
    """If TTL has deleted the item, a refund finds out with at most one update, and then nothing is left to write."""
    store = Store()
    taken = store.take(TEN)
    store.now += 40 * 86_400 * SECOND
    store.state = EMPTY
    for _ in range(2):
        outcome = store.ask(refunds_of(taken))
    assert isinstance(outcome[0], Grant)
    assert store.state == EMPTY


def test_a_debt_is_paid_before_anything_is_admitted() -> None:
    """After a correction into debt, even an amount of 0 is refused until time has paid the debt."""
    store = Store()
    store.take(TEN, 10)
    store.ask(settlement(TEN, 5))
    assert store.available(TEN) == -5
    assert store.refuses(TEN, 0)
    store.now += SECOND // 2
    assert store.refuses(TEN, 1)
    assert not store.refuses(TEN, 0)
    store.now += SECOND // 10
    assert not store.refuses(TEN, 1)


def test_an_amount_of_zero_takes_nothing() -> None:
    """An amount of 0 is allowed by an empty bucket and leaves it unchanged."""
    store = Store()
    store.take(TEN, 10)
    before = store.available(TEN)
    assert isinstance(store.ask(store.taking(TEN, 0))[0], Grant)
    assert store.available(TEN) == before


def test_waiting_for_nothing_books_nothing() -> None:
    """A request for 0 units that waits for a debt to be paid holds no refund back."""
    store = Store()
    taken = store.take(TEN, 10)
    outcomes = store.ask(settlement(TEN, 10), store.taking(TEN, 0, patience=5))
    assert [getattr(outcome, "start", 0) - EPOCH for outcome in outcomes] == [0, SECOND]
    store.ask(refunds_of(taken))
    assert store.available(TEN) == 0


def test_a_limit_that_is_not_named_is_not_consulted() -> None:
    """A request is not refused by the debt of a limit that it does not name."""
    store = Store()
    store.ask(settlement(TEN, 100))
    other = Limit.per_second("b", 1)
    assert isinstance(store.ask(store.taking(other))[0], Grant)


def test_one_limit_that_refuses_refuses_all() -> None:
    """Of several limits, all are consumed or none."""
    store = Store()
    other = Limit.per_second("b", 1)
    store.take(other)
    outcome = store.ask(Request(KEY, (Charge(TEN, 3), Charge(other, 1)), deadline=EPOCH))[0]
    assert isinstance(outcome, Refusal)
    assert store.available(TEN) == 10


def test_a_known_state_takes_one_write() -> None:
    """A client that knows the bucket writes once, idle or busy; one that does not writes at most twice."""
    store = Store()
    store.take(TEN)
    store.take(TEN)
    store.now += 10 * SECOND
    store.take(TEN)
    assert store.planned == 3
    store.known = EMPTY
    assert store.ask(store.taking(TEN)) == [None]
    store.take(TEN)
    assert store.planned == 5


def test_a_refusal_by_a_known_state_writes_nothing() -> None:
    """If the state shows that no request fits, no update is planned."""
    store = Store()
    store.take(ONE)
    assert planning.plan(store.state, [store.taking(ONE), store.taking(ONE)], store.now, "x").update is None


def test_a_batch_is_decided_in_order() -> None:
    """Requests of a batch are decided in order: each is allowed if it fits after those before it, and one write covers all."""
    store = Store()
    outcomes = store.ask(*(store.taking(TEN, units) for units in (4, 7, 5, 2, 1)))
    assert [isinstance(outcome, Grant) for outcome in outcomes] == [True, False, True, False, True]
    assert store.planned == 1
    assert store.available(TEN) == 0


ASKS = st.tuples(st.integers(0, 4), st.sampled_from(["asks", "asks", "is forced", "gives back"]))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(ASKS, min_size=1, max_size=20), st.floats(0.0, 1.0), st.integers(0, 10))
def test_a_part_of_what_fits_is_the_first_of_it(asks: list[tuple[int, str]], part: float, used: int) -> None:
    """A part carries the first of those that ask, one at least, with all that is forced or gives back; the refusals stay."""
    store = Store()
    if used:
        store.take(TEN, used)
    requests = []
    for units, what in asks:
        returned = (Refund(TEN, 1, EPOCH, EPOCH, EPOCH + SECOND),) if what == "gives back" else ()
        requests.append(store.taking(TEN, units)._replace(forced=what == "is forced", refunds=returned))
    whole = planning.plan(store.state, requests, store.now, "x")
    some = planning.plan(store.state, requests, store.now, "x", part=part)
    asking = [place for place in whole.shares if asks[place][0] and asks[place][1] == "asks"]
    assert some.refused == whole.refused
    assert [place for place in whole.shares if place not in asking] == [place for place in some.shares if place not in asking]
    kept = [place for place in some.shares if place in asking]
    assert kept == asking[: max(1, int(part * len(asking)))]


LEVELS = st.integers(-2 * SECOND, 12 * SECOND)
CHARGES = st.tuples(st.integers(0, 4), st.integers(0, 4))
MORE = st.tuples(st.integers(0, 5 * SECOND), st.integers(0, 5 * SECOND))


@settings(max_examples=600, deadline=None, derandomize=True)
@given(LEVELS, LEVELS, CHARGES, st.integers(0, 5), st.integers(0, 12), st.integers(0, 3 * SECOND), MORE)
def test_behind_others_who_ask_the_same_one_look_says_what_a_batch_would(
    first: int, second: int, units: tuple[int, int], carried: int, waiting: int, flown: int, more: tuple[int, int]
) -> None:
    """One look finds the verdict and the levels of the last of a queue, some of which are in a write that is under way."""
    limits = Limit.per_second("a", 1, burst=5), Limit.per_second("b", 3, burst=7)
    request, planned = Request(KEY, tuple(map(Charge, limits, units)), deadline=EPOCH), EPOCH - flown

    def state(*levels: int) -> BucketState:
        return BucketState({limit.identity: Level(EPOCH + level, 0) for limit, level in zip(limits, levels, strict=True)})

    def play(start: BucketState) -> tuple[planning.Plan, planning.Plan]:
        written = planning.plan(start, [request] * carried, planned, "stamp")
        after = start if written.update is None else written.update.apply(start)
        return written, planning.plan(after, [request] * (waiting + 1), EPOCH, "next")

    written, plan = play(state(first, second))
    assume(not written.refused and len(written.shares) == carried)
    look = preview.look(state(first, second), request, EPOCH, preview.Ahead(waiting, carried, planned))
    assert isinstance(look, Refusal) == (waiting in plan.refused)
    if isinstance(look, Refusal):
        assert look.levels == plan.refused[waiting].levels
        assert waiting in play(state(first + more[0], second + more[1]))[1].refused


def test_a_refusal_tells_exactly_how_long_to_wait() -> None:
    """At the time that a refusal gives, the request fits; a nanosecond earlier it does not."""
    store = Store()
    store.take(TEN, 10)
    refusal = store.ask(store.taking(TEN, 3))[0]
    assert isinstance(refusal, Refusal)
    wait = gcra.start(TEN, refusal.levels[0].tat + gcra.cost(TEN, 3)) - store.now
    store.now += wait - 1
    assert store.refuses(TEN, 3)
    store.now += 1
    assert not store.refuses(TEN, 3)


def test_a_bucket_owes_while_one_of_its_limits_does() -> None:
    """A debt of one enforced limit is enough, and so is a pause; a debt of a shadow limit, or its end, is not."""
    charges, shadow = (Charge(TEN, 1), Charge(OTHER, 1)), replace(OTHER, enforce=False)
    debt = BucketState({OTHER.identity: Level(EPOCH + OTHER.depth + 5, EPOCH)})
    assert preview.owes(debt, charges, EPOCH)
    assert not preview.owes(debt, charges, EPOCH + 5)
    assert not preview.owes(debt, (Charge(TEN, 1), Charge(shadow, 1)), EPOCH)
    assert [preview.owes(BucketState(paused=paused), charges, EPOCH) for paused in (EPOCH, EPOCH + 1)] == [False, True]


def test_a_wait_lasts_until_every_limit_and_the_pause_permit() -> None:
    """It is the longest that an enforced limit demands, or the rest of the pause, and none where all fits."""
    full = BucketState({OTHER.identity: Level(EPOCH + OTHER.depth, EPOCH)})
    request = Request(KEY, (Charge(TEN, 1), Charge(OTHER, 2)))
    assert preview.wait(full, request, EPOCH) == gcra.cost(OTHER, 2)
    assert preview.wait(replace(full, paused=EPOCH + SECOND), request, EPOCH) == SECOND
    assert preview.wait(EMPTY, request, EPOCH) == 0


def test_a_wait_that_does_not_fit_the_patience_is_refused() -> None:
    """A caller books a start within its timeout, or is refused at once and charged nothing."""
    store = Store()
    store.take(ONE)
    assert isinstance(store.ask(store.taking(ONE, patience=0.9))[0], Refusal)
    assert store.take(ONE, patience=1).start == EPOCH + SECOND


def test_writers_without_fresh_knowledge_do_not_defeat_each_other() -> None:
    """An update that was planned on an old state of the same mode is applied, even if others have written since."""
    store = Store()
    store.take(TEN)
    plans = [planning.plan(store.state, [store.taking(TEN)], store.now, f"writer-{index}") for index in range(9)]
    for plan in plans:
        assert plan.update is not None
        assert plan.update.holds(store.state)
        store.state = plan.update.apply(store.state)
    assert store.available(TEN) == 0


@pytest.mark.parametrize("debt", [0, 1_000_000])
def test_the_item_outlives_every_limit(debt: int) -> None:
    """`ttl` is beyond the latest `tat` of the item, of limits that an update does not name and of debts too."""
    store = Store()
    slow = Limit.per_day("b", 2)
    store.take(slow, 2)
    store.ask(settlement(TEN, debt + 1))
    store.take(Limit.per_second("c", 5), patience=1)
    assert store.state.ttl * SECOND >= max(level.tat for level in store.state.levels.values())


def test_the_same_update_is_not_applied_twice_in_a_row() -> None:
    """An update that was applied and is sent again changes nothing."""
    plan = planning.plan(EMPTY, [Request(KEY, (Charge(TEN, 1),), deadline=EPOCH)], EPOCH, "x")
    assert plan.update is not None
    once = plan.update.apply(EMPTY)
    assert not plan.update.holds(once)


def test_a_batch_that_asks_for_nothing_plans_nothing() -> None:
    """Without requests, and for refunds that are worth nothing, there is nothing to write."""
    dead = Request(KEY, refunds=(Refund(TEN, 1, EPOCH - 1, -1),))
    state = BucketState({TEN.identity: Level(EPOCH + 5, EPOCH)}, 0, "x")
    assert planning.plan(EMPTY, [], EPOCH, "y").update is None
    plan = planning.plan(state, [dead], EPOCH, "y")
    assert plan.update is None
    assert plan.grants(state)[0].receipts == ()


class TokenBucket:
    """The textbook's bucket in exact fractions: the observer that the fourth promise speaks of."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.tokens = Fraction(limit.capacity)

    def refill(self, passed: int) -> None:
        """Let time pass."""
        rate = Fraction(self.limit.refill_amount, self.limit.period_ns)
        self.tokens = min(Fraction(self.limit.capacity), self.tokens + passed * rate)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_one_client_is_treated_as_by_an_exact_bucket(data: st.DataObject) -> None:
    """Without bookings an admission or refusal is what exact fractions say, to within one unit, in debt and out of it."""
    rates = st.tuples(st.integers(1, 50), st.integers(1, 200), st.sampled_from([0.5, 1.0, 60.0, 3_600.0]))
    limits = [Limit(name, *data.draw(rates)) for name in "ab"]
    exact = [TokenBucket(limit) for limit in limits]
    store = Store()
    for _ in range(data.draw(st.integers(1, 40))):
        passed = data.draw(
            st.sampled_from([0, 1, *(limit.period_ns // limit.refill_amount for limit in limits), limits[0].window])
        )
        store.now += passed
        for each in exact:
            each.refill(passed)
        amounts = [data.draw(st.integers(0, limit.capacity)) for limit in limits]
        forced = data.draw(st.integers(0, 9)) == 0
        charges = tuple(Charge(limit, units) for limit, units in zip(limits, amounts, strict=True))
        outcome = None
        while outcome is None:
            outcome = store.ask(Request(KEY, charges, deadline=store.now, forced=forced))[0]
        room = min(each.tokens - units for each, units in zip(exact, amounts, strict=True))
        if isinstance(outcome, Refusal):
            assert room < 1
            continue
        assert forced or room > -1
        for each, units in zip(exact, amounts, strict=True):
            each.tokens -= units


@pytest.mark.parametrize(
    ("units", "fresh", "expected"),
    [((1, 1, 1, 1), True, {2, 3}), ((1, 1, 1, 1), False, set()), ((1, 2, 1), True, set()), ((1, 3), True, {1})],
    ids=["equals", "an old state", "others between", "alone"],
)
def test_a_refusal_behind_equal_requests_is_proven_by_a_fresh_state(
    units: tuple[int, ...], fresh: bool, expected: set[int]
) -> None:
    """Two units are free. What does not fit behind others is proven only behind equal ones; what never fits, always."""
    limit = Limit.per_hour("requests", 2)
    known = BucketState({limit.identity: Level(EPOCH - 1, EPOCH - 2)}, stamp="seen")
    requests = [Request(BucketKey("default", "user", "api"), (Charge(limit, each),)) for each in units]
    made = planning.plan(known, requests, EPOCH, "stamp", fresh=fresh)
    assert set(made.proven(behind_equals=True)) == expected
    assert set(made.proven(behind_equals=False)) == {place for place in expected if units[place] > 2}
