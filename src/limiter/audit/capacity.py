"""Checks that nothing is allowed beyond a limit: rates, quotas of a period, sessions and totals.

All four are intervals with a capacity. Units of a rate refill in the interval; a quota and a session are judged for each period
separately; a total is one period without an end.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from ..core.units import NANOSECONDS
from . import spans
from .periods import Calendar
from .uses import Uses
from .verdict import Finding, Span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .reader import Account, Change, History, Taking
    from .rules import Rule

EVERYTHING = 1 << 200
"""Worth more than any units: what a reset refunds."""
AFTER_THE_END = 2 * NANOSECONDS
"""Nanoseconds by which a process may see the end of a period late, given the stated error of its clock."""

AHEAD = 1_000
"""Nanoseconds by which an opening may lie ahead of its call: each is later than the last one, also under a clock that stands."""


def judge_capacity(history: History, clock_error: int) -> tuple[list[Finding], list[Span]]:
    """Judge every interval of every limit except slots; return the findings, and the worst interval of each limit.

    `clock_error` is the most by which two clocks differ, in nanoseconds.
    """
    judge = _Judge(history, clock_error)
    for group in history.groups("rate", "quota", "session", "total"):
        whole = group[0].joined(group[1:]) if len(group) > 1 else group[0]
        # Callers of a shadow do not wait for the turn that it was booked for.
        group = [each for each in group if each.rule.enforced or not whole.booked]
        for place, account in enumerate(group):
            # A bucket within a lower capacity is within the higher one too.
            takings = [each for lower in group[: place + 1] for each in lower.takings] if place else account.takings
            judge.account(account, takings, whole)
    return judge.findings, judge.worst


class _Part:
    """Charges that count together, of one rate or period, with forced ones and refunds."""

    def __init__(self, takings: list[Taking], whole: Account, name: str = "") -> None:
        self.takings = takings
        # A call that waits for its turn was allowed long before its start, so forced charges in between are unknown.
        self.forced: list[Change] = [] if whole.booked else whole.forced
        self.refunds: list[Change] = whole.refunds
        self.passing: list[Change] = whole.passing
        self.withdrawals: list[Change] = whole.withdrawals
        self.resets: list[Change] = whole.resets
        self.name = name


class _Judge:
    """Judges one limit after another, and collects the findings."""

    def __init__(self, history: History, clock_error: int) -> None:
        self.findings: list[Finding] = []
        self.worst: list[Span] = []
        self._oversized = history.oversized
        self._clock_error = clock_error

    def account(self, account: Account, takings: list[Taking], whole: Account) -> None:
        """Judge one limit; `whole` is everything that counts on the same account of the bucket."""
        kind = account.rule.kind
        if kind in ("rate", "total"):
            self._part(account, _Part(takings, whole))
            return
        periods = (_by_period if kind == "quota" else _by_session)(account.rule, takings)
        for (begin, end), inside in sorted(periods.items()):
            self._strangers(account, begin, end, inside)
            part = _Part(inside, whole, f" of one {_noun(account.rule)}")
            part.refunds, part.forced = _refunds_of(inside, whole.refunds), []
            self._part(account, part)
        if kind == "session":
            self.findings += _early_sessions(account, periods, whole, self._clock_error)

    def _strangers(self, account: Account, begin: int, end: int, takings: Sequence[Taking]) -> None:
        """Find charges that were counted in a period outside of which they were made."""
        latest, earliest = end + max(self._clock_error, AFTER_THE_END), begin - self._clock_error - AHEAD
        for start, _, decided, units, identifier, _ in takings:
            if units and (start >= latest or decided < earliest):
                message = f"{units} units of {identifier} were counted in the wrong {_noun(account.rule)}"
                self.findings.append(_finding(account, message, start, start, identifier))

    def _part(self, account: Account, part: _Part) -> None:
        rule, takings = account.rule, part.takings
        if not takings:
            return
        takings.sort()
        # A limit that does not refill counts in units.
        amount, period = (rule.amount, rule.period) if rule.kind == "rate" else (0, 1)
        if part.refunds or part.forced or part.passing or part.withdrawals or part.resets or self._oversized:
            returned = _returned(rule, part, period, self._clock_error)
            found = spans.Changing(amount, period, rule.capacity, self._oversized).peak(takings, part.forced, returned)
        else:
            found = spans.peak(takings, amount, period)
        self.worst.append(Span(*account.bucket, account.text, found.begin, found.end, found.level / period, rule.capacity))
        # A unit that is not a whole number of nanoseconds is rounded, so one unit is tolerated; otherwise none is.
        rounds = bool(amount) and period % amount != 0
        if found.level >= (rule.capacity + 1) * period or (not rounds and found.level > rule.capacity * period):
            beyond, length = found.level / period - rule.capacity, (found.end - found.begin) / NANOSECONDS
            refill = f" and the refill of {length:.6g} s" if amount else f"{part.name}"
            message = f"{beyond:.6g} units beyond the capacity{refill}, the last by {found.last}"
            self.findings.append(replace(_finding(account, message, found.begin, found.end, found.last), excess=beyond))


def _returned(rule: Rule, part: _Part, period: int, clock_error: int) -> Iterator[tuple[int, int, int]]:
    """Return the interval in which each refund counts, and its worth; units that a refused call held may be refunded too."""
    ends, earliest = spans.earliest_uses(part.takings)
    longer = clock_error + rule.allotment
    for begin, end, units, _ in (*part.refunds, *part.withdrawals):
        yield spans.first_use(begin - clock_error, ends, earliest), end + longer, units * period
    # What others give back in that time may be taken from the units that a refused call still holds, and gives back whole.
    given = Uses((begin, end + longer, units * period) for begin, end, units, _ in part.refunds if part.passing)
    for begin, end, units, _ in part.passing:
        worth = min(units * period, (end - begin) * rule.amount + given.touching(begin - clock_error, end))
        if worth:
            yield spans.first_use(begin - clock_error, ends, earliest), end + longer, worth
    for begin, end, _, _ in part.resets:
        yield spans.first_use(begin - clock_error, ends, earliest), end + longer, EVERYTHING


def _by_period(rule: Rule, takings: Iterable[Taking]) -> dict[tuple[int, int], list[Taking]]:
    """Return the charges of each calendar period; without `since`, leave out those that the end of a period may have split."""
    calendar, periods = Calendar(rule.calendar, rule.zone), defaultdict(list)
    for taking in takings:
        start, _, end, units, _, since = taking
        period = calendar.period(start if since is None else since)
        if units and (since is not None or end < period[1]):
            periods[period].append(taking)
    return periods


def _by_session(rule: Rule, takings: Iterable[Taking]) -> dict[tuple[int, int], list[Taking]]:
    """Return the charges of each session."""
    sessions = defaultdict(list)
    for taking in takings if all(each[3] for each in takings) else [each for each in takings if each[3]]:
        since = taking[0] if taking[5] is None else taking[5]
        sessions[since, since + rule.period].append(taking)
    return sessions


def _refunds_of(takings: Sequence[Taking], refunds: Sequence[Change]) -> list[Change]:
    """Return the refunds of these charges: of each lease at most what it consumed here."""
    if not refunds:
        return []
    left: defaultdict[str, int] = defaultdict(int)
    concerned = {each[3] for each in refunds}
    for _, _, _, units, identifier, _ in takings:
        if identifier in concerned:
            left[identifier] += units
    found = []
    for begin, end, units, identifier in refunds:
        counted = min(units, left[identifier])
        left[identifier] -= counted
        if counted:
            found.append((begin, end, counted, identifier))
    return found


def _early_sessions(
    account: Account, sessions: dict[tuple[int, int], list[Taking]], whole: Account, clock_error: int
) -> Iterator[Finding]:
    """Find sessions that begin before the last one is over while some of its units are in use."""
    before: tuple[int, int] | None = None
    for session in sorted(sessions):
        begin = session[0]
        if before is not None and begin + clock_error < before[1]:
            inside, opened = sessions[before], sessions[session]
            # The call that opened it found everything refunded at the time of its write, which is before its end.
            latest = max([each[2] for each in opened if each[0] == begin] or [each[2] for each in opened])
            back = (*_refunds_of(inside, whole.refunds), *whole.withdrawals)
            given = sum(each[2] for each in back if each[0] <= latest + clock_error)
            late = before[0] - clock_error - AHEAD
            renewed = any(reset[0] - clock_error <= begin and late <= reset[1] for reset in whole.resets)
            if sum(each[3] for each in inside) > given and not renewed:
                early = (before[1] - begin) / NANOSECONDS
                first = opened[0]
                yield _finding(account, f"a session began {early:.6g} s before the last one was over", begin, begin, first[4])
        before = session


def _noun(rule: Rule) -> str:
    return rule.calendar if rule.kind == "quota" else rule.kind


def _finding(account: Account, message: str, begin: int, end: int, *ids: str) -> Finding:
    return Finding("capacity", account.entity_id, account.resource, account.text, message, begin, end, ids)
