"""Slots in random histories: requests late, lost and repeated, answers lost, processes killed and stopped, clocks off."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from support import slot_world as world
from support.bucket_world import PromiseBroken
from support.slot_world import Script, play

from limiter.core import slots as values
from limiter.core.limits.slots import SlotAccount
from limiter.core.slot_ledger import SlotLedger
from limiter.core.tenure import Tenure

if TYPE_CHECKING:
    from collections.abc import Callable

    from limiter.core.slots import Own, Side, Slots, SlotWrite

    Fault = Callable[[pytest.MonkeyPatch], None]

SCRIPTS = (Script(1), Script(2, processes=3), Script(4), Script(4, ttl=1.0, error=10**9), Script(6, processes=6))
HISTORIES = 60
"""Of each script; more by hand: `play(Random(seed), script)` for any seed."""
TRIED = 600
"""Histories in which a planted fault has to be found."""


@pytest.mark.parametrize("place", range(len(SCRIPTS)))
def test_never_more_slots_are_held_than_there_are(place: int) -> None:
    """In every history the holders are at most the capacity, and the number held in all is the sum of the entries."""
    counts: dict[str, int] = {}
    for seed in range(HISTORIES):
        for name, count in play(Random(seed), SCRIPTS[place]).counts.items():  # noqa: S311 - no secret
            counts[name] = counts.get(name, 0) + count
    assert all(counts.values()), counts


def twice_the_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault D.1: the evictor allows for twice its own error, the holder for none."""
    sound = SlotAccount._until
    over = SlotAccount._is_over

    def until(self: SlotAccount) -> int:
        self.error, error = 0, self.error
        found = sound(self)
        self.error = error
        return found

    def is_over(self: SlotAccount, entry: int) -> bool:
        return over(self, entry + self.error // values.MILLISECOND * values.COUNTED)

    monkeypatch.setattr(SlotAccount, "_until", until)
    monkeypatch.setattr(SlotAccount, "_is_over", is_over)


def deadline_from_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault D.2: a lease lasts from the answer to its write."""
    sound = world.Process.learn

    def learn(self: world.Process, state: Any, applied: Any = None) -> None:
        before = {name: each.entry for name, each in self.ledger._tenures.items()}
        sound(self, state, applied)
        for name, each in self.ledger._tenures.items():
            if each.deadline and each.entry != before[name]:
                each.deadline = self.mono + each.limit.ttl_ns

    monkeypatch.setattr(world.Process, "learn", learn)
    monkeypatch.setattr("limiter.core.tenure.until_of", lambda _: 10**30)


def hand_over_what_a_release_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault D.3: a slot that a write gives up is handed on."""
    spare = property(lambda self: max(0, values.count_of(self.entry) - self.leases))
    monkeypatch.setattr(Tenure, "spare", spare)
    monkeypatch.setattr(SlotLedger, "start", _start_anyway)


def _start_anyway(self: SlotLedger, update: Any, mono: int) -> bool:
    for write in update.slots:
        if write.entry is not None:
            self._tenure(write.limit).send(write, write.entry, update.stamp, mono)
    return True


def hand_over_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault D.4: slots are handed on after the time of the lease."""
    sound = Tenure.may_hand_over

    def may(self: Tenure, units: int, held: int, capacity: int, now: int, mono: int) -> bool:
        deadline, self.deadline = self.deadline, mono + 1
        found = sound(self, units, held, capacity, 0, mono)
        self.deadline = deadline
        return found

    monkeypatch.setattr(Tenure, "may_hand_over", may)


def shared_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault D.4: two processes share a holder's id."""
    sound = SlotLedger.__init__
    monkeypatch.setattr(SlotLedger, "__init__", lambda self, holder: sound(self, f"p{int(holder[1:]) % 2:07}"))


def without_own_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault D.4: the own entry is not asserted."""
    sound = values._agrees

    def agrees(write: SlotWrite, slots: Slots) -> bool:
        return sound(write._replace(entry=None), slots)

    monkeypatch.setattr(values, "_agrees", agrees)


def times_that_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault D.5: a time may be written twice, and the dead are told by their time alone."""

    def until(self: SlotAccount) -> int:
        return (self.now + self.limit.ttl_ns + self.error) // 10**10 * 10_000

    def agrees(write: SlotWrite, slots: Slots) -> bool:
        dead = tuple(
            (holder, found if values.until_of(found) == values.until_of(entry) else entry)
            for holder, entry in write.dead
            if (found := slots.entry(write.name, holder)) is not None
        )
        return sound(write._replace(dead=dead), slots)

    sound = values._agrees
    monkeypatch.setattr(SlotAccount, "_until", until)
    monkeypatch.setattr(values, "_agrees", agrees)


def fence_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault D.6: the fence starts anew when the item is deleted."""
    sound = values.after
    monkeypatch.setattr("limiter.core.state.after", lambda writes, slots: sound([w._replace(first=0) for w in writes], slots))


def no_reserved_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault D.6: slots that are handed on keep their number."""
    sound = SlotLedger.hand_over

    def hand_over(self: SlotLedger, *arguments: Any) -> Any:
        receipts = sound(self, *arguments)
        for receipt in receipts or ():
            self._tenures[receipt.limit.name].number -= 1
        return receipts

    monkeypatch.setattr(SlotLedger, "hand_over", hand_over)


def evict_by_any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault D.8: the dead are told by a time that no answer has confirmed."""
    monkeypatch.setattr(SlotAccount, "_is_over", lambda self, entry: values.until_of(entry) < self.now - self.error)


def renew_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault D.9: a renewal renews all that the entry counts."""
    sound = SlotLedger.side

    def side(self: SlotLedger, confirmed: int, mono: int, *, draws: bool) -> Side:
        found = sound(self, confirmed, mono, draws=draws)
        own: dict[str, Own] = {
            name: each._replace(leases=max(each.leases, values.count_of(self._tenures[name].entry)))
            for name, each in found.own.items()
        }
        return found._replace(own=own)

    monkeypatch.setattr(SlotLedger, "side", side)


def grant_what_was_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grant counts although the entry that held its slots was taken out before it was told."""
    monkeypatch.setattr(Tenure, "grant", lambda self, receipt, mono: self.count(receipt.cost, mono))


def any_entry_that_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last write counts as applied when the entry is of an earlier one that was late."""

    def verdict(self: Tenure, stamp: str, seen: int, own: int, now: int, mono: int) -> bool | None:
        return own in [each.entry for each in self.sent] or sound(self, stamp, seen, own, now, mono)

    sound = Tenure.verdict
    monkeypatch.setattr(Tenure, "verdict", verdict)


def no_entry_then_and_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first write counts as not applied where there is no entry, although another process may have removed it."""

    def verdict(self: Tenure, stamp: str, seen: int, own: int, now: int, mono: int) -> bool | None:
        return False if own == seen else sound(self, stamp, seen, own, now, mono)

    sound = Tenure.verdict
    monkeypatch.setattr(Tenure, "verdict", verdict)


FAULTS: list[Fault] = [
    twice_the_own_error,
    deadline_from_the_answer,
    hand_over_what_a_release_carries,
    hand_over_after_the_deadline,
    shared_id,
    without_own_entry,
    times_that_repeat,
    fence_from_nothing,
    no_reserved_numbers,
    evict_by_any_time,
    renew_a_leak,
    grant_what_was_taken_out,
    any_entry_that_was_sent,
    no_entry_then_and_now,
]


@pytest.mark.parametrize("plant", FAULTS)
def test_planted_faults_are_found(plant: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rule of the slots is needed: with it left out some history breaks a promise."""
    plant(monkeypatch)
    with pytest.raises(PromiseBroken):
        for seed in range(TRIED):
            for script in (replace(SCRIPTS[0], steps=600), Script(4, ttl=20.0, steps=600)):
                play(Random(seed), script)  # noqa: S311 - no secret
