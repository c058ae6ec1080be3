"""Faults to plant one at a time in what concerns kinds, headroom, oversize, pauses, shadows and several targets."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from support.kinds_model import SECOND
from support.planted_faults import relax

from limiter import SyncLease
from limiter.commit import sync_charge
from limiter.core import plan as planning
from limiter.core import preview, resetting, resolution
from limiter.core.limits import accounts, total
from limiter.core.limits.account import RateAccount
from limiter.core.limits.count import CountAccount
from limiter.core.limits.quota import CalendarQuota
from limiter.core.limits.session import SessionQuota
from limiter.core.request import Grant
from limiter.core.state import UNBOUNDED, Change, Condition, Level

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest
    from support.planted_faults import Fault

    from limiter.core.request import Request

ACCOUNTS = (RateAccount, CountAccount)


def bounds(change: Callable[[int, Any, int, int, bool], int]) -> Fault:
    """A fault in how far a request may use a limit."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        for kind in ACCOUNTS:
            sound: Any = kind.price

            def price(limit: Any, units: int, reserve: int, oversize: bool, sound: Any = sound) -> tuple[int, int]:
                bound, cost = sound(limit, units, reserve, oversize)
                return change(bound, limit, cost, reserve, oversize), cost

            monkeypatch.setattr(kind, "price", staticmethod(price))

    return plant


def window(limit: Any) -> int:
    """All that a limit has, in the measure of its account."""
    return int(accounts.price(limit, 0)[0])


headroom_taken = bounds(lambda bound, limit, cost, reserve, oversize: bound + reserve if cost else bound)
headroom_of_debt = bounds(lambda bound, limit, cost, reserve, oversize: bound - reserve if not cost else bound)
oversize_beside_use = bounds(lambda bound, limit, cost, reserve, oversize: bound + window(limit) if oversize and cost else bound)
oversize_of_any_cost = bounds(lambda bound, limit, cost, reserve, oversize: window(limit) if oversize else bound)


def oversize_of_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a total goes into debt as other counts do."""
    sound = CountAccount.price

    def price(limit: Any, units: int, reserve: int, oversize: bool) -> tuple[int, int]:
        return (max(limit.capacity, units), units) if oversize else sound(limit, units, reserve, oversize)

    monkeypatch.setattr(CountAccount, "price", staticmethod(price))


def oversize_without_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: who books more than a capacity goes at once."""
    sound = planning.Plan._grant

    def grant(self: Any, request: Request, *others: Any) -> Grant:
        made = sound(self, request, *others)
        return Grant([each._replace(start=self.now) for each in made.receipts], made.now) if request.oversize else made

    monkeypatch.setattr(planning.Plan, "_grant", grant)


def headroom_rounded_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a share of a unit is not left to others."""
    monkeypatch.setattr(CountAccount, "reserve", staticmethod(lambda limit, part, whole: limit.capacity * part // whole))


def headroom_that_books(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a caller with headroom is promised a start ahead."""
    start, carry = planning.Plan._earliest_start, planning.Plan._carry

    def earliest_start(self: Any, request: Request) -> tuple[int, int]:
        earliest, last = start(self, request)
        return earliest, UNBOUNDED if request.headroom and last == self.view.now else last

    def with_patience(self: Any, index: int, request: Request, returning: set[str], last: int) -> None:
        entries = self._entries_of(request)
        if not request.headroom:
            carry(self, index, request, returning, last)
            return
        self.shares[index] = len(self.totals)
        for account, _, bound, cost in entries:
            self.totals.append(account.take(bound, cost, max(0, request.deadline - self.view.now)))

    monkeypatch.setattr(planning.Plan, "_earliest_start", earliest_start)
    monkeypatch.setattr(planning.Plan, "_carry", with_patience)


def never_that_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: what is above a bound has a time all the same."""
    monkeypatch.setattr(RateAccount, "earliest", lambda self, bound, cost: self.tat + self.total + cost - bound)
    monkeypatch.setattr("limiter.core.status.never_satisfiable", lambda _: ())


def pauses_unasserted(condition: Condition) -> Condition | None:
    """A fault: a write does not ask whether its bucket is paused."""
    return None if condition.field == "paused" else condition


def pause_that_shortens(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: the last pause counts, however short."""

    def pause(draft: Any, view: Any, until: int) -> int:
        draft.changes.append(Change("", "paused", None, max(0, until)))
        return until

    monkeypatch.setattr(planning, "pause", pause)


