"""What a batch does to slots: the conditions and changes of its one write, and what it asserts of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support.bucket_world import EPOCH, KEY

from limiter import Concurrency, Limit, Quota
from limiter.core import plan as planning
from limiter.core.forgetting import is_forgettable
from limiter.core.preview import Ahead, look
from limiter.core.request import Charge, Grant, Refund, Refusal, Request
from limiter.core.slot_ledger import SlotLedger
from limiter.core.slots import NONE, Slots, SlotWrite, agree, count_of, entry_of, until_of
from limiter.core.state import EMPTY, BucketState
from limiter.core.tenure import REMEMBERED, REST, TURNS, HoldTime, Turns
from limiter.core.units import NANOSECONDS

if TYPE_CHECKING:
    from limiter.core.plan import Plan
    from limiter.core.state import Update
    from limiter.models import BaseLimit

CALLS = Concurrency("calls", 20)
TTL = CALLS.ttl_ns
NOW = EPOCH
OTHERS = "other000", "second00"


def taking(*limits: BaseLimit, units: int = 1, wait: int = 0) -> Request:
    """A request for units of each limit."""
    return Request(KEY, tuple(Charge(limit, units) for limit in limits), deadline=NOW + wait, slots=True)


def held(*entries: tuple[str, int, int]) -> BucketState:
    """A bucket in which holders hold slots until so many nanoseconds after now."""
    found = {holder: entry_of((NOW + until) // 10**6, count) for holder, until, count in entries}
    slots = Slots({"calls": sum(map(count_of, found.values()))}, {"calls": found}, 1_000)
    return BucketState(ttl=(NOW + 2 * TTL) // NANOSECONDS, stamp="other", slots=slots)


class Process:
    """A process that plans against a bucket, and learns what becomes of it."""

    def __init__(self, state: BucketState = EMPTY, error: int = 0) -> None:
        self.ledger = SlotLedger("process0")
        self.state = state
        self.error = error
        self.mono = 0
        self.now = NOW
        self.stamps = 0

    def plan(self, *requests: Request, confirmed: int | None = None) -> Plan:
        """Plan once, on a state that was shown just now."""
        self.stamps += 1
        side = self.ledger.side(self.now if confirmed is None else confirmed, self.mono)
        return planning.plan(self.state, requests, self.now, f"own-{self.stamps}", error=self.error, slots=side)

    def ask(self, *requests: Request) -> list[Grant | Refusal]:
        """Plan and write, and return the outcomes."""
        plan = self.plan(*requests)
        outcomes: dict[int, Grant | Refusal] = dict(plan.refused)
        if plan.update is not None:
            assert self.ledger.start(plan.update, self.mono)
            assert plan.update.holds(self.state)
            self.state = plan.update.apply(self.state)
            grants = plan.grants(self.state)
            receipts = [receipt for grant in grants.values() for receipt in grant.receipts]
            self.ledger.learn(self.state.slots, self.mono, receipts, plan.update.slots)
            outcomes |= grants
        return [outcomes[place] for place in range(len(requests))]

    def take(self, *limits: BaseLimit, units: int = 1) -> Grant:
        """Take, and be admitted."""
        (grant,) = self.ask(taking(*limits, units=units))
        assert isinstance(grant, Grant)
        return grant

    def end(self, units: int, generation: int = 1) -> None:
        """End leases."""
        self.ledger.release((Refund(CALLS, units, generation),), self.mono)

    @property
    def entry(self) -> int:
        """The process's own entry in the bucket."""
        return self.state.slots.entry("calls", "process0")


def slot_write(plan: Plan) -> SlotWrite:
    """The one part of an update that is about slots."""
    assert plan.update is not None
    (write,) = plan.update.slots
    return write


