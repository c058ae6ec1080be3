"""Checks what involves several lines: refunds at most once, chains all or none, and the order of callers who wait."""

from __future__ import annotations

from collections import defaultdict
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from ..core.units import NANOSECONDS
from .rules import rule
from .verdict import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .reader import Account, Chained, Change, History


def judge_refunds(history: History) -> Iterator[Finding]:
    """Check that a lease refunds at most what it consumed, of each limit in each bucket."""
    for account in history.accounts.values():
        if not account.refunds or not account.rule.enforced:  # Of a shadow, units are held that were never charged.
            continue
        left: defaultdict[str, int] = defaultdict(int)
        concerned = {each[3] for each in account.refunds}
        for _, _, _, units, identifier, _ in account.takings:
            if identifier in concerned:
                left[identifier] += units
        for _, _, units, identifier in (*account.forced, *account.doubts):
            left[identifier] += units
        for begin, end, units, identifier in sorted(account.refunds):
            left[identifier] -= units
            if left[identifier] < 0:
                message = f"{identifier} refunded {-left[identifier]} units more than it had consumed"
                yield Finding("refunds", *account.bucket, account.text, message, begin, end, (identifier,))
                left[identifier] = 0


def judge_chains(history: History) -> Iterator[Finding]:
    """Check that a call charges every bucket of its chain or none, and a correction each bucket that has the limit.

    A lease whose correction failed may hold different units in each bucket, and gives them back.
    """
    admitted: dict[str, Chained] = {}
    in_doubt = {each.id for each in history.chained if each.event.startswith(("correction failed", "consume failed"))}
    for each in history.chained:
        if each.event == "decision allowed":
            admitted[each.id] = each
            charged = {place for place, *_ in each.charged}
            for place, bucket in enumerate(each.buckets):
                if place not in charged:
                    yield _half(each, bucket, "was allowed without a charge of this bucket")
    for each in history.chained:
        decision = admitted.get(each.id)
        if decision is not None and each is not decision and not each.event.endswith("refused"):
            done = {(each.buckets[place], rule(text).name) for place, text, _ in each.charged}
            names = {name for _, name in done}
            if each.event.startswith("refund"):
                names = set() if each.id in in_doubt else names - _uneven(decision)
            due = {(decision.buckets[place], rule(text).name) for place, text, _ in decision.charged}
            for bucket, name in sorted(due - done):
                if name in names:
                    yield _half(each, bucket, f"corrected {name!r} in only some of its buckets")


def _uneven(decision: Chained) -> set[str]:
    """Return the names of which some buckets hold less than others: a refund gives back in each at most what is held there."""
    units: defaultdict[str, set[int]] = defaultdict(set)
    for _, text, each in decision.charged:
        units[rule(text).name].add(each)
    return {name for name, found in units.items() if len(found) > 1}


def _half(each: Chained, bucket: tuple[str, str], what: str) -> Finding:
    return Finding("chains", *bucket, "", f"{each.id} {what}", 0, 0, (each.id,))


def judge_order(history: History, clock_error: int) -> Iterator[Finding]:
    """Check that callers start in order: a call that began after another was decided starts no earlier, under the same limit.

    A reset makes the turns void that were given before it. The fencing numbers of a single slot grow in the same order.
    """
    resets: defaultdict[tuple[tuple[str, str], str], list[Change]] = defaultdict(list)
    for account in history.accounts.values():
        resets[account.bucket, account.rule.name] += account.resets
    for account in history.accounts.values():
        if account.rule.kind == "rate" and account.booked:
            yield from _judge_turns(account, sorted(resets[account.bucket, account.rule.name]), clock_error)
    for bucket, entries in history.fences.items():
        rules = [each.rule for each in history.accounts.values() if each.bucket == bucket and each.owners is not None]
        # Limits of one bucket share its numbers, and slots that are handed on have some that were drawn before.
        if {(each.name, each.capacity) for each in rules} == {(rules[0].name, 1)}:
            yield from _judge_fences(bucket, entries, clock_error)


def _judge_turns(account: Account, resets: Sequence[Change], clock_error: int) -> Iterator[Finding]:
    turns = sorted((end, begin, start, identifier) for start, begin, end, _, identifier, _ in account.takings)
    standing: list[tuple[int, int, str]] = []  # The turns that were given, the latest start first, with the begin of the call.
    decided = passed = void = 0
    for planned, begin, end, _, identifier, _ in sorted(account.takings, key=lambda each: each[1]):
        start = max(planned, end)
        while decided < len(turns) and turns[decided][0] + clock_error < begin:
            _, asked, turn, first = turns[decided]
            heappush(standing, (-turn, asked, first))
            decided += 1
        while passed < len(resets) and resets[passed][0] - clock_error <= end:
            void = max(void, resets[passed][1] + clock_error)
            passed += 1
        while standing and standing[0][1] <= void:
            heappop(standing)
        if standing and start + clock_error < -standing[0][0]:
            latest, first = -standing[0][0], standing[0][2]
            early = (latest - start) / NANOSECONDS
            message = f"{identifier} started {early:.6g} s before {first}, which had been allowed before it asked"
            yield Finding("order", *account.bucket, account.text, message, start, latest, (first, identifier))


def _judge_fences(bucket: tuple[str, str], entries: list[tuple[int, int, int, str]], clock_error: int) -> Iterator[Finding]:
    known = sorted((end, fence, identifier) for _, end, fence, identifier in entries)
    highest, holder, seen = -1, "", 0
    for begin, end, fence, identifier in sorted(entries):
        while seen < len(known) and known[seen][0] + clock_error < begin:
            highest, holder = max((highest, holder), known[seen][1:])
            seen += 1
        if fence < highest:
            message = f"{identifier} has the fence {fence}, although {holder} had {highest} before it"
            yield Finding("order", *bucket, "", message, begin, end, (holder, identifier))
