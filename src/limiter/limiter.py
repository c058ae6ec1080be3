# twin: sync_limiter.py
"""The rate limiter: arguments in, `Decision` or `Lease` out."""

from __future__ import annotations

import logging
import sys
from copy import copy
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, TypeVar

from .acquirer import Acquirer, AcquirerSettings, Process
from .acquisition import Acquisition
from .administration import Administration
from .bucket_control import BucketControl
from .commit.writer import CommitterOptions
from .core.call import Call, OnUnavailable, check_also, check_policy
from .core.chain import own_amounts
from .core.headroom import check_headroom
from .core.limits import Access, check_limits
from .core.records import BucketKey
from .core.refund_policy import RefundOnError, check_refund_policy
from .core.validation import (
    check_asked,
    check_callable,
    check_count,
    check_duration,
    check_flag,
    check_hook,
    check_seconds,
    check_share,
    check_timeout,
)
from .core.visible import visible
from .exceptions import ValidationError
from .lease import Lease
from .runtime.concurrency import check_store, note_blocking
from .runtime.decorating import check_no_function, decorate, the_function
from .runtime.scope import LoopLocal, ProcessLocal
from .trail import Hook, Trail, decisions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from types import TracebackType

    from .commit.charge import Admission
    from .core.call import Also
    from .core.chain import Bucket
    from .core.headroom import Headroom
    from .core.records import Limits
    from .core.request import Grant, Request
    from .events import DecisionEvent
    from .models import BaseLimit, Decision
    from .repository_protocol import RepositoryProtocol
    from .statistics import CacheStatistics, Statistics

F = TypeVar("F", bound="Callable[..., Any]")
L = TypeVar("L")

_log = logging.getLogger("limiter")


