"""Units survive a change of limits: what a new rate inherits, and how two rates of one name affect each other."""

from __future__ import annotations

from typing import Any

import pytest
from support.bucket_world import EPOCH, KEY, PromiseBroken, Script, play_seed
from support.store import Store

from limiter import Limit, Quota
from limiter.core import plan as planning
from limiter.core import preview
from limiter.core.limits import births, gcra
from limiter.core.limits.account import RateAccount
from limiter.core.request import Charge, Grant, NotTried, Request
from limiter.core.state import EMPTY, Condition, Level, Mark
from limiter.core.units import NANOSECONDS

SECOND = NANOSECONDS
HOUR = 3_600 * SECOND
DAILY = Limit.per_day("a", 100)
MINUTELY = Limit.per_minute("a", 100)


def test_an_upgrade_frees_the_difference_at_once() -> None:
    """A customer who has used a day's units is allowed a second after an upgrade to as many a minute, while asking all along."""
    store = Store()
    store.take(DAILY, units=100)
    store.refusal(DAILY)
    waited = 0
    while not isinstance(store.try_take(MINUTELY), Grant):
        store.now += SECOND // 10
        waited += SECOND // 10
    assert waited <= SECOND


def test_a_birth_is_written_although_the_request_is_refused() -> None:
    """The account begins to refill with the first attempt, once: the next attempt finds it."""
    store = Store()
    store.take(DAILY, units=100)
    store.refusal(MINUTELY)
    assert store.tat(MINUTELY) == store.now + 60 * SECOND
    before = store.state
    store.refusal(MINUTELY)
    assert store.plan.update is None
    assert store.state == before


def test_a_look_refuses_no_request_whose_account_is_not_born() -> None:
    """A remembered state does not keep the birth of a new account from being written."""
    store = Store()
    store.take(DAILY, units=100)
    request = Request(KEY, (Charge(MINUTELY, 1),), deadline=store.now)
    assert isinstance(preview.look(store.state, request, store.now), NotTried)
    assert preview.look(store.state, request, store.now).starts[0] > store.now


def test_a_second_route_is_not_locked_out() -> None:
    """A slow rate that shares its name with a fast one is in debt for no longer than the fast one."""
    slow, store = Limit.per_day("a", 5), Store()
    store.take(MINUTELY, units=10)
    store.take(slow)
    assert store.tat(slow) - store.now == 6 * SECOND + gcra.cost(slow, 1)
    store.take(MINUTELY, units=90)
    store.refusal(MINUTELY)


def test_a_downgrade_is_no_windfall() -> None:
    """After a minute's units are used, a slower rate of the name begins without them, for as long as they would be missing."""
    slower, store = Limit.per_minute("a", 50), Store()
    store.take(MINUTELY, units=100)
    store.refusal(slower)
    store.now += 60 * SECOND
    store.take(slower, units=50)


def test_a_process_that_has_seen_nothing_gives_no_birth() -> None:
    """A process that has not read the bucket fails under a new rate, looks, and inherits."""
    store = Store()
    store.take(DAILY, units=100)
    store.known = EMPTY
    request = Request(KEY, (Charge(MINUTELY, 100),), deadline=store.now)
    assert store.ask(request, fresh=False) == [None]
    assert store.plan.update is not None
    assert store.tat(MINUTELY) < 0
    store.refusal(MINUTELY, units=100)


def test_a_state_that_is_not_the_batchs_own_gives_no_birth() -> None:
    """A client that knows another account of the name looks before it adds one."""
    store = Store()
    store.take(DAILY, units=100)
    store.ask(Request(KEY, (Charge(MINUTELY, 1),), deadline=store.now), fresh=False)
    assert (store.plan.update, store.plan.shares, store.plan.refused) == (None, {}, {})


def test_births_come_one_after_another() -> None:
    """Of two births on one view the second fails; it then inherits from the first."""
    other, store = Limit.per_hour("a", 100), Store()
    store.take(DAILY, units=50)
    plans = [
        planning.plan(store.state, [Request(KEY, (Charge(limit, 1),), deadline=store.now)], store.now, limit.identity)
        for limit in (MINUTELY, other)
    ]
    first, second = (plan.update for plan in plans)
    assert first is not None
    assert second is not None
    after = first.apply(store.state)
    assert not second.holds(after)


def test_rates_in_turn_admit_their_capacities_together_once() -> None:
    """Rates of one name that alternate together allow at once at most the largest capacity and what is not inherited."""
    rates = [Limit("a", 100, amount, 3_600.0) for amount in (100, 101, 103, 107, 109)]
    store, admitted = Store(), 0
    for _ in range(10):
        for rate in rates:
            while isinstance(store.try_take(rate, units=10), Grant):
                admitted += 10
    assert admitted <= sum(rate.capacity for rate in rates)


