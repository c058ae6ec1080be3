# twin: sync_limiter.py
"""The rate limiter: what most programs use, and all that most programs use."""

from __future__ import annotations

import dataclasses
import logging
from functools import partial, wraps
from time import monotonic
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, get_args
from warnings import warn

from .acquirer import Call, Decider, OnUnavailable
from .administration import Administration
from .commit.breaker import Breaker
from .commit.committer import CommitterOptions
from .core import status
from .core.record_cache import CacheStatistics, RecordCache
from .core.resolution import Question, own_demand
from .core.share import Owed
from .core.validation import (
    check_amounts,
    check_callable,
    check_hook,
    check_limits,
    check_name,
    check_seconds,
    check_share,
    check_timeout,
    shown,
)
from .exceptions import LimiterError, RateLimitExceeded, ValidationError
from .memory_repository import MemoryRepository
from .models import Prefetch
from .outage.log import Degradation
from .runtime.concurrency import ProcessScope, Scope, check_function, check_store, note_blocking
from .runtime.entering import Entering
from .statistics import Counters, DecisionEvent, Statistics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from types import TracebackType

    from .lease import Lease
    from .models import Decision, Limit, LimitStatus
    from .repository_protocol import RepositoryProtocol

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("limiter")
_decisions = logging.getLogger("limiter.decisions")

MAX_RECORDS = 100_000
"""Stored limits and entities that are remembered, absent ones included."""


