"""Faults to plant one at a time in what kinds of limits, changes of limits and slots need where clients act at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from support import planted_faults as faults
from support import planted_kinds as kinds
from support.limiter_tasks import Script

from limiter.core import plan as planning
from limiter.core import slots as values
from limiter.core.limits import births
from limiter.core.limits.account import RateAccount
from limiter.core.limits.count import CountAccount
from limiter.core.records import Present, ScheduledLimits
from limiter.core.state import Condition, Update

if TYPE_CHECKING:
    import pytest
    from support.planted_faults import Fault

    from limiter.core.state import BucketState


def born_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: another rate or period of a name begins with nothing used."""
    for kind in (RateAccount, CountAccount):
        sound: Any = kind._bear

        def bear(self: Any, *others: Any, sound: Any = sound) -> None:
            sound(self, *others)
            if isinstance(self, RateAccount):
                self.tat = self.now
            else:
                self.used, self.inherits = 0, False

        monkeypatch.setattr(kind, "_bear", bear)


def rivals_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: an account leaves the item as soon as another one of its name is used."""
    monkeypatch.setattr(births, "_rested", lambda identity, level, now: Condition(identity, "tat", level.tat, level.tat))


def conditions_of_counts_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a count does not assert what it has seen."""
    monkeypatch.setattr(CountAccount, "_as_seen", lambda self: [Condition(self.identity, "since", 0, None)])


def openings_unasserted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a count is opened although another client has opened it since."""
    sound = Update.holds

    def holds(self: Update, state: BucketState) -> bool:
        opened = {change.limit for change in self.changes if change.field == "since" and "/" not in change.limit}
        return sound(replace(self, conditions=tuple(each for each in self.conditions if each.limit not in opened)), state)

    monkeypatch.setattr(Update, "holds", holds)


def full_slots_unasserted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a write takes slots by a stale number of those that are held."""
    sound = values._agrees
    monkeypatch.setattr(values, "_agrees", lambda write, slots: sound(write._replace(most=None), slots))


def refunds_of_any_opening_unasserted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: what is given back does not assert the opening that it was taken in."""
    kinds.refunds_of_any_opening(monkeypatch)
    faults.relax(faults.without_since)(monkeypatch)


def schedules_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: the limits outside the windows of a schedule apply all the time."""
    monkeypatch.setattr(ScheduledLimits, "at", lambda self, now: Present(self.plain, now, now + 1))


def pauses_unasserted_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a write that takes nothing carries a call into a paused bucket."""
    sound = planning.Plan._write

    def write(self: planning.Plan, *others: Any) -> Update | None:
        made = sound(self, *others)
        if made is None or any(self.totals):
            return made
        return replace(made, conditions=tuple(each for each in made.conditions if each.field != "paused"))

    monkeypatch.setattr(planning.Plan, "_write", write)


PLAIN = Script(cancels=False)
FAULTS: dict[str, tuple[Fault, Script]] = {
    "changes: born with nothing": (born_with_nothing, replace(PLAIN, fleets=True)),
    "changes: rivals forgotten": (rivals_forgotten, replace(PLAIN, fleets=True)),
    "counts: conditions dropped": (conditions_of_counts_dropped, PLAIN),
    "counts: openings not asserted": (openings_unasserted, PLAIN),
    "counts: written again when an answer is lost": (faults.stamps_ignored, replace(PLAIN, losses=0.2)),
    "refunds: of any opening": (refunds_of_any_opening_unasserted, replace(PLAIN, orders=True)),
    "slots: more than there are": (full_slots_unasserted, PLAIN),
    "pause: not asserted": (faults.relax(kinds.pauses_unasserted), replace(PLAIN, orders=True)),
    "headroom: not left": (kinds.headroom_taken, PLAIN),
    "clocks: the future overwritten": (faults.the_future_overwritten, replace(PLAIN, skew=300_000_000)),
    "changes: limits read once": (faults.limits_read_once, replace(PLAIN, changes=True)),
    "changes: a schedule is not followed": (schedules_ignored, replace(PLAIN, changes=True)),
    "pause: not asserted by calls that take nothing": (pauses_unasserted_for_nothing, replace(PLAIN, orders=True)),
    "reset: old refunds count": (kinds.reset_without_since, replace(PLAIN, orders=True)),
}
