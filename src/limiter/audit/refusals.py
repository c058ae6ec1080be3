"""Judges that nothing is refused that had to fit.

A record says of each call in which interval it was decided, and not when. So each refusal is compared with the most that can have
been in use: everything that was taken before its end, as late as possible, less the refunds that were surely written before the
refusal. A refusal is wrong only if even then every limit of the call had room.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections import defaultdict
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from .periods import Calendar
from .verdict import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .reader import Account, Change, History
    from .rules import Rule

REFUSED, TAKEN, GIVING, GIVEN = range(4)
"""What happens at one time, in its order: whatever the order was in fact, this one excuses most."""

Interval = tuple[int, int, int]
"""Something in use or asked for at some time: begin, end, and nanoseconds of refill, or units."""


Step = tuple[int, int, int, int, int]
"""What happens: time, what, nanoseconds or units, the other end of its interval, a number."""


class Doubt(NamedTuple):
    """By how much two clocks may differ, and for how long a refusal may be remembered; nanoseconds."""

    clock_error: int
    denial_ttl: int


def judge_refusals(history: History, doubt: Doubt) -> list[Finding]:
    """Judge every refusal of every limit."""
    fitting = [0] * len(history.refusals)
    names = defaultdict(set)
    for account in history.accounts.values():
        names[account.bucket, account.rule.name].add(account.rule.identity)
    for group in history.groups("rate", "quota", "session", "total", "slots"):
        if len(names[group[0].bucket, group[0].rule.name]) > 1 or any(each.rule.allotment for each in group):
            # Units of another rate are carried over, and units taken in advance are in no record.
            continue
        if any(each.refusals for each in group):
            whole = group[0].joined(group[1:]) if len(group) > 1 else group[0]
            for account in group:
                judge = _fits_rate if account.rule.kind == "rate" else _fits_slots if account.owners is not None else _fits_count
                for number in judge(account, whole, history, doubt):
                    fitting[number] += 1
    wrong = {number for number, fits in enumerate(fitting) if fits == history.refusals[number].limits}
    return list(_findings(history, wrong))


def _findings(history: History, wrong: set[int]) -> Iterator[Finding]:
    """One finding for each of these refusals, at the first of its limits."""
    for account in history.accounts.values():
        for begin, end, units, number in account.refusals if wrong else ():
            if number in wrong:
                wrong.discard(number)
                message = f"{units} units were refused that had to fit"
                yield Finding("refusals", *account.bucket, account.text, message, begin, end, (history.refusals[number].id,))


def _reserve(refused_headroom: float, whole: int) -> int:
    """What a call with headroom leaves to others, rounded up."""
    return -(-whole * Fraction(refused_headroom) // 1).__floor__() if refused_headroom else 0


class Uses:
    """How much was asked for, or in use, in intervals that touch another interval."""

    def __init__(self, intervals: Iterable[Interval]) -> None:
        begins, ends = [], []
        for begin, end, amount in intervals:
            begins.append((begin, amount))
            ends.append((end, amount))
        begins.sort()
        ends.sort()
        self._begins, self._begun = [each[0] for each in begins], self._sums(begins)
        self._ends, self._ended = [each[0] for each in ends], self._sums(ends)

    @staticmethod
    def _sums(pairs: Sequence[tuple[int, int]]) -> list[int]:
        return [0, *itertools.accumulate(each[1] for each in pairs)]

    def begun(self, time: int) -> int:
        """What had begun by a time."""
        return self._begun[bisect.bisect_right(self._begins, time)]

    def ended(self, time: int) -> int:
        """What had ended before a time."""
        return self._ended[bisect.bisect_left(self._ends, time)]

    def touching(self, begin: int, end: int) -> int:
        """What began by the end, and did not end before the begin."""
        return self.begun(end) - self.ended(begin)


def _fits_rate(account: Account, whole: Account, history: History, doubt: Doubt) -> Iterator[int]:
    """The refusals that had to fit: a bucket that fills as late as it can still has room."""
    rule = account.rule
    taken = [(begin, end, rule.cost(units)) for _, begin, end, units, *_ in whole.takings]
    taken += [(begin, end, rule.cost(units)) for begin, end, units, _ in (*whole.forced, *whole.doubts)]
    booked = any(start > end for start, _, end, *_ in whole.takings) or (whole.passing and whole.doubts)
    held = [(begin, end + doubt.denial_ttl, rule.cost(units)) for begin, end, units, _ in whole.passing]
    if booked:  # What a refused call gives back may be held back for those who wait.
        taken, held = taken + held, []
    bucket = _Bucket(whole, rule, doubt)
    uses = Uses(taken + held)
    steps = [(end, TAKEN, cost, begin, -1) for begin, end, cost in taken]
    steps += [(begin - doubt.clock_error, REFUSED, units, end, number) for begin, end, units, number in account.refusals]
    steps += [(begin, GIVING, rule.worth(units), end, number) for number, (begin, end, units, _) in enumerate(whole.refunds)]
    steps += [(begin, GIVING, min(rule.cost(units), end - begin), end, -1) for begin, end, units, _ in whole.passing]
    for time, what, amount, other, number in bucket.replayed(sorted(steps), uses):
        if what == REFUSED:
            end = other + doubt.clock_error
            most = bucket.level(time) + uses.touching(time, end) + end - time
            reserve = _reserve(history.refusals[number].headroom, rule.window)
            if most + rule.cost(amount) + reserve <= rule.window:
                yield number


class _Bucket:
    """A bucket from two sides: how full it is at most, and how long it has surely not been idle.

    A refund is worth something only while the bucket has not been idle since the units were taken, and while it takes nothing
    from those who wait for their turn. Elsewhere it is taken for lost, so that more counts as in use.
    """

    def __init__(self, account: Account, rule: Rule, doubt: Doubt) -> None:
        self._refunds = account.refunds
        self._delay = doubt.denial_ttl + doubt.clock_error
        self._clock_error = doubt.clock_error
        self._most = self._least = self._before = self._then = self._checked = 0
        self._busy_since = -1
        self._promised = 0
        concerned = {each[3] for each in account.refunds}
        self._first: dict[str, int] = {}
        for begin, identifier in itertools.chain(
            ((each[1], each[4]) for each in account.takings), ((each[0], each[3]) for each in account.forced)
        ):
            if identifier in concerned:
                self._first[identifier] = min(begin, self._first.get(identifier, begin))
        self._turns = sorted((begin, start) for start, begin, end, *_ in account.takings if start > end)
        self._rule = rule

    def level(self, time: int) -> int:
        """Nanoseconds until the bucket is full again, at most, at a time that is not before the last one."""
        return max(0, self._most - (time - self._then))

    def replayed(self, steps: Iterable[Step], uses: Uses) -> Iterator[Step]:
        """Hand on each step before it is entered; refunds that are worth something come back when they are surely written."""
        written: list[tuple[int, int]] = []
        for step in steps:
            time, what, amount, other, number = step
            while written and written[0][0] < time:
                at, worth = heapq.heappop(written)
                self._most, self._then = max(0, self.level(at) - worth), at
            yield step
            self._pass(time)
            if what == TAKEN:
                self._most, self._then = self.level(time) + amount, time
                self._enter_least(time, other, amount)
            elif what == GIVING:
                worth = min(amount, self._worth(number, time, other))
                if worth > 0:
                    heapq.heappush(written, (other + self._delay, worth))
                if self._before <= amount:  # The bucket may have been idle before anything else was taken.
                    self._busy_since = max(self._busy_since, other)
                # What is taken at the same time may come first, and be given back in part.
                self._least = max(self._least - amount, min(0, self._least), -uses.touching(time, other))

    def _pass(self, time: int) -> None:
        """Let time pass for what is surely in use; a refund finds what was in use before anything of its own time."""
        if time > self._checked:
            if self._least > 0:
                self._least = max(0, self._least - (time - self._checked))
            self._checked, self._before = time, self._least

    def _enter_least(self, time: int, begin: int, cost: int) -> None:
        left = self._least + cost - (time - begin)
        if self._least <= 0 < left:
            self._busy_since = max(self._busy_since, begin)
        self._least = max(left, min(0, self._least))

    def _worth(self, number: int, begin: int, end: int) -> int:
        """Nanoseconds that are surely given back by a refund."""
        if number < 0:
            return 0
        while self._turns and self._turns[0][0] <= end:
            self._promised = max(self._promised, self._turns.pop(0)[1])
        first = self._first.get(self._refunds[number][3], -1)
        if first < self._busy_since or self._busy_since < 0 or self._promised > begin:
            return 0
        return self._before - (end - begin) - self._clock_error


def _fits_count(account: Account, whole: Account, history: History, doubt: Doubt) -> Iterator[int]:
    """The refusals that had to fit: of a quota in its period, of a session, of a total."""
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
    spans = {span: _count(inside, whole.refunds) for span, inside in parts.items()}
    for begin, end, units, number in account.refusals:
        first, last = begin - doubt.clock_error - _LATE, end + doubt.clock_error
        used = 0
        for uses, refunds in _touching(rule, spans, first, last):
            gone = 0
            if rule.kind == "session":  # What was taken a session's length ago is over.
                gone = uses.ended(first - rule.period)
            used = max(used, uses.begun(last) - gone - refunds.ended(begin - doubt.clock_error - doubt.denial_ttl))
        reserve = _reserve(history.refusals[number].headroom, rule.capacity)
        if used + passing.touching(first, last) + units + reserve <= rule.capacity:
            yield number


_LATE = 2_000_000_000
"""Nanoseconds by which a process may be late in seeing that a period is over, as the clock's stated error allows."""

Counted = tuple[Uses, Uses]


def _count(taken: Sequence[tuple[int, int, int, int, str]], refunds: Sequence[Change]) -> Counted:
    """What was taken, and what of it was given back."""
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
    """The refusals that had to fit: fewer slots than there are can have been held at any time of the call."""
    from .slots import possible_holds

    uses = Uses(possible_holds(whole, doubt.denial_ttl + doubt.clock_error))
    for begin, end, units, number in account.refusals:
        held = uses.touching(begin - doubt.clock_error, end + doubt.clock_error)
        if held + units <= account.rule.capacity:
            yield number
