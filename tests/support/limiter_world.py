"""A store, its clients' clocks and a log, to fuzz whole limiters in; and the judge who knows what a limiter may do.

The judge sees four things: what callers ask of a bucket and are told, which of these requests each update carries, what the
updates do to the store, and what the leases are said to hold. From these alone, in its own arithmetic, it judges the promises of
the design. It works out by itself when a busy period began, which bookings are pending, and what is taken in advance.

Clocks differ: each client's is its own `offset` off, by at most `skew` nanoseconds. The promises hold within that bound:

- a booking is pending, and a bucket full, by the clock of the client that writes;
- a decision is made by the time before its write, and a write takes up to `latency` nanoseconds;
- counted at true times, in any span of time what is admitted is at most the capacity, what refills in the span, one unit, and
  what is refunded in the span; where clocks differ, both the refill and the refunds of the span are those of a span that is
  longer at either end by the clocks' error: twice the skew, and the latency.

A lost answer may cost units, and never gives any: what it took may stay taken, what it gave back may be lost. Where callers with
different windows wait at the same time, a refund may take from what the later start was built on; what is admitted stays bounded.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from support import spans
from support.bucket_world import EPOCH, promise
from support.history import Account, Advance, Giving, Life, Moment, Payment, Submission, Taking
from support.kinds_measure import cost_of, rounds

from limiter.core.preview import Ahead
from limiter.core.request import Grant, Refusal
from limiter.core.state import EMPTY
from limiter.exceptions import RateLimiterUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from support.history import Client, Place

    from limiter import Limit
    from limiter.core.plan import Plan
    from limiter.core.records import BucketKey
    from limiter.core.request import Charge, Refund, Request
    from limiter.core.state import BucketState, Update


class World:
    """The true time, the log, and the judge."""

    def __init__(self, *, skew: int = 0, mates: bool = True) -> None:
        self.now = EPOCH
        self.skew = skew
        self.latency = 0
        self.mates = mates
        self.order = 0
        self.clients: list[Client] = []
        self.lives: list[Life] = []
        self.accounts: dict[Place, Account] = defaultdict(Account)
        self.moments: dict[BucketKey, list[Moment]] = defaultdict(lambda: [Moment(0, EPOCH, EMPTY, {})])
        self.writers: dict[BucketKey, list[tuple[int, Client]]] = defaultdict(list)
        self.plans: dict[int, tuple[Update, Sequence[Request], Any]] = {}
        self.flights: dict[tuple[Client, BucketKey], tuple[int, Sequence[Request], Sequence[Request]]] = {}
        self.requests: dict[int, Submission] = {}
        self.charges: dict[int, Submission] = {}
        self.doubted: list[Submission] = []
        self.carriers: dict[int, tuple[Update, Client, BucketKey]] = {}
        self.grants: dict[int, tuple[Grant, Update]] = {}
        self.payments: dict[int, tuple[Grant, Submission]] = {}

    # What the code under test reports.

    def submit(self, client: Client, request: Request, life: Life) -> Submission:
        """Record a request to a bucket."""
        key = request.key
        answers = len(client.answers[key])
        submission = Submission(client, key, request, life, self.order, client.clock(), answers, client.losses, life.terms)
        if submission.is_impatient:
            submission.ahead = self._queue_ahead(submission)
        self.requests[id(request)] = submission
        if request.charges:
            self.charges[id(request.charges)] = submission
        life.submissions.append(submission)
        return submission

    def applied(self, client: Client, key: BucketKey, update: Update, before: BucketState, after: BucketState) -> None:
        """Record an update that the store has applied, and judge it."""
        made, carried = self._applied(client, key, update)
        names = {charge.limit.identity for request in carried for charge in request.charges}
        names |= {refund.limit.identity for request in carried for refund in request.refunds}
        for name in {*before.levels, *after.levels} - names:
            promise(before.level(name) == after.level(name), "a write changes no limit that no request names")
        peaks = {name: self._enter(client, (key, name), carried, before, after, made.now) for name in sorted(names)}
        self.moments[key].append(Moment(self.order, self.now, after, peaks))

    def _applied(self, client: Client, key: BucketKey, update: Update) -> tuple[Plan, list[Request]]:
        """Record that an update was applied; return its plan, and the requests that it carries."""
        promise(id(update) in self.plans, "nothing is written that was not planned")
        _, requests, made = self.plans[id(update)]
        self.carriers[id(update)] = update, client, key
        self.order += 1
        self.writers[key].append((self.order, client))
        self.latency = max(self.latency, self.now + client.offset - made.now)
        carried = [requests[index] for index in made.shares]
        for request in carried:
            submission = self._submission(request)
            if submission is not None:
                submission.carried.append(self.order)
                if request.refunds:
                    submission.refunded.append(self.order)
        return made, carried

    def planned(self, made: Plan, requests: Sequence[Request]) -> None:
        """Record an update that is about to be written."""
        if made.update is None:
            return
        self.plans[id(made.update)] = made.update, tuple(requests), made
        submission = next(filter(None, map(self._submission, requests)), None)
        if submission is not None:
            carried = [requests[place] for place in made.shares]
            self.flights[submission.client, submission.key] = made.now, tuple(requests), carried

    def answered(self, client: Client, key: BucketKey) -> None:
        """Judge again the refusals that rest on a write which has ended since."""
        self.flights.pop((client, key), None)
        again = [each for each in self.doubted if each.client is client and each.key == key]
        for submission in again:
            self.doubted.remove(submission)
            promise(self._is_refused(submission), "nothing is refused that an exact observer would admit")

    def finish(self, submission: Submission, outcome: Grant | Refusal | BaseException) -> None:
        """Record and judge the outcome of a request."""
        submission.outcome, submission.ended = outcome, self.order
        promise(len(submission.refunded) <= 1, "nothing is given back twice")
        if isinstance(outcome, RateLimiterUnavailable):
            submission.life.doubtful = True
        elif isinstance(outcome, Grant):
            self._judge_grant(submission, outcome)
        elif isinstance(outcome, Refusal):
            promise(not submission.carried or self._was_overtaken(submission), "what is refused is not charged")
            if not self._is_refused(submission):
                self.doubted.append(submission)

    # What the judge concludes.

    def _queue_ahead(self, submission: Submission) -> Ahead:
        """Return the same client's undecided requests for the same units, to start at once, by where they are."""
        same = [
            other
            for other in self.requests.values()
            if (other.client, other.key, other.request.charges) == (submission.client, submission.key, submission.request.charges)
            and other.is_impatient
            and other.outcome is None
        ]
        planned, batch_size, carried = self.flights.get((submission.client, submission.key), (0, (), ()))
        waiting = sum(not any(other.request is each for each in batch_size) for other in same)
        return Ahead(waiting, sum(any(other.request is each for each in carried) for other in same), planned)

    def _submission(self, request: Request) -> Submission | None:
        # After a lost response, a request continues without its refunds, as another one with the same charges.
        return self.requests.get(id(request)) or (self.charges.get(id(request.charges)) if request.charges else None)

    def _life_of(self, request: Request) -> Life | None:
        submission = self._submission(request)
        return None if submission is None else submission.life

    def _is_block(self, client: Client, request: Request) -> bool:
        """Tell whether a request is about units that are taken in advance."""
        submission = self._submission(request)
        return submission is None or submission.life is client.closing

    def _enter(
        self, client: Client, place: Place, carried: Sequence[Request], before: BucketState, after: BucketState, now: int
    ) -> int:
        """Record one limit's part of an update; return how far the limit was ahead before any refund."""
        key, name = place
        account, old, new = self.accounts[place], before.level(name).tat, after.level(name).tat
        asked = [(request, charge) for request in carried for charge in request.charges if charge.limit.identity == name]
        back = [(request, refund) for request in carried for refund in request.refunds if refund.limit.identity == name]
        total = sum(cost_of(*charge) for _, charge in asked)
        idle = bool(total) and old <= now
        base = now if idle else old
        given = base + total - new
        promise(given >= 0, "a bucket moves on by what was taken, and no further")
        promise(given <= sum(refund.cost for _, refund in back), "no more is given back than was asked to be")
        if idle:
            account.since = after.level(name).since
            promise(now <= account.since <= max(now, before.level(name).since + 1), "a busy period begins with its first taking")
        alive = sum(refund.cost for _, refund in back if refund.since == account.since)
        peak = base + total
        effective = max(now, peak) - max(now, new)
        promise(effective <= alive, "nothing is given back that was taken before the bucket was full")
        self._judge_bookings(client, place, back, now, (alive, peak, effective, given))
        self._enter_takings(client, place, asked, base, now)
        for request, refund in back:
            self._judge_period(place, request, refund)
        self._enter_returns(client, key, back)
        return peak

    def _judge_period(self, place: Place, request: Request, refund: Refund) -> None:
        """Check that what was consumed before the bucket was full is not refunded as if it had been consumed since."""
        submission = self._submission(request)
        if submission is None or submission.life is submission.client.closing:
            return
        if refund.since != self.accounts[place].since:
            return  # It is void. After a lost answer a caller knows the older of two busy periods in which it may have been paid.
        life = submission.life
        if any(each.request.allots and not isinstance(each.outcome, Grant) for each in life.submissions):
            return  # A caller who was cancelled may have been paid from a block without being told.
        life.refunded[place, refund.since] += refund.cost
        taken = sum(cost for cost, since in life.taken[place] if since == refund.since)
        promise(life.refunded[place, refund.since] <= taken, "no refund exceeds what was taken in the same busy period")

    def _judge_bookings(
        self, client: Client, place: Place, back: Sequence[tuple[Request, Refund]], now: int, amounts: tuple[int, int, int, int]
    ) -> None:
        """Judge a refund against the promises made to callers who wait, and record it."""
        alive, peak, effective, given = amounts
        account = self.accounts[place]
        lives = {self._life_of(request) for request, _ in back} - {None}
        pending = [each for each in account.takings if each.booked and each.start > now and not each.gone]
        pending = [each for each in pending if each.life is None or not each.life.started]
        returned = [each for each in pending if each.life in lives]
        if all(not each.booked or (each.remembered if each.cancelled else each.start) <= now for each in account.takings):
            promise(effective == max(0, min(alive, peak - now)), "without pending bookings a refund is whole")
        first = min((each.order for each in pending), default=0)
        windows = {each.limit.depth for each in account.takings if each.booked and each.order >= first}
        if given and not self.skew and len(windows) == 1:
            built_on = max((each.tat for each in pending if each not in returned), default=0)
            promise(peak - given >= built_on, "nothing is given back that a pending booking was built on")
        for each in returned:
            # An undone booking leaves on record that no booking before it starts after its own start less its cost; or the start
            # of a booking that its writer had seen, and that was undone before its own write arrived.
            seen = max([refund.earlier for request, refund in back if self._life_of(request) is each.life], default=-1)
            latest = max([other.start for other in account.takings if other.booked and other is not each], default=-1)
            left = max(each.start - each.cost, min(seen, latest))
            each.cancelled, each.remembered = True, left if given >= each.cost else each.start
        for each in account.takings:
            each.gone |= each.life in lives and each.booked
        # A client whose clock is ahead takes a bucket for fuller than it is, and refunds less.
        amount = (given if self.skew else effective) - sum(each.cost for each in returned)
        if amount > 0:
            own = sum(refund.cost for request, refund in back if not self._is_block(client, request))
            account.givings.append(Giving(amount, min(amount, own), self.order, self.now))

    def _enter_takings(self, client: Client, place: Place, asked: Sequence[tuple[Request, Charge]], base: int, now: int) -> None:
        key = place[0]
        account, tat = self.accounts[place], max(base, now)
        for request, (limit, units) in asked:
            submission = self._submission(request)
            life = submission.life if submission else None
            cost = cost_of(limit, units)
            tat += cost
            bound = limit.depth if cost else limit.window
            booked = bool(cost) and not request.forced and tat - bound > now
            start = tat - bound if booked else now
            if not request.forced:
                promise(tat - bound <= max(now, request.deadline), "no request is admitted that the limit refuses")
            time = start - client.offset if booked else self.now
            taking = Taking(limit, units, cost, start, tat, account.since, self.order, time, request.forced, life, booked)
            if cost:
                account.takings.append(taking)
            if submission is not None:
                submission.takings.append(taking)
                submission.life.taken[place].append((cost, account.since))
                submission.life.limits[place] = limit
            elif cost:
                self._enter_block(client, key, taking)

    def _enter_block(self, client: Client, key: BucketKey, taking: Taking) -> None:
        promise(taking.limit.allotment_ns > 0, "nothing is taken in advance of a limit without an allotment")
        advance = client.advances[key, taking.limit]
        advance.taken += taking.units
        advance.cost += taking.cost

    def _enter_returns(self, client: Client, key: BucketKey, back: Sequence[tuple[Request, Refund]]) -> None:
        """Record units of blocks that are refunded, which those of a rate never are."""
        for request, refund in back:
            if self._is_block(client, request):
                advance = client.advances[key, refund.limit]
                advance.returned += refund.cost
                self._judge_advance(advance)

    def _judge_advance(self, advance: Advance) -> None:
        promise(advance.paid <= advance.taken, "no unit that was taken in advance is spent twice")
        promise(advance.spent + advance.returned <= advance.cost, "no unit that was taken in advance is spent and given back")

    def _judge_grant(self, submission: Submission, grant: Grant) -> None:
        told = [(receipt.limit, receipt.units) for receipt in grant.receipts]
        promise(told == list(submission.request.charges), "who is admitted is told what was taken of every limit")
        self._judge_refund(submission)
        if submission.cost and not submission.carried:
            self._pay(submission, grant)
            return
        promise(len(submission.carried) <= 1 or self._was_overtaken(submission), "who is admitted is charged once")
        latest = {taking.limit.identity: taking for taking in submission.takings}
        for receipt in grant.receipts:
            taking = latest.get(receipt.limit.identity)
            if taking is None or not taking.cost:
                promise(not receipt.cost, "nothing is charged for nothing")
                continue
            promise(receipt.cost == taking.cost, "who is admitted is told what it cost")
            # Behind the writes of others a lost response is known to the safe side only.
            lost = submission.client.losses > submission.losses
            known = receipt.since == taking.since or (lost and receipt.since < taking.since)
            promise(known, "who is admitted is told the busy period")
            start = max(receipt.start, grant.now)
            # If others have given back since, it may be told too early a start once its turn has come in any case.
            told = start == taking.start or (lost and (start > taking.start or taking.start <= self.now))
            promise(taking.forced or told, "who has to wait is told until when")

    def _judge_refund(self, submission: Submission) -> None:
        """Check that a requested refund was made, or was worth nothing, or that the response was lost."""
        if submission.refunded or submission.client.losses > submission.losses:
            return
        for refund in submission.request.refunds:
            levels = [moment.state.level(refund.limit.identity) for moment in self._during(submission)]
            void = any(level.since != refund.since or level.booked > submission.clock for level in levels)
            promise(void, "what is to be given back is")

    def _pay(self, submission: Submission, grant: Grant) -> None:
        """Record a call that was allowed without a write, paid from a block when it was made or while it waited."""
        client = submission.client
        self.payments[id(grant)] = grant, submission
        promise(submission.request.allots, "no request is admitted without a write")
        for receipt in grant.receipts:
            place = submission.key, receipt.limit.identity
            advance = client.advances[submission.key, receipt.limit]
            advance.paid += receipt.units
            advance.spent += receipt.cost
            self._spend(advance, receipt.limit, receipt.units, grant.now)
            self._judge_advance(advance)
            submission.life.taken[place].append((receipt.cost, receipt.since))
            submission.life.limits[place] = receipt.limit
            submission.life.paid = True
            self.accounts[place].payments.append(
                Payment(receipt.limit, receipt.units, grant.now - client.offset, submission.life)
            )

    def _spend(self, advance: Advance, limit: Limit, units: int, now: int) -> None:
        """Spend units of the oldest blocks that may be spent at a time."""
        for block in advance.blocks:
            if now - block[0] < limit.allotment_ns:
                spent = min(units, block[1])
                block[1] -= spent
                units -= spent
        promise(units == 0, "nothing is spent that is stale, or was not taken")

    def unpaid(self, payment: Grant) -> None:
        """Record that units which a block has paid go back into it, since their caller could not use them."""
        _, submission = self.payments.pop(id(payment), (payment, None))
        for receipt in payment.receipts if submission is not None else ():
            place = submission.key, receipt.limit.identity
            advance = submission.client.advances[submission.key, receipt.limit]
            advance.paid -= receipt.units
            advance.spent -= receipt.cost
            # They are taken for as old as the newest block: where one is spent too late, the spans show it.
            advance.blocks[-1][1] += receipt.units
            submission.life.taken[place].remove((receipt.cost, receipt.since))
            payments = self.accounts[place].payments
            payments.remove(next(each for each in reversed(payments) if each.life is submission.life))

    def _was_overtaken(self, submission: Submission) -> bool:
        """Tell whether a response was lost, and another client wrote before this one could look."""
        first, client = submission.carried[0], submission.client
        others = any(order > first and writer is not client for order, writer in self.writers[submission.key])
        return client.losses > submission.losses and others

    def _during(self, submission: Submission) -> Iterable[Moment]:
        """Return the states that the bucket had since the request was made, including the one that it met."""
        for moment in reversed(self.moments[submission.key]):
            yield moment
            if moment.order <= submission.began:
                return

    def _is_refused(self, submission: Submission) -> bool:
        """Tell whether any state that the client may have used refuses the request."""
        client, request = submission.client, submission.request

        def refuses(tats: Callable[[str], int], now: int) -> bool:
            return any(
                max(tats(limit.identity), now) + cost_of(limit, units) - (limit.depth if units else limit.window)
                > max(now, request.deadline)
                for limit, units in request.charges
            )

        for moment in self._during(submission):
            now = max(submission.clock, moment.time + client.offset)
            if refuses(lambda name, at=moment: max(at.state.level(name).tat, at.peaks.get(name, -1)), now):  # type: ignore[misc]
                return True
        seen = client.answers[submission.key][max(0, submission.answers - 1) :] if client.denial_ns else []
        for clock, state in seen:
            now = max(clock, submission.clock)
            if submission.clock - clock < client.denial_ns:
                tats = self._level_ahead(submission, state, now)
                if refuses(lambda name, at=tats: at[name], now):  # type: ignore[misc]
                    return True
        return self.mates and self._is_refused_for_mates(submission, refuses)

    def _level_ahead(self, submission: Submission, state: BucketState, now: int) -> dict[str, int]:
        """Return each limit's `tat` behind the requests ahead: written ones as of the plan, and as many others as fit now."""
        waiting, carried, planned = submission.ahead
        costs = {limit: cost_of(limit, units) for limit, units in submission.request.charges}
        tats = {limit: state.level(limit.identity).tat for limit in costs}
        if carried:
            tats = {limit: max(tat, planned) + carried * costs[limit] for limit, tat in tats.items()}
        for limit, cost in costs.items():
            room = now + (limit.depth if cost else limit.window) - max(tats[limit], now)
            waiting = 0 if room < 0 else min(waiting, room // cost) if cost else waiting
        return {limit.identity: max(tat, now) + waiting * costs[limit] for limit, tat in tats.items()}

    def _is_refused_for_mates(self, submission: Submission, refuses: Callable[[Callable[[str], int], int], bool]) -> bool:
        """Tell whether it would be refused after others of a batch that was planned and not written."""
        for update, requests, made in self.plans.values():
            if not any(each is submission.request for each in requests):
                continue
            peaks = {name: account.tat + account.total for name, account in made.accounts.items()}
            if update is not None and refuses(lambda name, at=peaks: at.get(name, -1), made.now):  # type: ignore[misc]
                return True
        return False

    # The end of a run.

    def settle(self, lives: Iterable[Life]) -> None:
        """Check what is left of lives that have ended: exactly what their callers were told."""
        promise(not self.doubted, "nothing is refused that an exact observer would admit")
        for life in lives:
            self._settle(life)
        self.plans.clear()
        self.carriers.clear()
        self.grants.clear()
        self.payments.clear()
        self.requests.clear()
        self.charges.clear()

    def _settle(self, life: Life) -> None:
        for each in life.submissions:
            if each.refunded or not isinstance(each.outcome, BaseException):
                for refund in each.request.refunds:
                    life.returned[each.key, refund.limit.identity] += refund.cost
            if len(each.carried) > 1 or each.client.losses > each.losses:
                life.doubtful = True
        for place, taken in life.taken.items():
            self._settle_place(life, place, taken)

    def _settle_place(self, life: Life, place: Place, taken: Sequence[tuple[int, int]]) -> None:
        total, back = sum(cost for cost, _ in taken), life.returned[place]
        rounding = len(taken) if rounds(life.limits[place]) else 0
        latest = max((since for _, since in taken), default=-1)
        current = sum(cost for cost, since in taken if since == latest)
        what = f"{life.name} at {place}: took {taken}, gave back {back}, holds {life.units}"
        promise(back <= total, f"no refund exceeds what was taken ({what})")
        if life.doubtful:
            return
        if life.units is None:
            promise(back >= current, f"a life that holds nothing has refunded everything ({what})")
            return
        held = cost_of(life.limits[place], life.units.get(life.limits[place].name, 0))
        promise(life.paid or total - back >= held, f"what is held was paid for ({what})")
        promise(current != total or total - back <= held + rounding, f"what was paid for is held ({what})")

    @property
    def error(self) -> int:
        """Nanoseconds by which two decisions can misjudge the time between them."""
        return 2 * self.skew + self.latency

    def judge(self) -> None:
        """Judge every interval of every limit."""
        spans.judge(self.accounts, self.error)
