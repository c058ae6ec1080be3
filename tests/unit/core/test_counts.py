"""Quotas, sessions and totals: each trap by hand, and random worlds compared with a ledger.

The test of `limiter.core.resetting`.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from support.bucket_world import EPOCH, PromiseBroken
from support.count_world import HOUR, SECOND, Script, play
from support.store import Store as EmptyStore

from limiter import Limit, Quota
from limiter.core import plan as planning
from limiter.core import preview, status
from limiter.core.limits import births
from limiter.core.limits.count import CountAccount
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Grant, Refusal, Request, refund_of
from limiter.core.state import EMPTY, BucketState, Condition, Level

if TYPE_CHECKING:
    from collections.abc import Callable


KEY = BucketKey("default", "user", "api")
DAY = 24 * HOUR
NOON = EPOCH - EPOCH % DAY + 12 * HOUR
MIDNIGHT = NOON + 12 * HOUR
QUOTA = Quota.per_day("q", 10)
SESSION = Quota.session("s", 10, 5 * 3_600)
TOTAL = Quota.total("t", 10)
COUNTS = (QUOTA, SESSION, TOTAL)


class Store(EmptyStore):
    """A bucket at noon."""

    def __init__(self, now: int = NOON, error: int = 0) -> None:
        super().__init__(now, error)


# Traps of quotas.


def test_a_refund_does_not_outlive_a_reset() -> None:
    """Units that were consumed before a reset cannot be refunded after it, even within the same period."""
    store = Store()
    mine = store.take(QUOTA, units=5)
    store.ask(Request(KEY, clear=("q",)))
    store.take(QUOTA, units=10)
    store.give(mine, 5)
    assert store.tat(QUOTA) == 10
    store.refusal(QUOTA)


def test_debt_ends_with_the_period() -> None:
    """A debt of any size ends with its period."""
    store = Store()
    for _ in range(4):
        store.force(QUOTA, 10**12)
    store.refusal(QUOTA, units=0)
    store.now = MIDNIGHT
    store.take(QUOTA, units=10)


def test_a_caller_that_is_behind_at_the_boundary_is_charged_to_the_new_period() -> None:
    """A caller whose clock still shows the old day is neither let into it nor refused: its units count in the new day."""
    store = Store(MIDNIGHT)
    store.take(QUOTA, units=4)
    store.now = MIDNIGHT - SECOND
    (receipt,) = store.take(QUOTA, units=6).receipts
    assert (receipt.tat, receipt.since) == (10, MIDNIGHT)
    store.refusal(QUOTA)


def test_a_caller_whose_zone_data_are_older_waits_for_no_day() -> None:
    """If another process has opened a later day than the caller knows, the caller's units count in that day."""
    store = Store(MIDNIGHT - SECOND)
    store.state = store.known = BucketState({QUOTA.identity: Level(3, MIDNIGHT + HOUR)}, 9_999_999_999, "x")
    assert store.take(QUOTA, units=7).receipts[0].tat == 10
    store.refusal(QUOTA)


def test_no_period_opens_early() -> None:
    """A caller whose clock may be a second fast opens the day a second later by its own clock."""
    store = Store(MIDNIGHT - 1, error=SECOND)
    store.take(QUOTA, units=10)
    store.now = MIDNIGHT + SECOND - 1
    refusal = store.refusal(QUOTA)
    assert refusal.start == MIDNIGHT + SECOND
    store.now = MIDNIGHT + SECOND
    assert store.take(QUOTA, units=10).receipts[0].since == MIDNIGHT


def test_the_item_lives_to_the_end_of_the_period() -> None:
    """`ttl` reaches the end of the period, even beside a rate that needs less."""
    store = Store()
    rate = Limit.per_second("r", 10)
    store.ask(Request(KEY, (Charge(rate, 1), Charge(QUOTA, 1)), deadline=store.now))
    assert store.state.ttl * SECOND >= MIDNIGHT


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [("Europe/Berlin", 1_774_738_800, 23), ("Europe/Berlin", 1_792_879_200, 25), ("UTC", 1_774_742_400, 24)],
)
def test_days_have_the_hours_that_the_zone_says(zone: str, day: int, hours: int) -> None:
    """A quota lasts from midnight to midnight, 23 or 25 hours where clocks change."""
    quota, store = Quota.per_day("q", 1, zone), Store(day * SECOND)
    store.take(quota)
    store.now += hours * HOUR - 1
    assert store.refusal(quota).start == day * SECOND + hours * HOUR
    store.now += 1
    store.take(quota)


