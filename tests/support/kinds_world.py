"""A world for buckets of every kind of limit, and the judge of what concurrent clients do to them.

Each write that the store applies is judged by the state that it met, in arithmetic of its own: what it carries fits, or is
forced; a shadow is charged exactly what fits; what is given back belongs to the present opening; an account of a name that is
used under another rate or period begins with what is used; an order from outside does what it says. At the end every span is
judged, of each limit and of all rates of a name together.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from support import spans
from support.bucket_world import promise
from support.history import Client, Giving, Life, Moment, Submission, Taking
from support.kinds_measure import HOUR, NEVER, Terms, born_with, bound_of, cost_of, end_of, is_over, kind_of, used_of
from support.limiter_world import World

from limiter.core.state import ABSENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from support.history import Place

    from limiter import BaseLimit
    from limiter.core.plan import Plan
    from limiter.core.records import BucketKey
    from limiter.core.request import Grant, Refund, Request
    from limiter.core.state import BucketState, Level, Update


class Ask(NamedTuple):
    """One charge that a write carries, in the order of its batch; a shadow's is `left_out` if it is said not to fit."""

    request: Request
    submission: Submission | None
    limit: BaseLimit
    units: int
    left_out: bool

    @property
    def terms(self) -> Terms:
        """The terms on which it is asked."""
        return Terms() if self.submission is None else self.submission.terms


class Write(NamedTuple):
    """One write: the `view` that it was planned by, the states around it, what it carries, and the requests of its batch."""

    key: BucketKey
    view: BucketState
    client: Client
    now: int
    before: BucketState
    after: BucketState
    asks: Sequence[Ask]
    carried: Sequence[Request]
    batch: Sequence[Request]

    def limits(self) -> dict[str, BaseLimit]:
        """Return the limits that the batch names, by identity; slots are judged apart."""
        found = {charge.limit.identity: charge.limit for request in self.batch for charge in request.charges}
        found |= {refund.limit.identity: refund.limit for request in self.batch for refund in request.refunds}
        return {identity: limit for identity, limit in found.items() if not limit.holds}

    def taken(self) -> dict[str, int]:
        """Return the most that the batch may take of each account."""
        most: dict[str, int] = defaultdict(int)
        for limit, units in (charge for request in self.batch for charge in request.charges):
            most[limit.identity] += max(0, cost_of(limit, units)) if not limit.holds else 0
        return most


