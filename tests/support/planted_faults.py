"""Faults to plant in the library, one at a time: a fuzzer that does not find them would not find their like."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from limiter.commit import allotment, batch, committer, leading
from limiter.commit.bucket_queue import BucketQueue
from limiter.core import plan as planning
from limiter.core.limits import gcra
from limiter.core.limits.account import RateAccount
from limiter.core.preview import Ahead
from limiter.core.record_cache import RecordCache
from limiter.core.request import Grant, Request
from limiter.core.resolution import MISSING
from limiter.core.state import Condition, Level, Update, WriteResult
from limiter.core.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from limiter import Limit
    from limiter.core.state import BucketState

    Fault = Callable[[pytest.MonkeyPatch], None]


def relax(change: Callable[[Condition], Condition | None]) -> Fault:
    """A fault: the store checks less than the update says."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        sound = Update.holds

        def holds(self: Update, state: BucketState) -> bool:
            conditions = tuple(changed for each in self.conditions if (changed := change(each)) is not None)
            return sound(replace(self, conditions=conditions), state)

        monkeypatch.setattr(Update, "holds", holds)

    return plant


def drop_changes(*fields: str) -> Fault:
    """A fault: the store does not keep some fields."""

    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        sound = Update.apply

        def apply(self: Update, state: BucketState) -> BucketState:
            return sound(replace(self, changes=tuple(each for each in self.changes if each.field not in fields)), state)

        monkeypatch.setattr(Update, "apply", apply)

    return plant


def wrong_ceiling(condition: Condition) -> Condition:
    """A fault: one second of units too many is allowed."""
    busy = condition.field == "tat" and condition.low is not None and condition.high is not None
    return condition._replace(high=condition.high + NANOSECONDS) if busy and condition.high is not None else condition


def without_since(condition: Condition) -> Condition | None:
    """A fault: a refund does not check whether the bucket has been full since."""
    return None if condition.field == "since" else condition


def denial_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a refusal is remembered until another caller in this process writes."""
    sound = committer.Committer.__init__

    def init(self: Any, repository: Any, options: Any, *others: Any) -> None:
        sound(self, repository, replace(options, denial_ttl=10**18) if options.denial_ttl else options, *others)

    monkeypatch.setattr(committer.Committer, "__init__", init)


def denial_behind_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a caller that has gone still counts as ahead of later ones."""
    still = lambda self, pending: setattr(self, "returning", self.returning - pending.returns)  # noqa: E731
    monkeypatch.setattr(BucketQueue, "discount", still)


def denial_behind_the_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: every request of a batch under way counts as ahead, in its write or not, as if it consumed now."""
    sound = BucketQueue.before

    def before(self: BucketQueue, request: Request, now: int) -> Ahead:
        queue = sound(self, request, now)
        return Ahead(self.ahead) if queue else queue

    monkeypatch.setattr(BucketQueue, "before", before)


def cache_that_admits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: what fits by the last known state is allowed without a write."""
    sound = committer.Committer.decide

    async def decide(self: Any, requests: Any, *others: Any) -> Any:
        request, *more = requests
        queue = self._queues.get(request.key)
        if queue is not None and queue.seen is not None and request.charges and not request.forced and not more:
            made = planning.plan(queue.state, [request], self.clock(), "none")
            if made.update is not None and not made.refused:
                return [made.grants(made.update.apply(queue.state))[0]]
        return await sound(self, requests, *others)

    monkeypatch.setattr(committer.Committer, "decide", decide)


def stale_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: units in advance are spent at any age."""
    monkeypatch.setattr(allotment.Block, "is_alive", lambda *_: True)


def full_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: no room is left for the refill of the allotment."""
    sound = RateAccount.price

    def price(limit: Limit, units: int, reserve: int, oversize: bool) -> tuple[int, int]:
        return sound(replace(limit, allotment=None), units, reserve, oversize)

    monkeypatch.setattr(RateAccount, "price", staticmethod(price))


def blocks_of_another_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: units taken under one limit are spent under another of the same name."""
    sound = allotment.Allotments._stock

    def stock(self: allotment.Allotments, request: Any) -> allotment.Stock:
        names = [limit.name for limit, _ in request.charges]
        for (limits, _), each in self._stocks.items():
            if [limit.name for limit in limits] == names:
                return each
        return sound(self, request)

    monkeypatch.setattr(allotment.Allotments, "_stock", stock)


def units_spent_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: units that a block has paid stay in it."""
    sound = allotment.Block.pay

    def pay(self: allotment.Block, charges: Any, now: int) -> Any:
        held = self._held.copy()
        payment = sound(self, charges, now)
        self._held = held
        return payment

    monkeypatch.setattr(allotment.Block, "pay", pay)


def waiters_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a cancelled caller keeps its units."""

    async def refund_grants(*_: Any) -> None:
        pass

    monkeypatch.setattr(committer.Committer, "refund_grants", refund_grants)


def leaders_take_their_batch_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: the work of a batch ends with its cancelled leader."""

    async def start(calls: Any, _: Any) -> None:
        for call in calls:
            await call()

    async def finish(*_: Any) -> None:
        pass

    monkeypatch.setattr(committer, "start", start)
    monkeypatch.setattr(leading.Leader, "_finish_interrupted", finish)