def test_a_settlement_after_midnight_is_charged_to_the_new_day() -> None:
    """Use after midnight counts in the new day; what was consumed before it cannot be refunded."""
    store = Store(MIDNIGHT - SECOND)
    evening = store.take(QUOTA, units=5)
    store.now = MIDNIGHT + SECOND
    store.force(QUOTA, 2)
    store.give(evening, 5)
    assert store.tat(QUOTA) == 2


def test_nothing_is_booked_beyond_the_end_of_a_period() -> None:
    """A rate's start in the next day is not promised: the quota would be counted today and used tomorrow."""
    rate, store = Limit("r", 1, 1, 5.0), Store(MIDNIGHT - 2 * SECOND)
    both = Request(KEY, (Charge(rate, 1), Charge(QUOTA, 1)), deadline=store.now + HOUR)
    store.take(rate)
    (outcome,) = store.ask(both)
    assert isinstance(outcome, Refusal)
    assert outcome.start == MIDNIGHT + 3 * SECOND
    store.now = MIDNIGHT - 8 * SECOND
    store.state = store.known = EMPTY
    store.take(rate)
    (outcome,) = store.ask(both)
    assert isinstance(outcome, Grant)
    assert outcome.start == MIDNIGHT - 3 * SECOND


def test_no_start_is_booked_beyond_the_end_by_a_stale_view() -> None:
    """A write asserts that its start is still before the period's end, although others have taken more since it was planned."""
    rate, store = Limit("r", 1, 1, 5.0), Store(MIDNIGHT - 8 * SECOND)
    store.take(rate)
    asked = [Request(KEY, (Charge(rate, units), Charge(QUOTA, 1)), deadline=store.now + HOUR) for units in (0, 1)]
    for made in [planning.plan(store.state, [each], store.now, "w") for each in asked]:
        assert made.update is not None
        assert made.update.holds(store.state)
        level = store.state.level(rate.identity)
        later = level._replace(tat=level.tat + 10 * SECOND)
        assert not made.update.holds(replace(store.state, levels={rate.identity: later}))


def test_a_full_quota_is_never_booked() -> None:
    """A caller that would have to wait for the next day is refused, and told when to ask again."""
    store = Store()
    store.take(QUOTA, units=10)
    assert store.refusal(QUOTA, wait=DAY).start == MIDNIGHT


def test_an_opening_in_the_future_stays_open() -> None:
    """If a clock was once a year ahead, the capacity is all there is until a reset."""
    store = Store()
    store.state = store.known = BucketState({QUOTA.identity: Level(10, NOON + 365 * DAY)}, 9_999_999_999, "x")
    store.refusal(QUOTA)
    store.ask(Request(KEY, clear=("q",)))
    store.take(QUOTA)


# Traps of sessions.


def test_a_session_that_was_given_back_has_not_begun() -> None:
    """A call that was refused elsewhere does not start a session: the session begins with the first real use."""
    store = Store()
    store.give(store.take(SESSION), 1)
    store.now += HOUR
    real = store.take(SESSION, units=10)
    assert real.receipts[0].since == store.now
    assert store.refusal(SESSION).start == store.now + SESSION.length_ns


def test_a_session_is_not_opened_twice_at_one_time() -> None:
    """A refund of the first opening is void in the second, even if no time has passed, or a clock is behind."""
    store = Store()
    first, second = store.take(SESSION, units=3), store.take(SESSION, units=3)
    store.give(first, 3)
    store.give(second, 3)
    store.now -= 1
    store.take(SESSION, units=10)
    store.give(first, 3)
    assert store.tat(SESSION) == 10