def test_the_same_rate_in_other_words_is_the_same_account() -> None:
    """Sixty a minute is one a second, and another burst is not another account."""
    store = Store()
    store.take(Limit.per_minute("a", 60), units=60)
    store.refusal(Limit.per_second("a", 1))
    store.take(Limit.per_second("a", 1, burst=90), units=30)
    assert len(store.state.levels) == 1


def test_two_rates_of_a_batch_have_accounts_of_their_own() -> None:
    """A slow rate that a batch fills does not refuse the fast one behind it, and inherits what the batch consumed."""
    slow, store = Limit.per_day("a", 5), Store()
    requests = [Request(KEY, (Charge(limit, 5),), deadline=store.now) for limit in (slow, MINUTELY)]
    outcomes = store.ask(*requests)
    if None in outcomes:
        outcomes = store.ask(*requests)
    assert all(isinstance(each, Grant) for each in outcomes)


def test_debt_stays_debt() -> None:
    """A new account inherits at most its capacity of a debt, and the account in debt keeps it."""
    store = Store()
    store.force(DAILY, 500)
    store.refusal(MINUTELY)
    assert store.tat(MINUTELY) - store.now == gcra.cost(MINUTELY, 100)
    store.now += 61 * SECOND
    store.take(MINUTELY, units=100)
    store.refusal(DAILY)


def test_an_account_leaves_when_it_has_been_full_for_an_hour() -> None:
    """An account that has been full for an hour is removed by a write of its name, if that is still so."""
    store = Store()
    store.take(DAILY)
    store.take(MINUTELY)
    full = store.tat(DAILY)
    store.now = full + HOUR - 1
    store.take(MINUTELY)
    assert DAILY.identity in store.state.levels
    store.now = full + HOUR
    store.take(MINUTELY)
    assert set(store.state.levels) == {MINUTELY.identity}


def test_an_account_that_is_in_use_again_does_not_leave() -> None:
    """A removal that was planned on an old view is not applied."""
    store = Store()
    store.take(DAILY)
    store.take(MINUTELY)
    store.now = store.tat(DAILY) + HOUR
    known = store.known
    store.take(DAILY)
    store.known = known
    assert store.ask(Request(KEY, (Charge(MINUTELY, 1),), deadline=store.now)) == [None]
    assert store.tat(DAILY) > store.now


def test_a_name_has_eight_accounts_at_most() -> None:
    """A ninth account removes the one that is full soonest, and the plan says so."""
    rates = [Limit("a", 1_000, amount, 3_600.0) for amount in range(100, 110)]
    store = Store()
    for rate in rates[:8]:
        store.take(rate, units=1)
        assert not store.plan.dropped
    assert len(store.state.levels) == 8
    soonest = min(store.state.levels, key=lambda each: store.state.level(each).tat)
    store.take(rates[8], units=1)
    assert store.plan.dropped == (soonest,)
    assert len(store.state.levels) == 8


def test_rates_of_one_name_that_are_in_use_at_once_are_told() -> None:
    """A change of rates is not reported; use of the older rate after the change is."""
    store = Store()
    store.take(DAILY)
    assert store.plan.rivals == ()
    store.take(MINUTELY)
    assert store.plan.rivals == ()
    store.take(MINUTELY)
    assert store.plan.rivals == ()
    store.take(DAILY)
    assert store.plan.rivals == ("a",)
    store.now += HOUR
    store.take(DAILY)
    assert store.plan.rivals == ()


def test_a_reset_takes_all_accounts_of_a_name() -> None:
    """After it every rate of the name is full."""
    store = Store()
    store.take(DAILY, units=100)
    store.refusal(MINUTELY)
    store.ask(Request(KEY, clear=("a",)))
    store.take(MINUTELY, units=100)
    store.take(DAILY, units=100)


def test_the_first_account_of_a_name_inherits_nothing() -> None:
    """An account inherits if others of its name are stored, or the mark tells that there was one before."""
    first = Mark("a", DAILY.identity, True, DAILY.identity)
    assert not births.Birth(first, ()).inherits
    assert births.Birth(first, (MINUTELY.identity,)).inherits
    assert births.Birth(first._replace(seen=MINUTELY.identity, absent=False), ()).inherits


@pytest.mark.parametrize(("first", "second"), [(DAILY, MINUTELY), (MINUTELY, DAILY)], ids=str)
def test_two_births_of_one_name_assert_that_there_was_none(first: Limit, second: Limit) -> None:
    """The mark that one update writes for both may not be there yet, not even as the first one's."""
    store = Store()
    store.ask(*[Request(KEY, (Charge(limit, 1),), deadline=store.now) for limit in (first, second)])
    assert store.plan.update is not None
    (mark,) = store.plan.update.marks
    assert (mark.seen, mark.absent, mark.new) == (None, True, second.identity)