def pause_that_books(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a start behind a pause is promised, and asked for no more."""
    sound = planning.Plan._earliest_start

    def earliest_start(self: Any, request: Request) -> tuple[int, int]:
        earliest, last = sound(self, request)
        if self.view.state.paused <= self.view.now or request.headroom or not request.charges:
            return earliest, last
        return earliest, min([UNBOUNDED, *(account.last for account, *_ in self._entries_of(request))])

    monkeypatch.setattr(planning.Plan, "_earliest_start", earliest_start)


def pause_of_corrections(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a paused bucket is not corrected either."""
    sound = planning.plan

    def plan(state: Any, requests: Any, now: int, stamp: str, **view: Any) -> Any:
        paused = state.paused > now
        kept = [each._replace(charges=(), refunds=()) if paused and each.forced else each for each in requests]
        return sound(state, kept, now, stamp, **view)

    monkeypatch.setattr(planning, "plan", plan)


def pause_by_tat(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a pause moves `tat` up by a window, so a slow limit comes back unit by unit."""

    def pause(draft: Any, view: Any, until: int) -> int:
        for identity, level in view.state.levels.items():
            if "/" in identity and " " not in identity and until > view.now:
                draft.changes.append(Change(identity, "tat", None, max(level.tat, until + 86_400 * SECOND)))
        return resetting.pause(draft, view, until)

    monkeypatch.setattr(planning, "pause", pause)


def refused_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: what the other buckets took for a refused call stays taken."""
    monkeypatch.setattr(sync_charge.SyncAdmission, "refund", lambda _: None)


def parents_charged_by_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: where two targets meet in a parent, it is charged what the later one asks."""
    sound = resolution._climb
    monkeypatch.setattr(resolution, "_climb", lambda key, _, lookup: sound(key, {}, lookup))


def corrections_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a correction reaches the first bucket alone."""
    sound = SyncLease._requests

    def requests(self: Any, changes: Any) -> Any:
        asked, made = sound(self, changes)
        return asked[:1], made

    monkeypatch.setattr(SyncLease, "_requests", requests)


def shadows_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a shadow charges what does not fit as well."""
    sound = planning.Plan._carry

    def carry(self: Any, index: int, request: Request, returning: set[str], last: int) -> None:
        first = len(self.totals)
        sound(self, index, request, returning, last)
        for place, (account, _, bound, cost) in enumerate(self._entries_of(request), first):
            if place in self.left_out:
                self.totals[place] = account.take(bound, cost, None)

    monkeypatch.setattr(planning.Plan, "_carry", carry)


def shadows_left_out_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: that a shadow would refuse is not asserted, so a stale view leaves it out."""
    for kind in ACCOUNTS:
        monkeypatch.setattr(kind, "leave_out", lambda *_: None)


def shadows_that_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a shadow is enforced."""
    sound = planning.Plan._entries_of
    monkeypatch.setattr(
        planning.Plan, "_entries_of", lambda self, request: [(a, True, b, c) for a, _, b, c in sound(self, request)]
    )


def session_opened_by_what_was_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a session of which all was given back goes on."""
    monkeypatch.setattr(SessionQuota, "is_over", lambda self, since, used, now: since < 0 or since <= now - self.length_ns)


def sessions_that_end_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a session lasts a second more than its length."""
    monkeypatch.setattr(
        SessionQuota, "is_over", lambda self, since, used, now: since < 0 or used <= 0 or since < now - self.length_ns - SECOND
    )


def quotas_that_never_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a quota is not counted anew in the next period."""
    monkeypatch.setattr(CalendarQuota, "is_over", lambda self, since, used, now: since < 0)


def totals_that_open_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a total of which nothing is used begins again, and voids its refunds."""
    monkeypatch.setattr(total.TotalQuota, "is_over", lambda self, since, used, now: since < 0 or used <= 0)


def refunds_of_any_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: what was taken in an earlier opening is given back to the present one."""
    sound = CountAccount.give
    monkeypatch.setattr(CountAccount, "give", lambda self, refund: sound(self, replace_since(refund, self.level)))


def replace_since(refund: Any, level: Level) -> Any:
    """The refund as if it were of the present opening."""
    return refund._replace(since=level.since)


def reset_without_since(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a reset leaves refunds of what was taken before."""
    sound = planning.clear

    def clear(draft: Any, view: Any, names: Any) -> int:
        reach = sound(draft, view, names)
        draft.changes[:] = [each for each in draft.changes if each.field != "since"]
        return reach

    monkeypatch.setattr(planning, "clear", clear)


def reset_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a reset concerns the first name alone."""
    sound = planning.clear
    monkeypatch.setattr(planning, "clear", lambda draft, view, names: sound(draft, view, tuple(names)[:1]))


def corrections_beyond_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a correction gives back more than is used."""

    def withdraw(self: Any, draft: Any, units: int) -> int:
        if units and not self.over and self.used:
            draft.changes.append(Change(self.identity, "tat", "tat", -units))
            self.total -= units
        return self.total

    monkeypatch.setattr(CountAccount, "withdraw", withdraw)


def looks_without_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a look forgets headroom and oversize."""
    sound = preview.look
    monkeypatch.setattr(
        "limiter.core.status.look",
        lambda state, request, *others, **more: sound(state, request._replace(headroom=(), oversize=False), *others, **more),
    )


FAULTS: dict[str, Fault] = {
    "headroom: not left": headroom_taken,
    "headroom: rounded down": headroom_rounded_down,
    "headroom: books": headroom_that_books,
    "headroom: an amount of 0 leaves it too": headroom_of_debt,
    "headroom: never has a time": never_that_comes,
    "headroom: a look leaves none": looks_without_options,
    "oversize: beside what is used": oversize_beside_use,
    "oversize: never": oversize_of_any_cost,
    "oversize: of a total": oversize_of_totals,
    "pause: not asserted": relax(pauses_unasserted),
    "pause: a shorter one counts": pause_that_shortens,
    "pause: a start behind it is promised": pause_that_books,
    "pause: of corrections": pause_of_corrections,
    "pause: by `tat`": pause_by_tat,
    "also: a refused call keeps the rest": refused_and_kept,
    "also: a parent charged by the last": parents_charged_by_the_last,
    "also: corrections of the first bucket": corrections_of_the_first,
    "shadow: charged what does not fit": shadows_charged,
    "shadow: left out by a stale view": shadows_left_out_unseen,
    "shadow: refuses": shadows_that_refuse,
    "session: goes on when all is given back": session_opened_by_what_was_given_back,
    "session: a second too long": sessions_that_end_late,
    "quota: never ends": quotas_that_never_end,
    "total: opens anew": totals_that_open_anew,
    "refunds: of any opening": refunds_of_any_opening,
    "reset: old refunds count": reset_without_since,
    "reset: of the first name": reset_of_the_first,
    "corrections: beyond full": corrections_beyond_full,
}


def chance(seed: int) -> Random:
    """Chance that is the same for the same seed."""
    return Random(seed)  # noqa: S311 - no secret