def test_two_first_uses_share_a_session() -> None:
    """The second of two writers that would open a session fails once, and then uses the open one."""
    store = Store()
    store.take(SESSION, units=6)
    store.known = EMPTY
    assert store.ask(Request(KEY, (Charge(SESSION, 6),), deadline=store.now)) == [None]
    store.refusal(SESSION, units=6)
    store.take(SESSION, units=4)


def test_a_session_is_over_exactly_at_its_end() -> None:
    """A session is over at its beginning plus its length, and not a nanosecond earlier."""
    store = Store()
    store.take(SESSION, units=10)
    store.now += SESSION.length_ns - 1
    store.refusal(SESSION)
    store.now += 1
    store.take(SESSION, units=10)


def test_the_settlement_of_an_old_session_opens_a_new_one() -> None:
    """Use after the end of a session opens a new one."""
    store = Store()
    store.take(SESSION, units=10)
    store.now += SESSION.length_ns
    (receipt,) = store.force(SESSION, 3).receipts
    assert (receipt.tat, receipt.since) == (3, store.now)


# Traps of totals.


def test_a_total_opens_once() -> None:
    """After an outside refund of everything, an open lease can still refund what it holds, and no more."""
    store = Store()
    lease = store.take(TOTAL, units=4)
    store.force(TOTAL, -100)
    assert store.tat(TOTAL) == 0
    store.take(TOTAL, units=6)
    store.give(lease, 4)
    assert store.tat(TOTAL) == 2


def test_no_more_is_given_back_from_outside_than_is_used() -> None:
    """An adjustment from outside ends at the capacity, and its receipt says what it really refunded."""
    store = Store()
    store.take(TOTAL, units=3)
    (receipt,) = store.force(TOTAL, -5).receipts
    assert (receipt.units, receipt.cost, receipt.tat) == (-5, -3, 0)
    store.take(TOTAL, units=10)
    store.refusal(TOTAL)


@pytest.mark.parametrize("limit", COUNTS, ids=str)
def test_what_gives_nothing_back_from_outside_writes_nothing(limit: Quota) -> None:
    """An adjustment of a count that is open, and of which nothing is used, needs no write."""
    store = Store()
    store.take(limit, units=3)
    store.force(limit, -3)
    store.force(limit, -1)
    assert store.plan.update is None


@pytest.mark.parametrize(("given", "is_written"), [(3, True), (2, False)])
def test_a_refund_of_more_than_is_used_looks_first(given: int, is_written: bool) -> None:
    """A state of another call decides a refund of what it shows as used, and no refund of more."""
    store = Store()
    mine = store.take(TOTAL, units=3)
    store.force(TOTAL, given - 3)
    store.ask(refund_of(KEY, mine.receipts), fresh=False)
    assert (store.plan.update is not None) is is_written
    store.ask(refund_of(KEY, mine.receipts))
    assert store.tat(TOTAL) == 0


def test_a_refund_of_more_than_is_used_is_planned_again_if_others_have_used_more() -> None:
    """Of a total, what is not given back is gone for good, so a write that gives back less asserts that no more is used."""
    store = Store()
    mine = store.take(TOTAL, units=3)
    store.force(TOTAL, -1)
    known = store.state
    store.take(TOTAL, units=1)
    store.known = known
    assert store.ask(refund_of(KEY, mine.receipts)) == [None]
    store.ask(refund_of(KEY, mine.receipts))
    assert store.tat(TOTAL) == 0


def test_a_total_is_never_deleted() -> None:
    """Beside a total, the item lives as long as DynamoDB allows; a writer that knows of no total keeps that."""
    rate, store = Limit.per_second("r", 10), Store()
    store.ask(Request(KEY, (Charge(rate, 1), Charge(TOTAL, 1)), deadline=store.now))
    assert store.state.ttl >= 9_999_999_999
    store.known = EMPTY
    assert store.ask(Request(KEY, (Charge(rate, 1),), deadline=store.now)) == [None]
    store.take(rate)
    assert store.state.ttl >= 9_999_999_999


def test_a_larger_capacity_is_how_more_is_sold() -> None:
    """After a larger capacity is set, used units stay used, and the rest is available at once."""
    store = Store()
    store.take(TOTAL, units=10)
    store.take(Quota.total("t", 15), units=5)
    store.refusal(Quota.total("t", 15))