def test_quotas_of_one_name_that_are_in_use_at_once_are_told() -> None:
    """One unit of the newer period is enough, be it in the item or in the same batch."""
    daily, hourly, store = Quota.per_day("q", 9), Quota.per_hour("q", 9), Store()
    store.take(daily)
    store.take(hourly)
    assert store.plan.rivals == ()
    store.take(daily)
    assert store.plan.rivals == ("q",)
    store.force(hourly, -2)
    store.take(daily)
    assert store.plan.rivals == ()
    asked = [Request(KEY, (Charge(limit, 1),), deadline=store.now) for limit in (daily, hourly)]
    store.ask(*asked)
    assert store.plan.rivals == ("q",)


def test_a_name_is_no_other_names_beginning() -> None:
    """A name that contains the separator of names has its own accounts."""
    store = Store()
    store.take(Limit.per_day("a|b", 5), units=5)
    store.take(DAILY, units=100)
    assert store.plan.update is not None
    assert births.siblings(store.state, "a") == [DAILY.identity]


def test_a_shadow_is_born_with_the_writes_of_others() -> None:
    """A shadow's account begins to refill as an enforced one would, without a separate write."""
    shadow, other, store = Limit.per_minute("a", 100, enforce=False), Limit.per_second("b", 10), Store()
    store.take(DAILY, units=100)
    store.take(shadow, other)
    assert store.tat(MINUTELY) == store.now + 60 * SECOND
    store.now += SECOND
    assert store.take(shadow, other).receipts[0].left_out is None


def test_a_month_inherits_from_a_day_and_a_day_not_from_an_hour() -> None:
    """Counts inherit from counts that end no earlier: a new quota within the day begins with the day's units."""
    hourly, daily, store = Quota.per_hour("q", 50), Quota.per_day("q", 40), Store(EPOCH - EPOCH % (24 * HOUR))
    store.take(daily, units=30)
    store.take(hourly, units=20)
    assert store.tat(hourly) == 50
    store.refusal(hourly)
    store.now += HOUR
    store.take(hourly, units=50)
    fresh = Store(EPOCH - EPOCH % (24 * HOUR))
    fresh.take(hourly, units=50)
    fresh.take(daily, units=40)


def test_another_zone_is_the_same_period() -> None:
    """A day in another zone begins with the units of the day in the first."""
    store = Store(EPOCH - EPOCH % (24 * HOUR) + 12 * HOUR)
    store.take(Quota.per_day("q", 40), units=30)
    store.refusal(Quota.per_day("q", 40, "America/Los_Angeles"), units=11)
    store.take(Quota.per_day("q", 40, "America/Los_Angeles"), units=10)


def test_totals_inherit_nothing() -> None:
    """A total begins full, even if another kind of limit was used under its name."""
    store = Store()
    store.take(Quota.per_day("q", 40), units=40)
    store.take(Quota.total("q", 100), units=100)


def test_a_quota_leaves_an_hour_after_its_end() -> None:
    """A count that has been over for an hour is removed with a write of its name."""
    daily, monthly, store = Quota.per_day("q", 9), Quota.per_month("q", 90), Store(EPOCH - EPOCH % (24 * HOUR))
    store.take(daily)
    store.take(monthly)
    store.now += 25 * HOUR
    store.take(monthly)
    assert set(store.state.levels) == {monthly.identity}


SCRIPTS = {
    "everything": Script(rates=True),
    "items expire": Script(rates=True, refunds=False, expiry=True),
    "admissions": Script(rates=True, bookings=False, refunds=False, debts=False),
    "one client": Script(rates=True, clients=1),
    "for long": Script(rates=True, steps=120),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_rate_keeps_every_promise(name: str) -> None:
    """Mixed fleets and alternating rates break no promise, and no new account is in debt for longer than its name was."""
    births_seen = sum(play_seed(seed, SCRIPTS[name]).births for seed in range(60))
    assert births_seen > 100


def owe_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a new account owes more than its name did."""
    sound = RateAccount._bear

    def bear(self: Any, limit: Any, view: Any, others: Any) -> None:
        sound(self, limit, view, others)
        self.tat = view.now + 3 * (self.tat - view.now)

    monkeypatch.setattr(RateAccount, "_bear", bear)


def leave_while_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: accounts are removed whenever another account of their name is written."""
    monkeypatch.setattr(births, "_rested", lambda identity, *_: Condition(identity, "tat", None, 10**30, absent=True))


@pytest.mark.parametrize("plant", [owe_three_times, leave_while_in_use])
def test_planted_faults_are_found(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A birth or a removal with a known fault breaks a promise within the first worlds."""
    plant(monkeypatch)
    with pytest.raises(PromiseBroken):
        for seed in range(60):
            play_seed(seed, Script(rates=True))


def test_a_level_without_a_mark_is_no_reason_to_inherit_nothing() -> None:
    """If the mark is missing beside another account, it is asserted to be missing."""
    store = Store()
    store.take(DAILY, units=100)
    store.state = store.known = type(store.state)({DAILY.identity: Level(*store.state.level(DAILY.identity))}, store.state.ttl)
    store.refusal(MINUTELY)
    assert store.plan.update is not None
    assert store.plan.update.marks[0].seen is None
