"""Judges every interval: how much more is allowed in it than is refunded and refills, in exact fractions."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from support.bucket_world import promise

from limiter.audit.spans import Changing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from support.history import Account, Place, Taking


class Event(NamedTuple):
    """An amount at a time, and its position in the order of the writes."""

    time: int
    order: int
    amount: Fraction


def judge(accounts: Mapping[Place, Account], error: int) -> None:
    """Judge every interval of every limit."""
    for account in accounts.values():
        run: list[Taking] = []
        for taking in account.takings:
            if run and run[-1].limit != taking.limit:
                _judge_run(account, run, error)
                run = []
            run.append(taking)
        _judge_run(account, run, error)
        _judge_mixed(account, error)
        _judge_payments(account, error)


def _judge_run(account: Account, run: Sequence[Taking], error: int) -> None:
    """Judge units while a limit stays the same: at most the capacity, what refills in the interval, and one unit."""
    if not run:
        return
    limit, first, last = run[0].limit, run[0].order, run[-1].order
    rate = Fraction(limit.refill_amount, limit.period_ns)
    takings = [Event(each.time, each.order, Fraction(each.units)) for each in run if not each.forced and not each.cancelled]
    givings = [Event(each.time, each.order, each.cost * rate) for each in account.givings if first <= each.order <= last]
    most = highest(takings, givings, rate, error)
    capacity = max([limit.capacity, *(each.units for each in run if each.oversize)])
    promise(most <= capacity + 1, "what is admitted in a span is at most the capacity, what refills in it, and one unit")


def _judge_mixed(account: Account, error: int) -> None:
    """Judge time while limits change: at most the largest window and the interval."""
    counted = [each for each in account.takings if not each.forced and not each.cancelled]
    takings = [Event(each.time, each.order, Fraction(each.cost)) for each in counted]
    givings = [Event(each.time, each.order, Fraction(each.cost)) for each in account.givings]
    most = highest(takings, givings, Fraction(1), error)
    windows = [max(each.limit.window, each.cost) if each.oversize else each.limit.window for each in counted]
    promise(most <= max(windows, default=0), "what is admitted in a span is at most the largest window and the span")


def _judge_payments(account: Account, error: int) -> None:
    """Judge units in advance when they are spent: blocks add nothing, while all callers leave room for the same allotment."""
    limits = {each.limit for each in account.payments}
    if not limits or len({each.limit for each in account.takings}) != 1:
        return
    limit = limits.pop()
    rate = Fraction(limit.refill_amount, limit.period_ns)
    own = [each for each in account.takings if each.life is not None and not each.forced and not each.cancelled]
    takings = [Event(each.time, each.order, Fraction(each.units)) for each in own]
    takings += [Event(each.time, 0, Fraction(each.units)) for each in account.payments]
    givings = [Event(each.time, each.order, each.own * rate) for each in account.givings]
    most = highest(takings, givings, rate, error, limit.allotment_ns)
    promise(most <= limit.capacity + 1, "what is spent in a span is at most the capacity, what refills in it, and one unit")


def judge_change(accounts: Sequence[Account], error: int) -> None:
    """Judge several rates of one name: a change admits at most the capacities together, once, however often they take turns.

    While both are in use both refill.
    """
    counted = [[each for each in account.takings if not each.forced and not each.cancelled] for account in accounts]
    if len([each for each in counted if each]) < 2:
        return
    rates = [Fraction(run[0].limit.refill_amount, run[0].limit.period_ns) if run else Fraction(0) for run in counted]
    takings = [Event(each.time, each.order, Fraction(each.units)) for run in counted for each in run]
    givings = [
        Event(each.time, each.order, each.cost * rate)
        for account, rate in zip(accounts, rates, strict=True)
        for each in account.givings
    ]
    capacities = [max(max(each.limit.capacity, each.units if each.oversize else 0) for each in run) for run in counted if run]
    takings.sort(key=lambda event: (event.time, event.order))
    most = highest(takings, givings, sum(rates, Fraction(0)), error)
    promise(most <= sum(capacities) + len(capacities), "a change admits at most the capacities together, once")


def judge_openings(account: Account) -> None:
    """Judge a count: in each opening no span takes more than the capacity and what is given back in it."""
    events = [(each.order, 1, each.since, each.units) for each in account.takings if not each.forced]
    events += [(each.order, 2, -1, -each.cost) for each in account.givings]
    most = max([max(each.limit.capacity, each.units if each.oversize else 0) for each in account.takings], default=0)
    level, opening = 0, -1
    for _, _, since, units in sorted(events):
        level, opening = (max(0, level), opening) if since in (-1, opening) else (0, since)
        level += units
        promise(level <= most, "what is admitted in an opening is at most the capacity")


def highest(takings: Sequence[Event], givings: Sequence[Event], rate: Fraction, error: int, before: int = 0) -> Fraction:
    """The most that any span takes beyond what is given back and what refills in it, where times are uncertain by `error`.

    What is given back in the time `before` a span counts as given back in it.

    Every span then has the refunds and the refill of one that is longer by `error` at either end. The audit knows no order but
    that of time, so the writes of one nanosecond are set apart by fractions of it.
    """
    fractions = 2 * max((each.order for each in (*takings, *givings)), default=0) + 2
    amount, period = rate.numerator, rate.denominator * fractions
    taken = [(each.time * fractions + 2 * each.order, 0, 0, int(each.amount), "", None) for each in takings]
    given = []
    for each in givings:
        first = each.time * fractions if error else each.time * fractions + 2 * each.order + 1
        last = first + fractions - 1 if error else first
        given.append((first - error * fractions, last + (error + before) * fractions, int(each.amount * period)))
    most = Changing(amount, period, 0).peak(taken, (), given)
    return Fraction(most.level, period) - error * rate