# All counts.


@pytest.mark.parametrize("limit", COUNTS, ids=str)
def test_a_count_admits_its_capacity_and_no_more(limit: Quota) -> None:
    """Exactly the capacity fits, in one write each; an amount of 0 is refused only in debt."""
    store = Store()
    for _ in range(10):
        store.take(limit)
    assert store.planned == 10
    store.refusal(limit)
    store.take(limit, units=0)
    store.force(limit, 1)
    store.refusal(limit, units=0)


@pytest.mark.parametrize("limit", COUNTS, ids=str)
def test_a_batch_is_decided_in_order(limit: Quota) -> None:
    """Requests of a batch are allowed if they fit after those before them, and one write covers all."""
    store = Store()
    requests = [Request(KEY, (Charge(limit, units),), deadline=store.now) for units in (4, 7, 5, 2, 1)]
    assert [isinstance(each, Grant) for each in store.ask(*requests)] == [True, False, True, False, True]
    assert store.tat(limit) == 10


@pytest.mark.parametrize("limit", COUNTS, ids=str)
def test_stale_writers_of_one_opening_do_not_defeat_each_other(limit: Quota) -> None:
    """Updates that were planned on an old count are applied as long as there is room."""
    store = Store()
    store.take(limit)
    ask = Request(KEY, (Charge(limit, 1),), deadline=store.now)
    plans = [planning.plan(store.state, [ask], store.now, f"writer-{place}") for place in range(10)]
    applied = 0
    for plan in plans:
        assert plan.update is not None
        if plan.update.holds(store.state):
            store.state, applied = plan.update.apply(store.state), applied + 1
    assert applied == 9
    assert store.tat(limit) == 10


@pytest.mark.parametrize("limit", COUNTS, ids=str)
@pytest.mark.parametrize(("units", "carried", "waiting"), [(1, 0, 9), (1, 3, 6), (1, 3, 7), (3, 1, 1), (3, 1, 2), (0, 2, 5)])
def test_a_look_says_what_a_batch_would(limit: Quota, units: int, carried: int, waiting: int) -> None:
    """A look behind other equal requests has the verdict of a plan, and the same level."""
    store = Store()
    store.take(limit)
    ask = Request(KEY, (Charge(limit, units),), deadline=store.now)
    written = planning.plan(store.state, [ask] * carried, store.now, "written")
    after = written.update.apply(store.state) if written.update else store.state
    plan = planning.plan(after, [ask] * (waiting + 1), store.now, "next")
    look = preview.look(store.state, ask, store.now, preview.Ahead(waiting, carried, store.now))
    assert isinstance(look, Refusal) == (waiting in plan.refused)
    if isinstance(look, Refusal):
        assert look == plan.refused[waiting]._replace(by_state=True)


def test_statuses_of_counts() -> None:
    """Statuses give the end of a quota and of a session, none for a total, and the units that are left."""
    store = Store()
    for limit in COUNTS:
        store.take(limit, units=4)
    charges = tuple(Charge(limit, 7) for limit in COUNTS)
    statuses = status.preview(KEY, charges, store.state, store.now)
    assert [each.available for each in statuses] == [6, 6, 6]
    assert all(each.exceeded for each in statuses)
    assert [each.retry_after for each in statuses] == [12 * 3_600.0, 5 * 3_600.0, None]
    assert [each.reset_after for each in statuses] == [12 * 3_600.0, 5 * 3_600.0, None]
    empty = status.preview(KEY, charges, EMPTY, store.now)
    assert [each.available for each in empty] == [10, 10, 10]
    assert not any(each.exceeded for each in empty)
    assert [each.reset_after for each in empty] == [0.0, 0.0, None]
    granted = status.granted(KEY, store.take(QUOTA, units=6))
    assert [(each.available, each.exceeded, each.reset_after) for each in granted] == [(0, False, 12 * 3_600.0)]


