# twin: sync_limiter.py
"""The rate limiter: what most programs use, and all that most programs use."""

from __future__ import annotations

import asyncio
import logging
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, get_args

from . import decision, gcra
from ._compat import ProcessScope, Scope, check_function, check_store, gather, note_blocking, shielded
from .administration import Administration
from .charging import Verdict, charge
from .committer import Committer, CommitterOptions
from .config import Question, own_demand
from .config_cache import ConfigCache
from .demand import demands
from .exceptions import LimiterError, NeverSatisfiable, RateLimiterUnavailable, RateLimitExceeded, ValidationError
from .lease import Lease
from .memory_repository import MemoryRepository
from .models import Prefetch
from .record_cache import CacheStatistics, RecordCache
from .validation import check_amounts, check_limits, check_name, check_timeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from .demand import Bucket, Demand
    from .models import Decision, Limit, LimitStatus
    from .repository_protocol import RepositoryProtocol

P = ParamSpec("P")
T = TypeVar("T")
OnUnavailable = Literal["block", "allow", "local"]

_log = logging.getLogger("limiter")

MAX_RECORDS = 100_000
"""Stored limits and entities that are remembered, absent ones included."""


class RateLimiter(Administration):
    """Decides how much of which resource an entity may use, on limits shared by everybody who uses the same table.

    `limits` apply where nothing more specific does. `on_unavailable` says what happens when the table cannot be reached: "block"
    raises `RateLimiterUnavailable`, "allow" admits without counting, "local" limits within this process alone until it is back.
    Stored limits and entities are remembered for `config_ttl` seconds, and changes made elsewhere are in force after that; 0
    reads them at every call. A bucket that was seen empty refuses for up to `denial_ttl` seconds without another look; 0 always
    looks. `linger` is the least time in seconds between two writes of this process to one bucket, for fleets so large that they
    would exceed a partition's write units. `prefetch` takes units in advance, for callers that come one after another; see
    `Prefetch`. `sleep` waits for a number of seconds; it is there for tests that own the repository's clock.
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
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        check_store(repository)
        ttl = check_timeout(config_ttl, "config_ttl")
        self._records_of_process = ProcessScope(partial(RecordCache, repository.clock, ttl, MAX_RECORDS))
        super().__init__(repository, self._records_of_process.get)
        self.limits = check_limits(limits)
        self.on_unavailable = _check_policy(on_unavailable)
        self._sleep = sleep
        self.prefetch = _check_prefetch(prefetch)
        options = CommitterOptions(check_timeout(denial_ttl, "denial_ttl"), check_timeout(linger, "linger"), sleep)
        self._cores = Scope(partial(_Core, repository, self._records, options, share=ttl > 0))

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
        await self._cores.get().committer.close()
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
            return decision.decide(error.statuses)
        return decision.decide(lease.statuses)

    @property
    def config_statistics(self) -> CacheStatistics:
        """How the cache of stored limits and entities has served this event loop, or this process, so far."""
        return self._cores.get().config.statistics

    async def resolve_limits(self, entity_id: str, resource: str) -> tuple[Limit, ...]:
        """The limits that an acquire of this entity and resource would be decided by; empty when none apply."""
        question, _ = self._question(entity_id, resource, None, None)
        return (await self._cores.get().config.chain(question))[0].limits

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
        asked = demands(await self._cores.get().config.chain(question), amounts)
        calls = [partial(self.repository.read_bucket, demand.key) for demand in asked]
        states = await gather(calls)
        now = self.repository.clock()
        statuses: list[LimitStatus] = []
        for demand, state in zip(asked, states, strict=True):
            if isinstance(state, BaseException):
                raise state
            statuses += decision.preview(demand.key, demand.charges, state, now)
        return decision.decide(statuses)

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
        if question.given:
            _check_satisfiable(own_demand(question, amounts))
        core = self._cores.get()
        try:
            return await self._take(core.committer, await core.config.chain(question), amounts, patience, advance)
        except RateLimiterUnavailable as error:
            if policy == "block":
                raise
            _log.warning("limiting %s/%s without the table (%s): %s", entity_id, resource, policy, error)
        chain = core.config.remembered(question)
        if policy == "local":
            return await self._take(core.fallback, chain, amounts, patience, None, degraded=True)
        return Lease(None, chain, Verdict(), demands(chain, amounts), degraded=True)

    def _question(
        self, entity_id: str, resource: str, consume: Mapping[str, int] | None, limits: Iterable[Limit] | None
    ) -> tuple[Question, dict[str, int] | None]:
        check_name("entity_id", entity_id)
        check_name("resource", resource)
        amounts = None if consume is None else check_amounts(consume)
        given = None if limits is None else check_limits(limits)
        return Question(self.repository.namespace, entity_id, resource, given, self.limits), amounts

    async def _take(
        self,
        committer: Committer,
        chain: Sequence[Bucket],
        amounts: Mapping[str, int] | None,
        patience: int,
        prefetch: Prefetch | None,
        *,
        degraded: bool = False,
    ) -> Lease:
        asked = demands(chain, amounts)
        _check_satisfiable(asked)
        clock = self.repository.clock
        verdict = await charge(committer, asked, clock() + patience, prefetch)
        if not verdict.allowed:
            raise RateLimitExceeded(verdict.statuses)
        delay = max(0, verdict.start - clock()) / gcra.NANOSECONDS
        lease = Lease(committer, chain, verdict, asked, waited=delay, degraded=degraded)
        if delay:
            await self._wait(committer, verdict, delay)
        return lease

    async def _wait(self, committer: Committer, verdict: Verdict, delay: float) -> None:
        try:
            await (self._sleep or asyncio.sleep)(delay)
        except BaseException:
            calls = [partial(committer.give_back, demand.key, grant.receipts) for demand, grant in verdict.grants]
            await shielded(gather(calls))
            raise


class _Core:
    """What belongs to one event loop, or to all threads of a process: open writes, fetches under way."""

    def __init__(
        self, repository: RepositoryProtocol, records: Callable[[], RecordCache], options: CommitterOptions, *, share: bool
    ) -> None:
        self.committer = Committer(repository, options)
        self.fallback = Committer(MemoryRepository(namespace=repository.namespace, clock=repository.clock), options)
        self.config = ConfigCache(repository, records(), self.committer.observe, share=share)


class Acquisition:
    """The context manager that `acquire` returns; it may be entered once."""

    def __init__(self, call: Callable[[], Awaitable[Lease]], *, refund_on_error: bool) -> None:
        self._call: Callable[[], Awaitable[Lease]] | None = call
        self._refund_on_error = refund_on_error
        self._lease: Lease | None = None

    async def __aenter__(self) -> Lease:
        call, self._call = self._call, None
        if call is None:
            raise LimiterError("an acquire() can be entered once; call acquire() again for the next")
        self._lease = await call()
        return self._lease

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._lease is not None:
            await self._lease.close(refund=exc_type is not None and self._refund_on_error)


def _check_satisfiable(asked: Sequence[Demand]) -> None:
    never = [status for each in asked for status in decision.never_satisfiable(each.key, each.charges)]
    if never:
        raise NeverSatisfiable(tuple(never))


def _check_policy(policy: str) -> OnUnavailable:
    if policy not in get_args(OnUnavailable):
        raise ValidationError(f"on_unavailable must be one of {', '.join(get_args(OnUnavailable))}, not {policy!r}")
    return policy  # type: ignore[return-value] # one of the literals, as just checked


def _check_prefetch(prefetch: object) -> Prefetch | None:
    if prefetch is not None and not isinstance(prefetch, Prefetch):
        raise ValidationError(f"prefetch must be a Prefetch, such as Prefetch(horizon=0.1, fraction=0.1), not {prefetch!r}")
    return prefetch


def _resolve(value: Any, args: Any, kwargs: Any) -> Any:
    return value(*args, **kwargs) if callable(value) else value