class KindsWorld(World):
    """The true time, the log, and the judge of every kind of limit."""

    def __init__(self, *, skew: int = 0, mates: bool = True) -> None:
        super().__init__(skew=skew, mates=mates)
        self.refunds: dict[int, Submission] = {}
        self.kinds: dict[Place, BaseLimit] = {}

    def submit(self, client: Client, request: Request, life: Life) -> Submission:
        """Record a request to a bucket, and what it gives back: slots are taken out of it on its way."""
        submission = super().submit(client, request, life)
        self.refunds |= {id(refund): submission for refund in request.refunds}
        return submission

    def _submission(self, request: Request) -> Submission | None:
        found = super()._submission(request)
        if found is None and request.refunds:
            return self.refunds.get(id(request.refunds[0]))
        return found

    def applied(self, client: Client, key: BucketKey, update: Update, before: BucketState, after: BucketState) -> None:
        """Record an update that the store has applied, and judge it."""
        made, carried = self._applied(client, key, update)
        batch = self.plans[id(update)][1]
        write = Write(key, made.view.state, client, made.now, before, after, list(self._asks(made, batch)), carried, batch)
        limits, orders = write.limits(), [request for request in carried if request.clear or request.pause is not None]
        self._judge_pause(write, orders)
        self._judge_slots(write)
        cleared = {name for request in orders for name in request.clear}
        peaks = {}
        for identity in sorted({*before.levels, *after.levels, *limits}):
            if identity.rpartition("|")[0] in cleared:
                self._clear(write, identity)
            elif before.level(identity) != ABSENT == after.level(identity):
                asked = any(ask.limit.identity == identity for ask in write.asks)
                promise(self._is_rested(write, identity), "only accounts that have been full for an hour leave an item")
                promise(not asked, "no account leaves an item with a write that asks it")
            elif identity in limits:
                self.kinds[key, identity] = limits[identity]
                peaks[identity] = self._judge_level(write, limits[identity])
            else:
                promise(before.level(identity) == after.level(identity), "a write changes no limit that no request names")
        self.moments[key].append(Moment(self.order, self.now, after, peaks))

    def _asks(self, made: Plan, batch: Sequence[Request]) -> Iterator[Ask]:
        for place, first in made.shares.items():
            request = batch[place]
            for number, (limit, units) in enumerate(request.charges, first):
                yield Ask(request, self._submission(request), limit, units, number in made.left_out)

    # What one write does.

    def _judge_pause(self, write: Write, orders: Sequence[Request]) -> None:
        before, after, now = write.before.paused, write.after.paused, write.now
        until = [request.pause for request in orders if request.pause is not None]
        if until and until[0] > now:
            promise(after == max(before, until[0]), "a pause lasts as long as it was told to, or as a longer one")
        elif until:
            promise(after <= now, "a pause of nothing ends a pause")
        else:
            promise(after == before, "only an order changes a pause")
        for ask in write.asks:
            promise(ask.request.forced or before <= now, "nothing is admitted in a paused bucket")

    def _judge_slots(self, write: Write) -> None:
        for name, held in write.after.slots.held.items():
            counted = sum(entry % 10**6 for entry in write.after.slots.entries.get(name, {}).values())
            promise(held == counted, "the slots that are held are those of the holders")
        for ask in write.asks:
            if ask.limit.holds and ask.units:
                held = write.after.slots.held.get(ask.limit.name, 0)
                promise(held <= ask.limit.capacity, "no more slots are held than there are")

    def _clear(self, write: Write, identity: str) -> None:
        """A reset: nothing is in use any more, and nothing that was taken before comes back."""
        limit, before, after = self.kinds.get((write.key, identity)), write.before.level(identity), write.after.level(identity)
        if limit is None or before == ABSENT:
            return
        if before == after and any(state.level(identity) == ABSENT for state in self._seen_by(write)):
            return  # It was first used after the order had looked.
        account = self.accounts[write.key, identity]
        promise(used_of(limit, after, write.now) == 0, "a reset forgets all use")
        promise(after.since > before.since, "what was taken before a reset does not come back")
        for each in account.takings:
            each.cancelled |= each.booked and each.start > write.now  # What was built on it starts earlier than it was told.
        account.givings.append(Giving(used_of(limit, before, write.now), 0, self.order, self.now))

    def _is_rested(self, write: Write, identity: str) -> bool:
        limit = self.kinds.get((write.key, identity))
        return (
            limit is None
            or is_over(limit, write.before.level(identity)._replace(tat=1), write.now - HOUR)
            or (kind_of(limit) == "rate" and write.before.level(identity).tat <= write.now - HOUR)
        )

    def _judge_level(self, write: Write, limit: BaseLimit) -> int:
        """Judge what a write does to one limit; return how far the limit was in use before any refund."""
        identity, now = limit.identity, write.now
        old, new = write.before.level(identity), write.after.level(identity)
        asks = [ask for ask in write.asks if ask.limit.identity == identity]
        back = [refund for request in write.carried for refund in request.refunds if refund.limit.identity == identity]
        taken = sum(cost_of(limit, ask.units) for ask in asks if not ask.left_out and ask.units > 0)
        drawn = -sum(cost_of(limit, ask.units) for ask in asks if ask.units < 0)
        if old == new == ABSENT:
            promise(not taken, "what is taken is written")
            return -1
        over, left = is_over(limit, old, now), used_of(limit, new, now)
        used = self._met(write, limit, left - taken)
        alive = 0 if over and not taken else sum(refund.cost for refund in back if refund.since == new.since)
        given = used + taken - left
        promise(given >= 0, "a limit is used by what was taken, and no further")
        promise(given <= max(alive, drawn), "no more is given back than was taken since the last opening")
        seen = [new, *(state.level(identity) for state in self._seen_by(write))]
        # A reset and a first charge within one nanosecond may look alike.
        pending = kind_of(limit) == "rate" and any(level.booked > now or level.since != new.since for level in seen)
        whole = min(max(alive, self._drawable(write, limit, drawn)), used + (taken if kind_of(limit) == "rate" else 0))
        if kind_of(limit) != "rate":  # An order may have given back what is given back here, before others took more.
            whole = min(whole, *(used_of(limit, state.level(identity), now) for state in self._seen_by(write)))
        promise(pending or given >= whole, "without pending bookings a refund is whole")
        self._judge_since(write, limit, taken)
        total = 0
        for ask in asks:
            total += self._judge_ask(write, ask, used + total)
            self._enter_taking(write, ask, used + total, new.since)
        self._enter_giving(write, limit, back, given)
        base = now if kind_of(limit) == "rate" else 0
        return base + used + taken

    def _seen_by(self, write: Write) -> list[BucketState]:
        """Return the states since the one that the write was planned by."""
        states = [moment.state for moment in self.moments[write.key]]
        place = next((place for place in reversed(range(len(states))) if states[place] == write.view), 0)
        return states[place:]

    def _drawable(self, write: Write, limit: BaseLimit, units: int) -> int:
        """Return what an order can give back of so much: what was in use when it looked, since others may have taken more."""
        if not units:
            return 0
        levels = [state.level(limit.identity) for state in self._seen_by(write)]
        if any(level.booked > write.now for level in levels):
            return 0
        return min(units, *(used_of(limit, level, write.now) for level in levels))

    def _met(self, write: Write, limit: BaseLimit, seen: int) -> int:
        """Return what was in use before; where an account is born, check that it begins with what is used under its name.

        What others take of the name's other accounts after the batch has looked is not asserted.
        """
        old = write.before.level(limit.identity)
        if old != ABSENT:
            return used_of(limit, old, write.now)
        bounds = [born_with(limit, state, write.now, write.taken()) for state in self._seen_by(write)]
        least, most = min(least for least, _ in bounds), max(most for _, most in bounds)
        if write.view.level(limit.identity) != ABSENT:
            least = 0  # It was stored when the client looked, and has left since, because it was full.
        promise(least <= seen <= most, f"an account begins with what is used under its name ({least}, {seen}, {most})")
        return seen

    def _judge_since(self, write: Write, limit: BaseLimit, taken: int) -> None:
        old, new = write.before.level(limit.identity), write.after.level(limit.identity)
        # Later than the last one that the client has seen, which may have ended within this nanosecond.
        opened = write.now if kind_of(limit) == "quota" else max(write.now, write.view.level(limit.identity).since + 1)
        if old == ABSENT:
            promise(new in (ABSENT, new._replace(since=opened)), "an account begins when it is written")
        elif taken and is_over(limit, old, write.now):
            promise(new.since == opened, "each opening begins with its first charge")
        else:
            promise(new.since == old.since, "an opening lasts until its end")

    def _judge_ask(self, write: Write, ask: Ask, used: int) -> int:
        """Judge one charge by what is in use; return what it takes."""
        limit, cost = ask.limit, cost_of(ask.limit, ask.units)
        if ask.request.forced:
            return max(0, cost)
        late = used + cost - bound_of(limit, ask.units, ask.terms)
        if ask.left_out:
            promise(not limit.enforce, "only a shadow is left out")
            promise(late > 0, "a shadow is charged what fits")
            return 0
        patience = max(0, ask.request.deadline - write.now) if self._may_book(write, ask, write.now + late) else 0
        promise(late <= patience, f"no request is admitted that the limit refuses ({limit}, {used}, {cost})")
        return cost

    def _may_book(self, write: Write, ask: Ask, start: int) -> bool:
        """Tell whether a start in the future may be promised: of a rate, without headroom, in its periods."""
        ends = [
            end_of(each, write.before.level(each.identity), write.now)
            for each, _ in ask.request.charges
            if each.enforce and not each.holds
        ]
        leaves = any(ask.terms.share(each) for each, _ in ask.request.charges)
        last = min(ends, default=NEVER) if ask.limit.enforce else NEVER
        return kind_of(ask.limit) == "rate" and not leaves and start < last

    def _enter_taking(self, write: Write, ask: Ask, used: int, since: int) -> None:
        limit, cost, now, submission = ask.limit, cost_of(ask.limit, ask.units), write.now, ask.submission
        if ask.left_out or ask.units < 0:
            return
        life = submission.life if submission else None
        start = max(now, now + used - bound_of(limit, ask.units, ask.terms)) if kind_of(limit) == "rate" else now
        booked = bool(cost) and not ask.request.forced and start > now
        time, tat = start - write.client.offset if booked else self.now, now + used
        if not booked:
            start = now
        taking = Taking(limit, ask.units, cost, start, tat, since, self.order, time, ask.request.forced, life, booked)  # type: ignore[arg-type]
        taking.oversize = ask.terms.oversize
        place = write.key, limit.identity
        if cost:
            self.accounts[place].takings.append(taking)
        if submission is not None:
            submission.takings.append(taking)
            submission.life.taken[place].append((cost, since))
            submission.life.limits[place] = limit  # type: ignore[assignment]

    def _enter_giving(self, write: Write, limit: BaseLimit, back: Sequence[Refund], given: int) -> None:
        place = write.key, limit.identity
        account = self.accounts[place]
        for request in write.carried:
            for refund in request.refunds:
                # Who got no answer may have been told an earlier opening, of which nothing comes back.
                void = write.client.losses > 0 and refund.since < write.after.level(limit.identity).since
                if refund in back and not void:
                    self._judge_period(place, request, refund)
        lives = {each.life for request in write.carried if request.refunds and (each := self._submission(request)) is not None}
        returned = [each for each in account.takings if each.booked and each.start > write.now and each.life in lives]
        returned = [each for each in returned if each.life is not None and not each.life.started and not each.cancelled]
        for each in returned:
            each.cancelled = True
        if given > sum(each.cost for each in returned):
            account.givings.append(Giving(given - sum(each.cost for each in returned), 0, self.order, self.now))

    # What a caller is told.

    def _judge_grant(self, submission: Submission, grant: Grant) -> None:
        charges = [(receipt.limit, receipt.units) for receipt in grant.receipts]
        promise(charges == list(submission.request.charges), "who is admitted is told what was taken of every limit")
        self._judge_refunds(submission)
        counted = any(limit.enforce and units > 0 for limit, units in charges if not limit.holds)
        promise(bool(submission.carried) or not counted, "no request is admitted without a write")
        promise(len(submission.carried) <= 1 or self._was_overtaken(submission), "who is admitted is charged once")
        latest = {taking.limit.identity: taking for taking in submission.takings}
        lost = submission.client.losses > submission.losses
        for receipt in grant.receipts:
            taking = latest.get(receipt.limit.identity)
            if receipt.limit.holds or receipt.cost < 0:
                continue
            if taking is None or not taking.cost:
                promise(not receipt.cost, "nothing is charged for nothing")
                continue
            promise(receipt.cost == taking.cost, "who is admitted is told what it cost")
            known = receipt.since == taking.since or (lost and receipt.since < taking.since)
            promise(known, f"who is admitted is told the opening ({receipt}, {taking.since})")
            start = max(receipt.start, grant.now)
            told = start == taking.start or (lost and start > taking.start)
            promise(taking.forced or taking.cancelled or told, "who has to wait is told until when")

    def _judge_refunds(self, submission: Submission) -> None:
        """Check that a requested refund was made, or was worth nothing, or that the response was lost."""
        if submission.refunded or submission.client.losses > submission.losses:
            return
        for refund in submission.request.refunds:
            levels = [moment.state.level(refund.limit.identity) for moment in self._during(submission)]
            void = any(
                level.since != refund.since or level.booked > submission.clock or self._is_void(refund, level, submission.client)
                for level in levels
            )
            promise(refund.limit.holds or void, "what is to be given back is")

    def _is_void(self, refund: Refund, level: Level, client: Client) -> bool:
        return used_of(refund.limit, level, client.clock()) == 0

    def _is_refused(self, submission: Submission) -> bool:
        """Tell whether any state that the client may have used refuses the request."""
        request, client = submission.request, submission.client
        if any(limit.holds and units for limit, units in request.charges):
            return True  # Which slots were spare in a process is judged in the world of slots.
        for moment in self._during(submission):
            now = max(submission.clock, moment.time + client.offset)
            if self._refuses(submission, moment.state, now, moment.peaks):
                return True
        seen = client.answers[submission.key][max(0, submission.answers - 1) :] if client.denial_ns else []
        for clock, state in seen:
            if submission.clock - clock < client.denial_ns:
                now = max(clock, submission.clock)
                if self._refuses(submission, state, now, self._peaks_ahead(submission, state, now)):
                    return True
        return self.mates and self._is_refused_for_mates(submission, lambda *_: False)

    def _refuses(self, submission: Submission, state: BucketState, now: int, peaks: Mapping[str, int]) -> bool:
        """Tell whether a state refuses a request; `peaks` are what its limits were used to before the last refund."""
        request, terms = submission.request, submission.terms
        start, last = max(now, state.paused), NEVER if state.paused <= now else now
        for limit, units in request.charges:
            if not limit.enforce or limit.holds:
                continue
            level, bound, cost = state.level(limit.identity), bound_of(limit, units, terms), cost_of(limit, units)
            end = end_of(limit, level, now)
            used = used_of(limit, level, now) if level != ABSENT else born_with(limit, state, now, {})[1]
            if limit.identity in peaks and not (kind_of(limit) != "rate" and is_over(limit, level, now) and level != ABSENT):
                used = max(used, peaks[limit.identity] - (now if kind_of(limit) == "rate" else 0))
            last = now if terms.share(limit) else min(last, end - 1)
            if used + cost > bound:
                wait = used + cost - bound if kind_of(limit) == "rate" else end - now
                start = max(start, now + wait if cost <= bound else NEVER)
        return start > now and (start > max(now, request.deadline) or start > last)

    def _peaks_ahead(self, submission: Submission, state: BucketState, now: int) -> dict[str, int]:
        """Return what each limit is used to behind the requests ahead: as many of those that wait as fit now."""
        waiting, carried, planned = submission.ahead
        peaks = {}
        limits = [(limit, units) for limit, units in submission.request.charges if not limit.holds]
        for limit, units in limits:
            level, cost = state.level(limit.identity), cost_of(limit, units)
            used = used_of(limit, level, now) if level != ABSENT else born_with(limit, state, now, {})[1]
            if carried and kind_of(limit) == "rate":
                used = max(0, max(level.tat, planned) + carried * cost - now)
            elif carried:
                used += carried * cost
            room = bound_of(limit, units, submission.terms) - used
            if limit.enforce:
                waiting = 0 if room < 0 else min(waiting, room // cost) if cost else waiting
            peaks[limit.identity] = used
        for limit, units in limits:
            peaks[limit.identity] += waiting * cost_of(limit, units) + (now if kind_of(limit) == "rate" else 0)
        return peaks

    def _is_refused_for_mates(self, submission: Submission, refuses: Callable[..., bool]) -> bool:
        """Tell whether it would be refused after others of a batch that was planned and not written."""
        for update, requests, made in self.plans.values():
            if update is None or not any(each is submission.request for each in requests):
                continue
            peaks = {name: account.met().tat for name, account in made.accounts.items()}
            if self._refuses(submission, made.view.state, made.now, peaks):
                return True
        return False

    # The end of a run.

    def _settle_place(self, life: Life, place: Place, taken: Sequence[tuple[int, int]]) -> None:
        limit: Any = life.limits[place]
        back = life.returned[place]
        asked = [charge.limit for each in life.submissions if each.key == place[0] for charge in each.request.charges]
        if [each.identity for each in asked if each.name == limit.name][-1:] not in ([], [place[1]]):
            # A schedule has changed the limits while the call waited, so it has asked again under others.
            latest = max(since for _, since in taken)
            whole = sum(cost for cost, since in taken if since == latest) if limit.enforce else 0
            promise(life.doubtful or back >= whole, "what was taken under limits that have changed since is refunded")
            return
        if limit.enforce:
            super()._settle_place(life, place, taken)
            return
        promise(back <= sum(cost for cost, _ in taken), "no refund of a shadow exceeds what it was charged")

    def settle(self, lives: Iterable[Life]) -> None:
        """Check what is left of lives that have ended."""
        super().settle(lives)
        self.refunds.clear()

    def judge(self) -> None:
        """Judge every interval of every limit, and of all rates of one name together."""
        rates = {place: each for place, each in self.accounts.items() if kind_of(self.kinds.get(place)) == "rate"}
        spans.judge(rates, self.error)
        by_name = sorted(rates, key=lambda place: (place[0], place[1].rpartition("|")[0]))
        for _, places in groupby(by_name, key=lambda place: (place[0], place[1].rpartition("|")[0])):
            spans.judge_change([rates[place] for place in places], self.error)
        for place, account in self.accounts.items():
            if place not in rates:
                spans.judge_openings(account)