class RateLimiter(Administration):
    """Decides how much of which resource an entity may use, on limits shared by everybody who uses the same table.

    `limits` apply where nothing more specific does. `on_unavailable` says what happens when the table cannot be reached: "block"
    raises `RateLimiterUnavailable`, "allow" admits without counting, "local" limits within this process alone until it is back,
    at `local_share` of every limit (1 by default; with N processes, 1/N keeps them within the limit together), and then charges
    the table with what has not refilled. It counts as out of reach when a decision has not been made within `decision_timeout`
    seconds, or at once after repeated failures, until one call in some tenths of a second finds it again.
    Stored limits and entities are remembered for `config_ttl` seconds, and changes made elsewhere are in force after that; 0
    reads them at every call. A bucket that was seen empty refuses for up to `denial_ttl` seconds without another look; 0 always
    looks. `linger` is the least time in seconds between two writes of this process to one bucket, for fleets so large that they
    would exceed a partition's write units; it is added to the `decision_timeout`. `prefetch` takes units in advance, for callers
    that come one after another; see `Prefetch`. `on_decision` is called with a `DecisionEvent` after every decision, and must
    not block. `sleep` waits for a number of seconds; it is there for tests that own the repository's clock.
    One limiter serves any number of tasks, threads or greenlets; make one per process and keep it.
    """

    def __init__(
        self,
        repository: RepositoryProtocol,
        limits: Iterable[Limit] = (),
        on_unavailable: OnUnavailable = "block",
        *,
        config_ttl: float = 60.0,
        denial_ttl: float = 1.0,
        linger: float = 0.0,
        prefetch: Prefetch | None = None,
        decision_timeout: float = 1.0,
        local_share: float = 1.0,
        on_decision: Callable[[DecisionEvent], object] | None = None,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        check_store(repository)
        ttl = check_seconds("config_ttl", config_ttl)
        self._records_of_process = ProcessScope(partial(RecordCache, repository.clock, ttl, MAX_RECORDS))
        super().__init__(repository, self._records_of_process.get)
        self.limits = check_limits(limits)
        self.on_unavailable = _check_policy(on_unavailable)
        self.prefetch = _check_prefetch(prefetch)
        check_hook("on_decision", on_decision)
        check_callable("sleep", sleep)
        self._on_decision = on_decision
        options = CommitterOptions(
            check_seconds("denial_ttl", denial_ttl), check_seconds("linger", linger), _check_patience(decision_timeout), sleep
        )
        self._process = ProcessScope(partial(_Process, repository))
        make = partial(_decider, repository, options, check_share("local_share", local_share), share_fetches=ttl > 0)
        self._deciders = Scope(lambda: make(self._records(), self._process.get()))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.repository!r} limits=[{', '.join(map(str, self.limits))}]>"

    async def __aenter__(self) -> Self:
        await self.repository.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back what was taken in advance, and close the repository; a later call opens it again."""
        await self._deciders.get().committer.close()
        await self.repository.close()

    def acquire(
        self,
        entity_id: str = "default",
        resource: str = "default",
        consume: Mapping[str, int] | None = None,
        *,
        limits: Iterable[Limit] | None = None,
        timeout: float | None = None,
        on_unavailable: OnUnavailable | None = None,
        prefetch: Prefetch | None = None,
        refund_on_error: bool = True,
    ) -> Acquisition:
        """Take units for the length of an `async with` block, which receives the `Lease`.

        `consume` maps limit names to units; without it, 1 of every limit. `limits` replace stored and default ones for this call.
        With `timeout`, the seconds that the caller is willing to wait, it waits for its turn if that comes in time. When the
        block raises, everything taken is given back, unless `refund_on_error` is false.

        Raises, on entering, `RateLimitExceeded` when a limit stands in the way, its subclass `NeverSatisfiable` when the amount
        is above a capacity, `ValidationError` for unusable arguments, and `RateLimiterUnavailable` when the table cannot be
        reached.
        """
        note_blocking("acquire")
        call = partial(self._acquire, entity_id, resource, consume, limits, timeout, on_unavailable, prefetch)
        return Acquisition(call, refund_on_error=refund_on_error)

    async def try_acquire(
        self,
        entity_id: str = "default",
        resource: str = "default",
        consume: Mapping[str, int] | None = None,
        *,
        limits: Iterable[Limit] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as in acquire
        on_unavailable: OnUnavailable | None = None,
        prefetch: Prefetch | None = None,
    ) -> Decision:
        """Take units for good if they fit, and say whether they did; never raises `RateLimitExceeded`."""
        note_blocking("try_acquire")
        try:
            lease = await self._acquire(entity_id, resource, consume, limits, timeout, on_unavailable, prefetch)
        except RateLimitExceeded as error:
            return status.decide(error.statuses)
        return status.decide(lease.statuses)

    def stats(self) -> Statistics:
        """What this limiter has done in this process so far, and how its store is: one frozen value."""
        process = self._process.get()
        skew, transport = (getattr(self.repository, name, None) for name in ("skew", "transport"))
        return process.counters.statistics(process.breaker.state, skew, transport)

    @property
    def config_statistics(self) -> CacheStatistics:
        """How the cache of stored limits and entities has served this event loop, or this process, so far."""
        return self._deciders.get().config.statistics

    async def resolve_limits(self, entity_id: str, resource: str) -> tuple[Limit, ...]:
        """The limits that an acquire of this entity and resource would be decided by; empty when none apply."""
        question, _ = self._question(entity_id, resource, None, None)
        return (await self._deciders.get().chain(question))[0].limits

    async def check(
        self,
        entity_id: str = "default",
        resource: str = "default",
        consume: Mapping[str, int] | None = None,
        *,
        limits: Iterable[Limit] | None = None,
    ) -> Decision:
        """Whether the same acquire would be admitted now, by one consistent read; takes nothing."""
        note_blocking("check")
        question, amounts = self._question(entity_id, resource, consume, limits)
        seen = await self._deciders.get().look(question, amounts)
        now = self.repository.clock()
        statuses = [each for demand, state in seen for each in status.preview(demand.key, demand.charges, state, now)]
        return status.decide(statuses)

    def limited(
        self,
        entity_id: str | Callable[..., str] = "default",
        resource: str | Callable[..., str] = "default",
        consume: Mapping[str, int] | Callable[..., Mapping[str, int]] | None = None,
        *,
        limits: Iterable[Limit] | None = None,
        timeout: float | None = None,
        on_unavailable: OnUnavailable | None = None,
    ) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
        """Decorate a function so that each call runs inside an `acquire`.

        `entity_id`, `resource` and `consume` may be callables, which get the call's arguments.
        """
        kept = None if limits is None else check_limits(limits)

        def decorate(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
            check_function(function)

            @wraps(function)
            async def limited(*args: P.args, **kwargs: P.kwargs) -> T:
                entity, where, what = (_resolve(each, args, kwargs) for each in (entity_id, resource, consume))
                async with self.acquire(entity, where, what, limits=kept, timeout=timeout, on_unavailable=on_unavailable):
                    return await function(*args, **kwargs)

            return limited

        return decorate

    async def _acquire(
        self,
        entity_id: str,
        resource: str,
        consume: Mapping[str, int] | None,
        limits: Iterable[Limit] | None,
        timeout: float | None,  # noqa: ASYNC109 - as in acquire
        on_unavailable: OnUnavailable | None,
        prefetch: Prefetch | None,
    ) -> Lease:
        patience = check_timeout(timeout)
        advance = self.prefetch if prefetch is None else _check_prefetch(prefetch)
        policy = self.on_unavailable if on_unavailable is None else _check_policy(on_unavailable)
        question, amounts = self._question(entity_id, resource, consume, limits)
        decider, began = self._deciders.get(), monotonic()
        try:
            if question.given:
                status.check_satisfiable(own_demand(question, amounts))
            lease = await decider.decide(Call(question, amounts, patience, policy, advance))
        except RateLimitExceeded as error:
            decider.counters.add_decision(refused=True, degraded=error.degraded)
            self._tell(question, began, error.statuses, allowed=False, degraded=error.degraded)
            raise
        decider.counters.add_decision(refused=False, degraded=lease.degraded)
        if self._is_told:  # Statuses are worked out for those who look at them only.
            try:
                self._tell(question, began, lease.statuses, allowed=True, degraded=lease.degraded, waited=lease.waited)
            except BaseException:  # An interruption in the hook: no block will end, and give back what was taken.
                await lease.close(refund=True)
                raise
        return lease

    def _tell(
        self,
        question: Question,
        began: float,
        statuses: tuple[LimitStatus, ...],
        *,
        allowed: bool,
        degraded: bool = False,
        waited: float = 0.0,
    ) -> None:
        if not self._is_told:
            return
        seconds = max(0.0, monotonic() - began - waited)
        event = DecisionEvent(question.entity_id, question.resource, allowed, degraded, waited, seconds, statuses)
        if _decisions.isEnabledFor(logging.DEBUG):
            _debug(event, question.namespace)
        try:
            if self._on_decision is not None:
                self._on_decision(event)
        except Exception as error:
            fields = {"entity_id": event.entity_id, "resource": event.resource, "error": str(error)}
            _log.exception("on_decision raised, which changes no decision", extra=fields)

    @property
    def _is_told(self) -> bool:
        return self._on_decision is not None or _decisions.isEnabledFor(logging.DEBUG)

    def _question(
        self, entity_id: str, resource: str, consume: Mapping[str, int] | None, limits: Iterable[Limit] | None
    ) -> tuple[Question, dict[str, int] | None]:
        check_name("entity_id", entity_id)
        check_name("resource", resource)
        amounts = None if consume is None else check_amounts(consume)
        given = None if limits is None else check_limits(limits)
        return Question(self.repository.namespace, entity_id, resource, given, self.limits), amounts


class _Process:
    """What all event loops and threads of one process share: counts, the store's health as it is known, and a store to go on."""

    def __init__(self, repository: RepositoryProtocol) -> None:
        self.counters = Counters()
        self.breaker = Breaker()
        self.degradation = Degradation(repository.clock)
        self.owed = Owed()
        self.local = MemoryRepository(namespace=repository.namespace, clock=repository.clock)


