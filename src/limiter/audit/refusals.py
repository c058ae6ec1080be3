"""Checks that no request is refused that fits.

A record gives the interval in which each call was decided, not the instant. So each refusal is compared with the most that can
have been in use: everything that was consumed before its end, as late as possible, less the refunds that were certainly written
before the refusal. A refusal is wrong only if every limit of the call had room even then.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from .periods import Calendar
from .refill import fits_rate
from .slots import possible_holds
from .uses import Uses, reserve
from .verdict import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from .reader import Account, Change, History, Refused
    from .rules import Rule
    from .uses import Doubt


def judge_refusals(history: History, doubt: Doubt) -> list[Finding]:
    """Judge every refusal of every limit."""
    fitting = [0] * len(history.refusals)
    names = defaultdict(set)
    for account in history.accounts.values():
        names[account.bucket, account.rule.name].add(account.rule.identity)
    for group in history.groups("rate", "quota", "session", "total", "slots"):
        if len(names[group[0].bucket, group[0].rule.name]) > 1 or any(each.rule.allotment for each in group):
            # Units of another rate are carried over, and units in advance are in no record.
            continue
        if any(each.refusals for each in group):
            whole = group[0].joined(group[1:]) if len(group) > 1 else group[0]
            for account in group:
                for number in _JUDGES[account.rule.kind](account, whole, history, doubt):
                    fitting[number] += 1
    pauses: defaultdict[tuple[str, str], list[Change]] = defaultdict(list)
    for account in history.accounts.values():
        pauses[account.bucket] += account.pauses
    wrong = {number for number, fits in enumerate(fitting) if fits == history.refusals[number].limits}
    wrong = {number for number in wrong if not _is_paused(history.refusals[number], pauses, doubt)}
    return list(_findings(history, wrong))


def _is_paused(refused: Refused, pauses: Mapping[tuple[str, str], Sequence[Change]], doubt: Doubt) -> bool:
    """Return whether one of the buckets may have been paused when a call was refused."""
    first, last = refused.begin - doubt.clock_error - doubt.denial_ttl, refused.end + doubt.clock_error
    return any(begin <= last and first <= end for bucket in refused.buckets for begin, end, *_ in pauses[bucket])


def _findings(history: History, wrong: set[int]) -> Iterator[Finding]:
    """Yield one finding for each of these refusals, at the first of its limits."""
    for account in history.accounts.values():
        for begin, end, units, number in account.refusals if wrong else ():
            if number in wrong:
                wrong.discard(number)
                message = f"{units} units were refused although they fit"
                yield Finding("refusals", *account.bucket, account.text, message, begin, end, (history.refusals[number].id,))


def _fits_count(account: Account, whole: Account, history: History, doubt: Doubt) -> Iterator[int]:
    """Return the refusals that fit: of a quota in its period, of a session, of a total."""
    rule = account.rule
    taken = [
        (begin, end, units, start if since is None else since, each) for start, begin, end, units, each, since in whole.takings
    ]
    taken += [(begin, end, units, begin, each) for begin, end, units, each in (*whole.forced, *whole.doubts)]
    if rule.kind == "quota":
        parts = _by_period(rule, taken)
    elif rule.kind == "total":
        parts = {(0, 1 << 101): taken}
    else:
        parts = {(0, 1 << 101): [(begin, end, units, since, "") for begin, end, units, since, _ in taken]}
    passing = Uses((begin, end + doubt.denial_ttl, units) for begin, end, units, _ in whole.passing)
    refunds = [] if whole.resets else whole.refunds  # A reset makes what was taken before it void.
    spans = {span: _count(inside, refunds) for span, inside in parts.items()}
    for begin, end, units, number in account.refusals:
        first, last = begin - doubt.clock_error - _LATE, end + doubt.clock_error
        used = 0
        for uses, returned in _touching(rule, spans, first, last):
            gone = 0
            if rule.kind == "session":  # Units consumed a session's length ago no longer count.
                gone = uses.ended(first - rule.period)
            used = max(used, uses.begun(last) - gone - returned.ended(begin - doubt.clock_error - doubt.denial_ttl))
        kept = reserve(history.refusals[number].share(rule.name), rule.capacity)
        if used + passing.touching(first, last) + units + kept <= rule.capacity:
            yield number


_LATE = 2_000_000_000
"""Nanoseconds by which a process may see the end of a period late, given the stated error of its clock."""

Counted = tuple[Uses, Uses]


def _count(taken: Sequence[tuple[int, int, int, int, str]], refunds: Sequence[Change]) -> Counted:
    """Return the units consumed, and those of them that were refunded."""
    left: defaultdict[str, int] = defaultdict(int)
    for _, _, units, _, identifier in taken:
        left[identifier] += units
    returned = []
    for begin, end, units, identifier in refunds if any(left) else ():
        counted = min(units, left[identifier])
        left[identifier] -= counted
        returned.append((begin, end, counted))
    return Uses((begin, max(end, since), units) for begin, end, units, since, _ in taken), Uses(returned)


def _by_period(
    rule: Rule, taken: Iterable[tuple[int, int, int, int, str]]
) -> dict[tuple[int, int], list[tuple[int, int, int, int, str]]]:
    calendar, periods = Calendar(rule.calendar, rule.zone), defaultdict(list)
    for each in taken:
        first, last = calendar.period(each[3]), calendar.period(min(each[1], each[3] + 86_400 * 10**9))
        for period in {first, last}:
            periods[period].append(each)
    return periods


def _touching(rule: Rule, spans: dict[tuple[int, int], Counted], begin: int, end: int) -> Iterator[Counted]:
    if rule.kind != "quota":
        yield from spans.values()
        return
    calendar = Calendar(rule.calendar, rule.zone)
    for period in {calendar.period(begin), calendar.period(end)}:
        if period in spans:
            yield spans[period]


def _fits_slots(account: Account, whole: Account, history: History, doubt: Doubt) -> Iterator[int]:
    """Return the refusals that fit: at all times of the call, fewer slots were held than there are."""
    uses = Uses(possible_holds(whole, doubt.denial_ttl + doubt.clock_error))
    for begin, end, units, number in account.refusals:
        held = uses.touching(begin - doubt.clock_error, end + doubt.clock_error)
        if held + units <= account.rule.capacity:
            yield number


_JUDGES = {"rate": fits_rate, "quota": _fits_count, "session": _fits_count, "total": _fits_count, "slots": _fits_slots}