def test_kinds_share_one_write() -> None:
    """A rate, a quota, a session and a total of one bucket are consumed together or not at all, by one update."""
    rate, store = Limit.per_second("r", 10), Store()
    limits = (rate, *COUNTS)
    (outcome,) = store.ask(Request(KEY, tuple(Charge(limit, 3) for limit in limits), deadline=store.now))
    assert isinstance(outcome, Grant)
    store.take(TOTAL, units=6)
    before = store.state
    (outcome,) = store.ask(Request(KEY, tuple(Charge(limit, 3) for limit in limits), deadline=store.now))
    assert isinstance(outcome, Refusal)
    assert store.state == before
    assert [store.plan.update, outcome.start > store.now] == [None, True]


# Random worlds.

SCRIPTS = {
    "a quota": Script((Quota.per_hour("q", 5),)),
    "a session": Script((Quota.session("s", 5, 3_600),)),
    "a total": Script((Quota.total("t", 20),)),
    "all": Script((Quota.per_hour("q", 5), Quota.session("s", 5, 3_600), Quota.total("t", 20))),
    "two quotas of one name": Script((Quota.per_hour("q", 5), Quota.per_hour("q", 9)), orders=False),
}


def search(script: Script, worlds: int) -> str | None:
    """Return the first broken promise that random worlds find, or None."""
    for seed in range(worlds):
        try:
            play(Random(seed), script)  # noqa: S311 - no secret
        except PromiseBroken as broken:
            return f"{broken} (seed {seed})"
    return None


@pytest.mark.parametrize("error", [0, SECOND])
@pytest.mark.parametrize("name", list(SCRIPTS)[:4])
def test_the_item_equals_the_ledger(name: str, error: int) -> None:
    """Clients with old knowledge and different clocks act in any order: the item is what their callers were told."""
    script = SCRIPTS[name]
    assert search(Script(script.limits, error=error), 150) is None


def change_conditions(change: Callable[[Condition], Condition | None]) -> Callable[[pytest.MonkeyPatch], None]:
    """A fault in the conditions of every count."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        for method in ("_write_opening", "_as_seen"):
            sound = getattr(CountAccount, method)

            def faulty(self: Any, *arguments: Any, sound: Any = sound) -> Any:
                draft = arguments[0] if arguments else None
                before = len(draft.conditions) if draft else 0
                found = sound(self, *arguments)
                if draft is None:
                    return [each for each in map(change, found) if each is not None]
                draft.conditions[before:] = [each for each in map(change, draft.conditions[before:]) if each is not None]
                return found

            monkeypatch.setattr(CountAccount, method, faulty)

    return plant


def without_lower_since(each: Condition) -> Condition | None:
    """A fault: an open count is not asserted to be open."""
    return None if each.field == "since" and each.low is not None else each


def without_upper_since(each: Condition) -> Condition | None:
    """A fault: a count that is over is not asserted to be over."""
    return None if each.field == "since" and each.low is None else each


def without_room(each: Condition) -> Condition | None:
    """A fault: the room of an open count is not asserted."""
    return each._replace(high=10**20) if each.field == "tat" and each.high else each


def period_start_for_since(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: an opening is named by its period, so that a reset does not end it."""
    monkeypatch.setattr("limiter.core.resetting.max", lambda now, _: now - now % HOUR, raising=False)


FAULTS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "open, not asserted": (change_conditions(without_lower_since), "all"),
    "over, not asserted": (change_conditions(without_upper_since), "all"),
    "room, not asserted": (change_conditions(without_room), "a quota"),
    "a reset that opens nothing": (period_start_for_since, "a quota"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A count with a known fault breaks a promise within the first worlds."""
    plant, script = FAULTS[name]
    plant(monkeypatch)
    assert search(SCRIPTS[script], 100) is not None


def test_measures_of_all_kinds_are_read_back() -> None:
    """What an identity says of a kind makes the same account again, and another kind none."""
    for limit in (*COUNTS, Quota.per_month("q", 1, "Europe/Berlin"), Quota.session("s|x", 1, 0.5)):
        found = births.counted(limit.identity)
        assert found is not None
        assert births.measure(found.identity) == births.measure(limit.identity)
    for other in ("a|5/3", "calls|", "q|day Nowhere/Nowhere", "s|session soon"):
        assert births.counted(other) is None