def stamps_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: after a lost response, everything is written once more."""

    async def recover(self: Any, *sent: Any) -> None:
        state = await self._writer.store.read_bucket(self._queue.key)
        self._stamp = ""
        self._answer(*sent, WriteResult(False, state))

    monkeypatch.setattr(batch.Batch, "_recover", recover)


def lost_refunds_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: if it is not known whether a refund was made, it is made again."""
    sound = Request._replace
    monkeypatch.setattr(Request, "_replace", lambda request, **more: request if "refunds" in more else sound(request, **more))


def refused_and_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a batch consumes for all its requests, including refused ones."""
    sound = planning.plan

    def plan(state: BucketState, requests: Any, now: int, stamp: str, **view: Any) -> Any:
        made = sound(state, requests, now, stamp, **view)
        if not made.refused or made.update is None:
            return made
        forced = [each._replace(forced=True) if index in made.refused else each for index, each in enumerate(requests)]
        full = sound(state, forced, now, stamp, **view)
        shares = {index: share for index, share in full.shares.items() if index not in made.refused}
        return replace(made, update=full.update, shares=shares, accounts=full.accounts)

    monkeypatch.setattr(planning, "plan", plan)


def zero_that_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: an amount of 0 is charged like 1."""
    sound = gcra.cost
    monkeypatch.setattr(gcra, "cost", lambda limit, units: sound(limit, units or 1))


def limits_of_the_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: in a batch, the limits of the first request apply to all."""
    sound = planning.plan

    def plan(state: BucketState, requests: Any, now: int, stamp: str, **view: Any) -> Any:
        first: dict[str, Limit] = {}
        changed = []
        for each in requests:
            charges = tuple(charge._replace(limit=first.setdefault(charge.limit.name, charge.limit)) for charge in each.charges)
            changed.append(each._replace(charges=charges))
        return sound(state, changed, now, stamp, **view)

    monkeypatch.setattr(planning, "plan", plan)


def nobody_told_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a caller that has to wait starts at once."""
    sound = planning.Plan._grant

    def at_once(self: Any, *others: Any) -> Grant:
        return Grant([each._replace(start=self.now) for each in sound(self, *others).receipts], self.now)

    monkeypatch.setattr(planning.Plan, "_grant", at_once)


def debts_half_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: only a part of what is consumed beyond the limit is recorded."""
    sound = planning.plan

    def plan(state: BucketState, requests: Any, now: int, stamp: str, **view: Any) -> Any:
        made = sound(state, requests, now, stamp, **view)
        if made.update is None:
            return made
        windows = {limit.identity: limit.window for each in requests if each.forced for limit, _ in each.charges}
        changes = []
        for change in made.update.changes:
            most = now + windows.get(change.limit, 10**30) - (max(now, state.level(change.limit).tat) if change.base else 0)
            changes.append(change._replace(value=min(change.value, max(0, most))) if change.field == "tat" else change)
        return replace(made, update=replace(made.update, changes=tuple(changes)))

    monkeypatch.setattr(planning, "plan", plan)


def debts_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: the limit applies to a correction."""
    sound = planning.plan

    def plan(state: BucketState, requests: Any, now: int, stamp: str, **view: Any) -> Any:
        return sound(state, [each._replace(forced=each.forced and not each.charges) for each in requests], now, stamp, **view)

    monkeypatch.setattr(planning, "plan", plan)


def nothing_for_free_in_debt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: an amount of 0 is allowed in any state."""
    ceiling, earliest = RateAccount._ceiling, planning.Plan._earliest_start

    def earliest_start(self: Any, request: Any) -> int:
        return earliest(self, request._replace(charges=tuple(each for each in request.charges if each.units)))

    def unbounded(account: Any) -> int:
        return 10**30 if account.takes and not account.total else ceiling(account)

    monkeypatch.setattr(RateAccount, "_ceiling", unbounded)
    monkeypatch.setattr(planning.Plan, "_earliest_start", earliest_start)


def limits_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: the configuration is read once and never again."""
    sound = RecordCache.lookup

    def lookup(self: RecordCache, key: Any) -> Any:
        value, _ = sound(self, key)
        return value, 0 if value is MISSING else 10**30

    monkeypatch.setattr(RecordCache, "lookup", lookup)


def the_future_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a busy period that begins in the future by this process's clock is ignored."""
    account, holds = planning.Plan._account, Update.holds

    def known(level: Level, now: int) -> Level:
        return Level() if level.since > now else level

    def of_the_past(self: Any, limit: Limit) -> Any:
        levels = {name: known(each, self.now) for name, each in self.view.state.levels.items()}
        self.view = self.view._replace(state=replace(self.view.state, levels=levels))
        return account(self, limit)

    def holds_of_the_past(self: Update, state: BucketState) -> bool:
        starts = {change.limit: change.value for change in self.changes if change.field == "since"}
        levels = {name: known(each, starts.get(name, 10**30)) for name, each in state.levels.items()}
        return holds(self, replace(state, levels=levels))

    monkeypatch.setattr(planning.Plan, "_account", of_the_past)
    monkeypatch.setattr(Update, "holds", holds_of_the_past)