def test_a_process_that_knows_nothing_takes_by_one_write() -> None:
    """The write asserts that the process holds none, and that there is room, whether any slot was ever held or not."""
    write = slot_write(Process().plan(taking(CALLS, units=3)))
    assert (write.seen, write.most, write.change, write.taken) == (NONE, 17, 3, 3)
    assert count_of(write.entry or 0) == 3
    assert until_of(write.entry or 0) == NOW + TTL


def test_one_write_decides_rates_quotas_and_slots() -> None:
    """A rate, a quota and slots are taken by the same update, all or none."""
    rate, quota = Limit.per_minute("requests", 10), Quota.per_day("tokens", 5)
    process = Process()
    process.take(rate, quota, CALLS)
    assert count_of(process.entry) == 1
    assert process.state.level(quota.identity).tat == 1
    (refusal,) = process.ask(taking(CALLS, quota, units=6))
    assert isinstance(refusal, Refusal)
    assert count_of(process.entry) == 1


def test_the_dead_are_taken_out_with_all_else_that_is_due() -> None:
    """A write takes two, gives up one of its own and takes out both holders that have expired: the sum falls by two."""
    process = Process()
    process.take(CALLS, units=7)
    process.end(1)
    dead = {OTHERS[0]: entry_of((NOW - NANOSECONDS) // 10**6, 2), OTHERS[1]: entry_of((NOW - NANOSECONDS) // 10**6, 11)}
    slots = process.state.slots
    process.state = replace(process.state, slots=Slots({"calls": 20}, {"calls": {**slots.entries["calls"], **dead}}, slots.fence))
    write = slot_write(process.plan(taking(CALLS, units=2)))
    assert (write.change, write.taken, count_of(write.entry or 0)) == (2 - 1 - 13, 2, 8)
    assert write.most == 20 + 12
    assert dict(write.dead) == dead


def test_the_dead_stay_while_their_slots_are_not_needed() -> None:
    """Entries that have expired are in no caller's way as long as there is room."""
    write = slot_write(Process(held((OTHERS[0], -NANOSECONDS, 5))).plan(taking(CALLS)))
    assert write.dead == ()


def test_at_most_25_of_the_dead_are_taken_out_at_once() -> None:
    """A condition has 300 operators at most, so those that hold most go first, and as many as can at once."""
    limit = Concurrency("calls", 60)
    dead = tuple((f"dead{place:04}", -NANOSECONDS, 1 + place) for place in range(30))
    write = slot_write(Process(held(*dead)).plan(taking(limit)))
    assert len(write.dead) == 25
    assert min(count_of(entry) for _, entry in write.dead) == 6


@pytest.mark.parametrize(("error", "over"), [(0, True), (NANOSECONDS, False)])
def test_an_evictor_allows_for_its_own_error(error: int, over: bool) -> None:
    """Who may be wrong by a second waits a second longer before it takes another's slots."""
    process = Process(held((OTHERS[0], -NANOSECONDS // 2, 20)), error=error)
    (outcome,) = process.ask(taking(CALLS))
    assert isinstance(outcome, Grant) is over


def test_a_holder_allows_for_its_own_error() -> None:
    """Who may be wrong by a second holds its slots a second longer, by its own clock."""
    process = Process(error=NANOSECONDS)
    process.take(CALLS)
    assert until_of(process.entry) == NOW + TTL + NANOSECONDS


def test_only_a_time_that_an_answer_has_confirmed_evicts() -> None:
    """A clock that has jumped since the bucket was read takes no living holder for a dead one."""
    process = Process(held((OTHERS[0], NANOSECONDS, 20)))
    process.now = NOW + 2 * TTL
    assert 0 in process.plan(taking(CALLS), confirmed=NOW).refused
    assert 0 not in process.plan(taking(CALLS), confirmed=NOW + 2 * TTL).refused


def test_each_time_that_is_written_is_later_than_the_last() -> None:
    """Two writes within a millisecond leave different entries, so that each names the write that left it."""
    process = Process()
    process.take(CALLS)
    first = process.entry
    process.take(CALLS)
    assert until_of(process.entry) == until_of(first) + 10**6


def test_ends_alone_assert_nothing_but_the_own_entry() -> None:
    """Who leaves is not held back when the capacity was lowered."""
    process = Process()
    process.take(CALLS, units=3)
    process.end(2)
    write = slot_write(process.plan(Request(KEY, slots=True)))
    assert (write.most, write.change, count_of(write.entry or 0), write.numbers) == (None, -2, 1, 0)


def test_the_last_end_removes_the_entry() -> None:
    """A process that holds nothing has no entry."""
    process = Process()
    process.take(CALLS, units=3)
    process.end(3)
    process.ask(Request(KEY, slots=True))
    assert process.entry == NONE
    assert process.state.slots.held == {"calls": 0}


def test_a_renewal_rides_on_a_write_for_a_rate_once_it_is_due() -> None:
    """Up to a sixth of the time to live a rate's write says nothing of slots; then it renews them."""
    rate, process = Limit.per_minute("requests", 100), Process()
    process.take(CALLS)
    process.mono = process.now = TTL // 6 - 1
    process.now += NOW
    plan = process.plan(Request(KEY, (Charge(rate, 1),), deadline=process.now))
    assert plan.update is not None
    assert not plan.update.slots
    process.mono += 1
    write = slot_write(process.plan(Request(KEY, (Charge(rate, 1),), deadline=process.now)))
    assert (write.change, write.most, count_of(write.entry or 0)) == (0, None, 1)


def test_nothing_else_is_written_of_slots_that_are_held() -> None:
    """A bucket without slots pays nothing for them, and neither does one whose slots need nothing."""
    process = Process()
    process.take(CALLS)
    assert process.plan().update is None


def test_the_item_outlives_its_entries() -> None:
    """The item's time to live is set beyond the latest time until which a slot is held."""
    process = Process(error=NANOSECONDS)
    process.take(CALLS)
    assert process.state.ttl * NANOSECONDS >= until_of(process.entry)
    assert not is_forgettable(process.state, NOW + TTL)
    assert is_forgettable(process.state, (process.state.ttl + 1) * NANOSECONDS)


def test_an_entry_that_has_gone_ends_every_lease() -> None:
    """Who was taken out holds nothing, and what its leases give back counts for nothing, also when more was taken since."""
    process = Process()
    process.take(CALLS, units=3)
    process.state = EMPTY
    process.ledger.learn(EMPTY.slots, process.mono)
    assert process.ledger.is_lost("calls", 1, NOW, 0)
    (receipt,) = process.take(CALLS).receipts
    process.end(3, generation=1)
    assert not process.ledger.is_lost("calls", receipt.since, NOW, 0)
    assert process.plan(Request(KEY, slots=True)).update is None
    assert count_of(process.entry) == 1


@pytest.mark.parametrize(
    ("held", "most", "least", "holds"),
    [(2, 2, 2, True), (3, 2, 0, False), (1, None, 2, False), (None, 0, 0, True), (None, None, 1, False), (0, None, 0, True)],
)
def test_a_write_asserts_how_many_slots_are_held(held: int | None, most: int | None, least: int, holds: bool) -> None:
    """The number has to be from `least` to `most`; where none was ever held there is no number, and nothing to free."""
    write = SlotWrite(Concurrency("calls", 5), "me", NONE, 7, most=most, least=least, dead=(("other", 9),))
    entries = {"calls": {"other": 9}}
    slots = Slots({} if held is None else {"calls": held}, entries)
    assert agree([write], slots) is holds
    assert not agree([write, write._replace(seen=1)], slots)
    assert not agree([write], slots._replace(entries={"calls": {"other": 8}}))
    assert not agree([write], slots._replace(entries={"calls": {"other": 9, "me": 7}}))
    assert agree([write._replace(entry=None)], slots._replace(entries={"calls": {"other": 9, "me": 7}})) is holds


def test_the_average_time_of_a_lease_counts_every_slot() -> None:
    """Two slots of 20 ns and 40 ns make 30 ns; a clock that steps back adds nothing, and older leases count half."""
    time = HoldTime()
    assert time.mean is None
    time.count(0, 2, 10)
    time.count(2, -1, 30)
    time.count(1, -1, 50)
    assert (time.mean, time.area, time.ended) == (30, 60, 2)
    time.count(0, 5, 40)
    time.count(5, -(REMEMBERED - 2), 40)
    assert (time.area, time.ended) == (60, REMEMBERED)
    time.count(5, -1, 44)
    assert (time.area, time.ended) == (40, (REMEMBERED + 1) // 2)


def test_a_turn_begins_again_when_a_slot_was_free() -> None:
    """One slot is left to others once all have been taken for a whole turn, and then the next turn begins."""
    turns = Turns()
    for held, mono, left in ((5, 0, 0), (4, TURNS - 1, 0), (5, TURNS, 0), (5, 2 * TURNS - 1, 0), (5, 2 * TURNS, 1)):
        turns.take(held, 5, mono)
        assert turns.left == left
    assert (turns.rest, turns.full) == (2 * TURNS + REST, None)


def test_numbers_start_from_the_clock() -> None:
    """The fence goes on growing when the item was deleted in between."""
    process = Process()
    (first,) = process.take(CALLS).receipts
    process.state, process.now = EMPTY, NOW + 3_600 * NANOSECONDS
    process.ledger.learn(EMPTY.slots, process.mono)
    (second,) = process.take(CALLS).receipts
    assert second.earlier > first.earlier > NOW


def test_a_batch_numbers_its_grants() -> None:
    """Each grant of a write has a number of its own, and those that are handed on later have others."""
    process = Process()
    grants = process.ask(taking(CALLS), taking(CALLS, units=2))
    numbers = [receipt.earlier for grant in grants for receipt in grant.receipts]  # type: ignore[union-attr] # granted
    process.end(1)
    handed = process.ledger.hand_over((Charge(CALLS, 1),), process.state, NOW, 0)
    assert handed is not None
    numbers.append(handed[0].earlier)
    assert numbers == sorted(set(numbers))


def test_numbers_that_are_left_end_with_a_write_that_draws_later_ones() -> None:
    """After a write behind which others have written, nothing is handed on: a number of before would be below its own."""
    process = Process()
    process.take(CALLS)
    plan = process.plan(taking(CALLS))
    assert plan.update is not None
    assert process.ledger.start(plan.update, process.mono)
    process.state = plan.update.apply(process.state)
    receipts = [receipt for grant in plan.grants(process.state).values() for receipt in grant.receipts]
    process.ledger.learn(process.state.slots, process.mono, receipts)
    process.end(1)
    assert process.ledger.hand_over((Charge(CALLS, 1),), process.state, NOW, 0) is None


def test_a_lowered_capacity_ends_handing_on() -> None:
    """While more are held than there are, a freed slot goes back to the bucket."""
    process = Process()
    process.take(CALLS, units=20)
    process.end(1)
    lowered = Concurrency("calls", 10)
    assert process.ledger.hand_over((Charge(lowered, 1),), process.state, NOW, 0) is None
    assert process.ledger.hand_over((Charge(CALLS, 1),), process.state, NOW, 0) is not None


def test_nothing_is_handed_on_after_a_lost_answer() -> None:
    """A release without an answer may still take the slot away, so the next in line waits for a write that succeeds."""
    process = Process()
    process.take(CALLS, units=2)
    process.end(1)
    update = process.plan(Request(KEY, slots=True)).update
    assert update is not None
    assert process.ledger.start(update, 0)
    process.ledger.doubt(update)
    process.ledger.learn(process.state.slots, process.mono)
    assert process.ledger.hand_over((Charge(CALLS, 1),), process.state, NOW, 0) is None
    assert process.ledger.verdict(update, process.state.slots, NOW, process.mono) is False
    assert process.ledger.verdict(update, update.apply(process.state).slots, NOW, process.mono) is True
    assert process.ledger.verdict(update, EMPTY.slots, NOW, process.mono) is None


def test_nothing_is_handed_on_while_the_bucket_is_paused() -> None:
    """A pause holds for slots that are freed within the process too."""
    process = Process()
    process.take(CALLS)
    process.end(1)
    paused = replace(process.state, paused=NOW + 1)
    assert process.ledger.hand_over((Charge(CALLS, 1),), paused, NOW, 0) is None


def test_after_a_second_of_turns_one_slot_is_left_to_others() -> None:
    """While all slots are taken, a process that hands them on for a second gives up one of them."""
    process = Process()
    process.take(CALLS, units=20)
    for mono in (0, NANOSECONDS - 1):
        process.end(1)
        assert process.ledger.hand_over((Charge(CALLS, 1),), process.state, NOW, mono) is not None
    process.end(1)
    assert process.ledger.hand_over((Charge(CALLS, 1),), process.state, NOW, NANOSECONDS) is None
    process.end(1)
    assert not process.ledger.may_look(NANOSECONDS)
    assert process.ledger.may_look(2 * NANOSECONDS)
    assert process.ledger.hand_over((Charge(CALLS, 1),), process.state, NOW, NANOSECONDS) is not None


def test_a_slot_is_held_while_its_caller_waits_for_a_rate() -> None:
    """Where a slot is free the rate beside it is booked; where none is, nothing is booked."""
    rate, process = Limit.per_second("requests", 1, burst=1), Process()
    process.take(rate, CALLS)
    (grant,) = process.ask(taking(rate, CALLS, wait=5 * NANOSECONDS))
    assert isinstance(grant, Grant)
    assert grant.start > NOW
    full = Concurrency("calls", 2)
    (refusal,) = process.ask(taking(rate, full, wait=5 * NANOSECONDS))
    assert isinstance(refusal, Refusal)


def test_a_shadow_that_does_not_fit_is_not_held() -> None:
    """A shadow refuses no request, tells that it would have, and asserts so."""
    shadow = Concurrency("calls", 20, enforce=False)
    rate, process = Limit.per_minute("requests", 10), Process(held((OTHERS[0], TTL, 20)))
    plan = process.plan(taking(rate, shadow))
    assert slot_write(plan).least == 20
    assert plan.update is not None
    receipts = plan.grants(plan.update.apply(process.state))[0].receipts
    assert receipts[1].left_out is not None
    assert plan.update.apply(process.state).slots == process.state.slots


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (Limit.per_day("seen", 5), Limit.per_day("seen", 10, enforce=False)),
        (Quota.per_day("seen", 5), Quota.per_hour("seen", 3, enforce=False)),
    ],
    ids=["rate", "quota"],
)
def test_a_shadow_is_born_with_a_write_of_slots(old: BaseLimit, new: BaseLimit) -> None:
    """A shadow of another number is stored with the first write, even if it does not fit and all else is slots."""
    process = Process()
    process.take(old, units=5)
    plan = process.plan(taking(CALLS, new, units=10))
    assert plan.left_out
    assert plan.update is not None
    assert process.state.level(new.identity).tat < 0
    assert plan.update.apply(process.state).level(new.identity).tat >= 0


def test_the_slots_that_are_due_first_are_renewed_first() -> None:
    """Of several limits the shortest time to live counts, as the last acquire names it."""
    process = Process()
    process.take(CALLS)
    whole = process.ledger.next_renewal(0)
    process.take(Concurrency("others", 20, ttl=CALLS.ttl / 2))
    assert whole == 2 * (process.ledger.next_renewal(0) or 0)
    process.take(Concurrency("calls", 20, ttl=CALLS.ttl / 4))
    assert whole == 4 * (process.ledger.next_renewal(0) or 0)


def test_a_slot_that_a_failed_write_would_have_freed_is_handed_on() -> None:
    """While the write is under way it is kept from other callers, and after its certain failure it is spare again."""
    process = Process()
    process.take(CALLS, units=2)
    process.end(1)
    plan = process.plan(Request(KEY, slots=True))
    assert plan.update is not None
    assert process.ledger.start(plan.update, 0)
    assert process.ledger.hand_over((Charge(CALLS, 1),), process.state, NOW, 0) is None
    process.ledger.fail(plan.update)
    assert process.ledger.hand_over((Charge(CALLS, 1),), process.state, NOW, 0) is not None


@pytest.mark.parametrize(("others", "waiting", "refused"), [(18, 1, False), (18, 2, True), (20, 0, True), (25, 0, True)])
def test_a_look_counts_the_slots_of_those_ahead(others: int, waiting: int, refused: bool) -> None:
    """Of 20 slots, what others hold and what equal requests ahead will take is not free."""
    process, state = Process(), held((OTHERS[0], TTL, others))
    found = look(state, taking(CALLS), NOW, Ahead(waiting), slots=process.ledger.side(NOW, 0))
    assert isinstance(found, Refusal) is refused


def test_what_is_free_is_shown() -> None:
    """A look counts slots of holders that have expired as free, and expects a slot by the first end."""
    found = look(held((OTHERS[0], -NANOSECONDS, 5), (OTHERS[1], NANOSECONDS // 2, 15)), taking(CALLS, units=6), NOW)
    assert isinstance(found, Refusal)
    assert found.levels[0].tat == 15
    assert found.start == NOW + NANOSECONDS // 2


def test_a_slot_is_expected_by_how_long_one_is_held() -> None:
    """Of 20 slots that are held for 10 s each, one is freed every half a second."""
    process = Process()
    process.take(CALLS, units=20)
    process.mono = 10 * NANOSECONDS
    process.end(20)
    process.state = held((OTHERS[0], TTL, 20))
    assert process.ledger.side(NOW, 0).own["calls"].wait == 10 * NANOSECONDS
    assert process.ledger.turn(process.state.slots) == NANOSECONDS // 2


def test_renewals_come_every_third_of_the_time_to_live() -> None:
    """A renewal of its own is due after a third, and again after a twelfth where it fails, until no lease is left either."""
    process = Process()
    assert process.ledger.next_renewal(0) is None
    process.take(CALLS)
    assert process.ledger.next_renewal(0) == TTL // 3
    process.mono = TTL // 3
    assert process.ledger.next_renewal(process.mono) == 0
    process.ledger.note_attempt(process.mono)
    assert process.ledger.next_renewal(process.mono) == TTL // 12
    process.end(1)
    assert process.ledger.next_renewal(process.mono) == TTL // 12


def lost(process: Process, *requests: Request) -> Update:
    """Send a write that gets no answer."""
    update = process.plan(*requests).update
    assert update is not None
    assert process.ledger.start(update, process.mono)
    process.ledger.doubt(update)
    return update


def test_a_first_write_without_an_answer_is_looked_for_now_and_then() -> None:
    """The heartbeat reads every twelfth of the time to live, and forgets the write when it can hold nothing any more."""
    process = Process()
    process.mono = TTL
    lost(process, taking(CALLS))
    for mono in range(TTL, 2 * TTL, TTL // 12):
        process.mono = mono
        assert process.ledger.next_renewal(process.mono) == 0
        process.ledger.note_attempt(process.mono)
        assert process.ledger.next_renewal(process.mono) == TTL // 12
        process.ledger.learn(process.state.slots, process.mono)
    process.mono = 2 * TTL
    process.ledger.learn(process.state.slots, process.mono)
    assert process.ledger.next_renewal(process.mono) is None


def test_a_release_without_an_answer_is_in_doubt_as_long_as_its_entry_lives() -> None:
    """A shorter time to live that a limit has now says nothing of the entry that the late release can still replace."""
    process = Process()
    process.take(CALLS, units=2)
    process.end(1)
    shorter = Concurrency("calls", 20, ttl=1.0)
    lost(process, taking(shorter))
    process.mono = 2 * NANOSECONDS
    process.ledger.learn(process.state.slots, process.mono)
    assert process.ledger.hand_over((Charge(shorter, 1),), process.state, NOW, process.mono) is None


def test_an_earlier_write_that_arrives_late_is_not_taken_for_the_last_one() -> None:
    """The entry tells which of several writes without an answer was applied, and that the last one can no longer be."""
    process = Process()
    first = lost(process, taking(CALLS))
    second = lost(process, taking(CALLS, units=2))
    late = first.apply(process.state).slots
    assert process.ledger.verdict(second, late, NOW, process.mono) is False
    assert process.ledger.verdict(first, late, NOW, process.mono) is True
    assert process.ledger.verdict(second, second.apply(process.state).slots, NOW, process.mono) is True


def test_a_missing_entry_tells_nothing_once_its_time_is_over() -> None:
    """A first write may have been applied, and its entry removed since, although there was none before and there is none now."""
    process = Process()
    first = lost(process, taking(CALLS))
    last = TTL - TTL // 1_000
    assert process.ledger.verdict(first, EMPTY.slots, NOW, last - 1) is False
    assert process.ledger.verdict(first, EMPTY.slots, NOW, last) is None
    assert process.ledger.verdict(first, EMPTY.slots, NOW + TTL + 1, 0) is None


@pytest.mark.parametrize("before", [0, 1])
def test_a_grant_whose_entry_was_taken_out_is_lost(before: int) -> None:
    """A write that is found by its stamp may have lost its entry since: its lease frees nothing, and counts for nothing."""
    process = Process()
    for _ in range(before):
        process.take(CALLS)
    plan = process.plan(taking(CALLS, units=2))
    assert plan.update is not None
    assert process.ledger.start(plan.update, process.mono)
    process.state = replace(plan.update.apply(process.state), slots=Slots({"calls": 0}))
    (receipt,) = plan.grants(process.state)[0].receipts
    process.ledger.learn(process.state.slots, process.mono, (receipt,))
    assert process.ledger.is_lost("calls", receipt.since, NOW, process.mono)
    assert process.plan(Request(KEY, slots=True)).update is None
    (later,) = process.take(CALLS).receipts
    process.ledger.release((receipt.refund(),), process.mono)
    assert process.plan(Request(KEY, slots=True)).update is None
    assert not process.ledger.is_lost("calls", later.since, NOW, process.mono)
    assert process.state.slots.held == {"calls": count_of(process.entry)} == {"calls": 1}


def test_a_lease_ends_by_the_process_own_clock() -> None:
    """A process that was not able to renew finds its leases lost a little before others can take them."""
    process = Process()
    (receipt,) = process.take(CALLS).receipts
    last = TTL - TTL // 1_000
    assert not process.ledger.is_lost("calls", receipt.since, NOW, last - 1)
    assert process.ledger.is_lost("calls", receipt.since, NOW, last)
    assert process.ledger.is_lost("calls", receipt.since, NOW + TTL + 1, 0)


def test_a_slot_that_changes_hands_is_not_given_up_as_well() -> None:
    """A write that was planned before a slot was handed on has to be planned again."""
    process = Process()
    process.take(CALLS, units=2)
    process.end(1)
    update = process.plan(Request(KEY, slots=True)).update
    assert update is not None
    assert process.ledger.hand_over((Charge(CALLS, 1),), process.state, NOW, 0)
    assert not process.ledger.start(update, 0)
