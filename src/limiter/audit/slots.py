"""Checks slots at every instant: no more are held at once than there are."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from ..core.units import NANOSECONDS
from .reader import FOREVER
from .verdict import Finding, Span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .reader import Account, History

AFTER_THE_END = 2 * NANOSECONDS
"""Nanoseconds after which unrenewed slots are free, given the stated error of the clock."""


def judge_slots(history: History, clock_error: int) -> tuple[list[Finding], list[Span]]:
    """Check that at every instant the slots that are certainly held are at most the capacity."""
    findings, worst = [], []
    for group in history.groups("slots"):
        whole = group[0].joined(group[1:]) if len(group) > 1 else group[0]
        whole.owners = {identifier: process for each in group for identifier, process in (each.owners or {}).items()}
        capacity = group[-1].rule.capacity
        most, time, last = _peak(whole, history, clock_error)
        text = group[-1].text
        worst.append(Span(*whole.bucket, text, time, time, most, capacity))
        if most > capacity:
            message = f"{most} slots were held at once, of {capacity}, the last by {last}"
            findings.append(Finding("capacity", *whole.bucket, text, message, time, time, (last,), most - capacity))
    return findings, worst


def _peak(account: Account, history: History, clock_error: int) -> tuple[int, int, str]:
    steps: list[tuple[int, int, int, str]] = []
    for begin, end, units, identifier in _sure_holds(account, history):
        if begin + clock_error < end:
            steps += (begin + clock_error, 1, units, identifier), (end, 0, -units, identifier)
    held, most, time, last = 0, 0, 0, ""
    for at, _, units, identifier in sorted(steps):
        held += units
        if held > most:
            most, time, last = held, at, identifier
    return most, time, last


def _sure_holds(account: Account, history: History) -> Iterator[tuple[int, int, int, str]]:
    """Return the intervals in which slots were certainly held: from when the holder knew it until it began to release them.

    Slots of a process whose record ends count as long as it is known to be alive, and at most as long as they last unrenewed.
    """
    owners = account.owners or {}
    for taken, end, units, identifier, freed in _holds(account):
        until = freed
        if until == FOREVER:
            until = min(taken + account.rule.period, history.last.get(owners.get(identifier, ""), end))
        yield end, until, units, identifier


def _holds(account: Account) -> Iterator[tuple[int, int, int, str, int]]:
    """Return each holding of slots: when they were acquired and known to be held, how many, the call, and when release began."""
    freed: defaultdict[str, list[list[int]]] = defaultdict(list)
    for begin, _, units, identifier in sorted((*account.refunds, *account.expiries)):
        freed[identifier].append([begin, units])
    for start, _, end, units, identifier, _ in sorted(account.takings):
        left = units
        for each in freed.get(identifier, ()):
            part = min(left, each[1])
            if part:
                each[1] -= part
                left -= part
                yield start, end, part, identifier, each[0]
        if left:
            yield start, end, left, identifier, FOREVER


def possible_holds(account: Account, longer: int) -> Iterator[tuple[int, int, int]]:
    """Return the intervals in which slots may have been held, as far as other processes can know."""
    ended: defaultdict[str, int] = defaultdict(int)
    expired = {identifier for *_, identifier in account.expiries}
    for _, end, _, identifier in account.refunds:
        ended[identifier] = max(ended[identifier], end)
    for _, begin, _, units, identifier, _ in account.takings:
        end = ended.get(identifier, FOREVER)
        if identifier in expired:
            last = max(at for at, _, _, each in account.expiries if each == identifier)
            end = last + account.rule.period + AFTER_THE_END
        yield begin, end + longer, units
    for begin, end, units, _ in (*account.doubts, *account.passing):
        yield begin, end + account.rule.period + longer, units