class RateLimiter(BucketControl, Administration):
    """Decides how much of a resource an entity may use, by limits shared by every process that uses the same table.

    There are three ways to ask: `acquire` consumes units for the length of a block, `try_acquire` consumes them and returns a
    decision, `check` only looks. One limiter serves any number of tasks, threads or greenlets; make one per process and keep it.

    - `repository`: the store of buckets and stored limits.
    - `limits`: the limits that apply if no stored level does.
    - `on_unavailable`: what happens if the table cannot be reached. "block" fails closed: it raises `RateLimiterUnavailable`.
      "allow" fails open: calls are allowed and not counted. "local" limits within this process, and charges the table later.
    - `config_ttl`: seconds for which stored limits and entities are remembered, and after which changes made elsewhere apply; 0
      reads what was written last at every call.
    - `denial_ttl`: seconds for which a bucket that was seen empty refuses without another look; 0 always looks.
    - `linger`: the shortest interval in seconds between two writes of this process to one bucket, which saves writes where many
      callers share them; it is added to the `decision_timeout`.
    - `writes_per_key`: the most writes a second to one bucket by all processes together, which keep it by waiting for one
      another; lower where less is provisioned. A process that is alone at a bucket does not wait.
    - `decision_timeout`: seconds after which the table counts as out of reach if a decision has not been made. After repeated
      failures it counts so at once, until a call every few tenths of a second finds it again.
    - `local_share`: the share of every limit that "local" allows; with N processes, 1/N keeps them within the limit together.
    - `on_decision`: called with a `DecisionEvent` after every decision; must not block. If it has a method `note`, that is called
      with a `LeaseEvent` for everything else that a call takes or gives back.
    - `sleep`: waits for a number of seconds, in tests that own the repository's clock.
    - `stored`: with False, limits come from code only. Nothing but buckets is read, so that a first acquire is one call.
    """

    def __init__(
        self,
        repository: RepositoryProtocol,
        limits: Iterable[BaseLimit] | Access = (),
        on_unavailable: OnUnavailable = "block",
        *,
        config_ttl: float = 60.0,
        denial_ttl: float = 1.0,
        linger: float = 0.0,
        writes_per_key: int = 700,
        decision_timeout: float = 1.0,
        local_share: float = 1.0,
        on_decision: Callable[[DecisionEvent], object] | None = None,
        sleep: Callable[[float], Awaitable[None]] | None = None,
        stored: bool = True,
    ) -> None:
        check_store(repository)
        self._process = ProcessLocal(partial(Process, repository, check_seconds("config_ttl", config_ttl)))
        super().__init__(repository, lambda: self._process.get().records, stored=check_flag("stored", stored))
        self.limits = check_limits(limits)
        self.on_unavailable = check_policy(on_unavailable)
        check_hook("on_decision", on_decision)
        check_callable("sleep", sleep)
        self._hook = Hook(on_decision)
        options = CommitterOptions(
            check_seconds("denial_ttl", denial_ttl),
            check_seconds("linger", linger),
            check_duration("decision_timeout", decision_timeout),
            sleep,
            writes_per_key=check_count("writes_per_key", writes_per_key),
        )
        settings = AcquirerSettings(
            options, check_seconds("config_ttl", config_ttl), check_share("local_share", local_share), stored
        )
        self._acquirers = LoopLocal(lambda: Acquirer(self._process.get(), settings))
        self._options = {
            "limits": self.limits,
            "on_unavailable": on_unavailable,
            "config_ttl": config_ttl,
            "denial_ttl": denial_ttl,
            "linger": linger,
            "writes_per_key": writes_per_key,
            "decision_timeout": decision_timeout,
            "local_share": local_share,
            "on_decision": on_decision,
            "sleep": sleep,
            "stored": stored,
        }

    def __repr__(self) -> str:
        limits = self.limits if isinstance(self.limits, Access) else f"[{', '.join(map(str, self.limits))}]"
        return f"<{type(self).__name__} {self.repository!r} limits={visible(str(limits))}>"

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[object, ...]]:
        """Pickle and copy the configuration, the repository's included: what arrives opens anew, and holds no units."""
        return _remake, (type(self), self.repository, self._options)

    def __copy__(self) -> Self:
        return _remake(type(self), copy(self.repository), self._options)

    async def __aenter__(self) -> Self:
        await self.repository.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Renew no slots, give back units of quotas that were consumed in advance, and close the repository.

        A later call opens it again, and slots are renewed from the next ones on that are taken.
        """
        await self._acquirers.get().committer.close()
        await self.repository.close()

    def acquire(
        self,
        entity_id: str = "default",
        resource: str = "default",
        consume: Mapping[str, int] | None = None,
        *,
        also: Also = (),
        limits: Iterable[BaseLimit] | Access | None = None,
        timeout: float | None = None,
        on_unavailable: OnUnavailable | None = None,
        headroom: Headroom = None,
        oversize: bool = False,
        refund_on_error: RefundOnError = True,
    ) -> Acquisition:
        """Consume units for the length of the `async with` block, which receives the `Lease`.

        `consume` maps limit names to units; without it, 1 of every limit. `limits` replace stored and default ones for this call;
        UNLIMITED and BLOCKED replace a list. `also` names more targets, as pairs of an entity and a resource or triples
        with amounts of their own; all buckets are charged, or none.

        With `timeout`, the seconds that the caller is willing to wait, it waits for its turn if that comes in time. `headroom` is
        the share of every capacity to leave to others, or a share for each limit by name. With `oversize` an amount above a
        capacity is allowed when the bucket is full, into debt.

        If the block raises, everything consumed is refunded, except what `lease.keep()` was called for. `refund_on_error` changes
        that: with False nothing is refunded; with an exception type, or a tuple of types, only for those errors; with a function
        of the exception, if it returns true.

        On entering, raises `RateLimitExceeded` if a limit refuses, its subclass `NeverSatisfiable` if the amount
        is above a capacity, `ValidationError` for unusable arguments, and `RateLimiterUnavailable` when the table cannot be
        reached.
        """
        note_blocking("acquire")
        call = self._call(entity_id, resource, consume, also, limits, timeout, on_unavailable, headroom, oversize=oversize)
        policy = refund_on_error if refund_on_error is True else check_refund_policy(refund_on_error)
        caller = sys._getframe(1)
        return Acquisition(self._enter, call, policy, (caller.f_code, caller.f_lasti))

    async def try_acquire(
        self,
        entity_id: str = "default",
        resource: str = "default",
        consume: Mapping[str, int] | None = None,
        *,
        also: Also = (),
        limits: Iterable[BaseLimit] | Access | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as in acquire
        on_unavailable: OnUnavailable | None = None,
        headroom: Headroom = None,
        oversize: bool = False,
    ) -> Decision:
        """Consume units if they fit, and return whether they did; never raises `RateLimitExceeded`."""
        note_blocking("try_acquire")
        call = self._call(
            entity_id,
            resource,
            consume,
            also,
            limits,
            timeout,
            on_unavailable,
            headroom,
            oversize=oversize,
            for_good=True,
        )
        if call.amounts == {} and all(target.amounts == {} for target in call.also):
            raise ValidationError(
                "consume is empty, so this would consult no limit: name an amount, or leave consume out for 1 of every limit"
            )
        admission, _ = await self._admit(call)
        return admission.decision if admission.allowed else admission.refusal().decision

    def stats(self) -> Statistics:
        """Return what this limiter has done in this process so far, and the state of its store, as one frozen value."""
        process = self._process.get()
        skew, transport = (getattr(self.repository, name, None) for name in ("skew", "transport"))
        in_use = None if transport is None else (transport.name, transport.reason)
        return process.counters.statistics(process.breaker.state, skew, in_use)

    @property
    def config_statistics(self) -> CacheStatistics:
        """How the cache of stored limits and entities has served this event loop, or in the sync version this process, so far."""
        return self._acquirers.get().config.statistics

    async def resolve_limits(self, entity_id: str, resource: str) -> Limits:
        """Return the limits that an acquire of this entity and resource would be decided by; empty if none apply."""
        own = (await self._acquirers.get().chain(self._call(entity_id, resource)))[0]
        return own.access or own.limits

    async def check(
        self,
        entity_id: str = "default",
        resource: str = "default",
        consume: Mapping[str, int] | None = None,
        *,
        also: Also = (),
        limits: Iterable[BaseLimit] | Access | None = None,
        headroom: Headroom = None,
        oversize: bool = False,
    ) -> Decision:
        """Return whether the same acquire would be allowed now, by one consistent read; consumes nothing."""
        note_blocking("check")
        call = self._call(entity_id, resource, consume, also, limits, headroom=headroom, oversize=oversize)
        return await self._acquirers.get().check(call)

    def limited(
        self,
        entity_id: str | Callable[..., str] = "default",
        resource: str | Callable[..., str] = "default",
        consume: Mapping[str, int] | Callable[..., Mapping[str, int]] | None = None,
        *,
        also: Also | Callable[..., Also] = (),
        limits: Iterable[BaseLimit] | Access | None = None,
        timeout: float | None = None,
        on_unavailable: OnUnavailable | None = None,
        headroom: Headroom = None,
        oversize: bool = False,
        refund_on_error: RefundOnError = True,
    ) -> Callable[[F], F]:
        """Decorate a function so that each call runs inside an `acquire`, which takes the same options.

        Works for coroutine functions and for async generator functions, where the lease is held for as long as the generator
        runs. `entity_id`, `resource`, `consume` and `also` may be functions of the call's arguments.

        A call that raises is refunded, even if a client disconnects while a generator runs. If failures have to count, such as
        those of a login, pass `refund_on_error=False`.
        """
        check_no_function(entity_id)
        kept = self._call("default", "default", None, (), limits, timeout, on_unavailable).limits
        options: dict[str, Any] = {
            "limits": kept,
            "timeout": timeout,
            "on_unavailable": on_unavailable,
            "headroom": check_headroom(headroom, oversize=oversize),
            "oversize": oversize,
            "refund_on_error": check_refund_policy(refund_on_error),
        }

        def enter(args: Any, kwargs: Any) -> Acquisition:
            entity, where, what, others = (_resolve(each, args, kwargs) for each in (entity_id, resource, consume, also))
            return self.acquire(entity, where, what, also=others, **options)

        return lambda *function, **named: decorate(the_function(function, named), enter)

    async def _order(self, entity_id: str, resource: str, order: Callable[[Bucket], Request]) -> Grant | None:
        call = self._call(entity_id, resource)
        acquirer, trail = self._acquirers.get(), self._trail(call)
        if trail is None:
            return await acquirer.order(call, order)
        try:
            grant = await acquirer.order(call, trail.ordering(order))
        except BaseException:
            trail.ordered(written=False)
            raise
        trail.ordered(written=True)
        return grant

    def _now(self) -> int:
        return self.repository.clock()

    async def _admit(self, call: Call) -> tuple[Admission, Trail | None]:
        """Decide a call, count it, and tell the hook, which is told on the trail what becomes of it."""
        acquirer, trail = self._acquirers.get(), self._trail(call)
        try:
            admission = await acquirer.acquire(call)
        except BaseException as error:
            if trail is not None and not isinstance(error, ValidationError):
                trail.failed(call, acquirer.charged(call))
            raise
        acquirer.counters.add_decision(refused=not admission.allowed, degraded=admission.degraded)
        if trail is not None:  # Statuses are computed for a hook that looks at them only.
            try:
                self._hook.tell(trail.decision(call, admission), call.key.namespace)
            except BaseException:  # An interruption in the hook: no block will end, and give back what was taken.
                await admission.refund()
                raise
        return admission, trail

    async def _enter(self, call: Call) -> Lease:
        """Take what the call asks for; raises `RateLimitExceeded` if a limit stands in the way."""
        admission, trail = await self._admit(call)
        if not admission.allowed:
            raise admission.refusal()
        correct = None if call.on_unavailable == "block" else partial(self._acquirers.get().fallback.correct, call)
        amounts = own_amounts(admission.chain, call) if call.amounts is None else dict(call.amounts)
        return Lease(admission, amounts, correct, trail)

    def _trail(self, call: Call) -> Trail | None:
        """Return what tells the hook and the log of a call; None if neither listens."""
        if self._hook.listener is None and not decisions.isEnabledFor(logging.DEBUG):
            return None
        process = self._process.get()
        return Trail(process.id, next(process.numbers), self.repository.clock, self._hook.note, waits=call.patience > 0)

    def _call(
        self,
        entity_id: str,
        resource: str,
        consume: Mapping[str, int] | None = None,
        also: Also = (),
        limits: Iterable[BaseLimit] | Access | None = None,
        timeout: float | None = None,
        on_unavailable: OnUnavailable | None = None,
        headroom: Headroom = None,
        *,
        oversize: bool = False,
        for_good: bool = False,
    ) -> Call:
        """Check the arguments of a call."""
        amounts = check_asked(entity_id, resource, consume)
        key = BucketKey(self.repository.namespace, entity_id, resource)
        return Call(
            key,
            amounts,
            None if limits is None else check_limits(limits),
            self.limits,
            0 if timeout is None else check_timeout(timeout),
            self.on_unavailable if on_unavailable is None else check_policy(on_unavailable),
            monotonic(),
            () if also == () else check_also(also, key, amounts),
            None if headroom is None else check_headroom(headroom, oversize=oversize),
            oversize if oversize is False else check_flag("oversize", oversize),
            for_good,
        )


def _remake(kind: Callable[..., L], repository: RepositoryProtocol, options: Mapping[str, Any]) -> L:
    return kind(repository, **options)


def _resolve(value: Any, args: Any, kwargs: Any) -> Any:
    return value(*args, **kwargs) if callable(value) else value