def _decider(
    repository: RepositoryProtocol,
    options: CommitterOptions,
    share: float,
    records: RecordCache,
    process: _Process,
    *,
    share_fetches: bool,
) -> Decider:
    health = process.breaker, process.counters, process.degradation
    alone = process.local, process.owed
    return Decider(repository, records, options, *health, *alone, share=share, share_fetches=share_fetches)


class Acquisition(Entering):
    """The context manager that `acquire` returns; it may be entered once, and takes nothing before."""

    __slots__ = ("_call", "_entered", "_lease", "_refund_on_error")

    def __init__(self, call: partial[Any], *, refund_on_error: bool) -> None:
        self._call = call
        self._entered = False
        self._refund_on_error = refund_on_error
        self._lease: Lease | None = None

    def __repr__(self) -> str:
        entity_id, resource, *_ = self._call.args
        return f"<{type(self).__name__} {entity_id!r}/{resource!r}>"

    async def __aenter__(self) -> Lease:
        if self._entered:
            raise LimiterError("an acquire() can be entered once; call acquire() again for the next")
        self._entered = True
        self._lease = await self._call()
        return self._lease

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._lease is not None:
            await self._lease.close(refund=exc_type is not None and self._refund_on_error)

    def __del__(self) -> None:
        # As Python does for a coroutine that nobody has awaited: nothing was limited, and nothing else would tell.
        if not self._entered:
            warn(f"an acquire() was never entered, and limits nothing: {self.FORM}", RuntimeWarning, 2)


def _check_patience(decision_timeout: float) -> float:
    if not check_seconds("decision_timeout", decision_timeout):
        raise ValidationError(f"decision_timeout must be above 0 seconds, not {decision_timeout!r}")
    return float(decision_timeout)


def _check_policy(policy: str) -> OnUnavailable:
    if policy not in get_args(OnUnavailable):
        raise ValidationError(f"on_unavailable must be one of {', '.join(get_args(OnUnavailable))}, not {shown(policy)}")
    return policy  # type: ignore[return-value] # one of the literals, as just checked


def _check_prefetch(prefetch: object) -> Prefetch | None:
    if prefetch is not None and not isinstance(prefetch, Prefetch):
        raise ValidationError(f"prefetch must be a Prefetch, such as Prefetch(horizon=0.1, fraction=0.1), not {shown(prefetch)}")
    return prefetch


def _debug(event: DecisionEvent, namespace: str) -> None:
    violated = [status.limit.name for status in event.statuses if status.exceeded]
    fields = {each.name: getattr(event, each.name) for each in dataclasses.fields(event) if each.name != "statuses"}
    verdict = f"refused by {', '.join(violated)}" if violated else "admitted"
    extra = fields | {"namespace": namespace, "violated": violated}
    _decisions.debug("%s/%s %s", event.entity_id, event.resource, verdict, extra=extra)


def _resolve(value: Any, args: Any, kwargs: Any) -> Any:
    return value(*args, **kwargs) if callable(value) else value
