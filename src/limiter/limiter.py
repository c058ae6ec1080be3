# twin: sync_limiter.py
"""The rate limiter: arguments in, `Decision` or `Lease` out."""

from __future__ import annotations

import dataclasses
import logging
from functools import partial, wraps
from time import monotonic
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, get_args
from warnings import warn

from .acquirer import Acquirer, AcquirerSettings, Process
from .administration import Administration
from .commit.committer import CommitterOptions
from .core import status
from .core.call import Call, OnUnavailable
from .core.limits import check_amounts, check_limits
from .core.records import BucketKey
from .core.validation import check_callable, check_hook, check_name, check_seconds, check_share, check_timeout, shown
from .exceptions import LimiterError, ValidationError
from .lease import Lease
from .models import Decision, Prefetch
from .runtime.concurrency import check_function, check_store, note_blocking
from .runtime.entering import Entering
from .runtime.scope import LoopLocal, ProcessLocal
from .trail import NOTE, Trail

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping
    from types import TracebackType

    from .commit.charge import Admission
    from .core.limits import Limit
    from .core.record_cache import CacheStatistics
    from .repository_protocol import RepositoryProtocol
    from .statistics import DecisionEvent, LeaseEvent, Statistics

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("limiter")
_decisions = logging.getLogger("limiter.decisions")

_UNLOGGED = frozenset(("statuses", "buckets", "charges"))
"""What the log does not show of a decision."""


class RateLimiter(Administration):
    """Decides how much of a resource an entity may use, by limits shared by every process that uses the same table.

    Three ways to ask: `acquire` takes units for the length of a block, `try_acquire` takes them for good and returns a decision,
    `check` only looks. One limiter serves any number of tasks, threads or greenlets; make one per process and keep it.

    - `repository`: the store of buckets and stored limits.
    - `limits`: apply where nothing more specific does.
    - `on_unavailable`: what happens if the table cannot be reached. "block" fails closed: it raises `RateLimiterUnavailable`.
      "allow" fails open: it admits without counting. "local" limits within this process, and charges the table when it is back.
    - `config_ttl`: seconds for which stored limits and entities are remembered, and after which changes made elsewhere apply; 0
      reads them at every call.
    - `denial_ttl`: seconds for which a bucket that was seen empty refuses without another look; 0 always looks.
    - `linger`: the shortest interval in seconds between two writes of this process to one bucket, for fleets so large that they
      would exceed a partition's write units; it is added to the `decision_timeout`.
    - `prefetch`: takes units in advance, for callers that come one after another; see `Prefetch`.
    - `decision_timeout`: seconds after which the table counts as out of reach if a decision has not been made. After repeated
      failures it counts so at once, until a call every few tenths of a second finds it again.
    - `local_share`: the share of every limit that "local" allows; with N processes, 1/N keeps them within the limit together.
    - `on_decision`: called with a `DecisionEvent` after every decision; must not block. If it has a method `note`, that is called
      with a `LeaseEvent` for everything else that a call takes or gives back.
    - `sleep`: waits for a number of seconds, in tests that own the repository's clock.
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
        self._process = ProcessLocal(partial(Process, repository, check_seconds("config_ttl", config_ttl)))
        super().__init__(repository, lambda: self._process.get().records)
        self.limits = check_limits(limits)
        self.on_unavailable = _check_policy(on_unavailable)
        self.prefetch = _check_prefetch(prefetch)
        check_hook("on_decision", on_decision)
        check_callable("sleep", sleep)
        self._on_decision = on_decision
        options = CommitterOptions(
            check_seconds("denial_ttl", denial_ttl), check_seconds("linger", linger), _check_patience(decision_timeout), sleep
        )
        settings = AcquirerSettings(options, check_seconds("config_ttl", config_ttl), check_share("local_share", local_share))
        self._acquirers = LoopLocal(lambda: Acquirer(self._process.get(), settings))

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
        """Give back prefetched units, and close the repository; a later call opens it again."""
        await self._acquirers.get().committer.close()
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
        call = self._call(entity_id, resource, consume, limits, timeout, on_unavailable, prefetch)
        return Acquisition(self, call, refund_on_error=refund_on_error)

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
        call = self._call(entity_id, resource, consume, limits, timeout, on_unavailable, prefetch)
        admission, _ = await self._admit(call)
        return Decision.of(admission.statuses)

    def stats(self) -> Statistics:
        """What this limiter has done in this process so far, and how its store is: one frozen value."""
        process = self._process.get()
        skew, transport = (getattr(self.repository, name, None) for name in ("skew", "transport"))
        return process.counters.statistics(process.breaker.state, skew, transport)

    @property
    def config_statistics(self) -> CacheStatistics:
        """How the cache of stored limits and entities has served this event loop, or this process, so far."""
        return self._acquirers.get().config.statistics

    async def resolve_limits(self, entity_id: str, resource: str) -> tuple[Limit, ...]:
        """The limits that an acquire of this entity and resource would be decided by; empty when none apply."""
        return (await self._acquirers.get().chain(self._call(entity_id, resource)))[0].limits

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
        seen = await self._acquirers.get().look(self._call(entity_id, resource, consume, limits))
        now = self.repository.clock()
        statuses = [each for request, state in seen for each in status.preview(request.key, request.charges, state, now)]
        return Decision.of(statuses)

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

    async def _admit(self, call: Call) -> tuple[Admission, Trail | None]:
        """Decide a call, count it, and tell the hook, which is told on the trail what becomes of it."""
        acquirer, trail = self._acquirers.get(), self._trail(call)
        try:
            admission = await acquirer.acquire(call)
        except BaseException as error:
            if trail is not None and not isinstance(error, ValidationError):
                trail.failed(acquirer.config.known(call) or (), call.amounts)
            raise
        acquirer.counters.add_decision(refused=not admission.allowed, degraded=admission.degraded)
        if trail is not None:  # Statuses are computed for a hook that looks at them only.
            try:
                self._tell(trail.decision(call, admission), call.key.namespace)
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
        return Lease(admission, correct, trail)

    def _trail(self, call: Call) -> Trail | None:
        """What tells the hook and the log of a call; None if neither listens."""
        if self._on_decision is None and not _decisions.isEnabledFor(logging.DEBUG):
            return None
        note = None if getattr(self._on_decision, NOTE, None) is None else self._note
        process = self._process.get()
        return Trail(process.id, next(process.numbers), self.repository.clock, note, waits=call.patience > 0)

    def _tell(self, event: DecisionEvent, namespace: str) -> None:
        if _decisions.isEnabledFor(logging.DEBUG):
            _debug(event, namespace)
        if self._on_decision is not None:
            self._call_hook(self._on_decision, event, event.entity_id, event.resource)

    def _note(self, event: LeaseEvent) -> None:
        entity_id, resource = event.buckets[0] if event.buckets else ("", "")
        self._call_hook(getattr(self._on_decision, NOTE), event, entity_id, resource)

    def _call_hook(self, hook: Callable[[Any], object], event: object, entity_id: str, resource: str) -> None:
        try:
            hook(event)
        except Exception as error:
            fields = {"entity_id": entity_id, "resource": resource, "error": str(error)}
            _log.exception("on_decision raised, which changes no decision", extra=fields)

    def _call(
        self,
        entity_id: str,
        resource: str,
        consume: Mapping[str, int] | None = None,
        limits: Iterable[Limit] | None = None,
        timeout: float | None = None,
        on_unavailable: OnUnavailable | None = None,
        prefetch: Prefetch | None = None,
    ) -> Call:
        """Check the arguments of a call."""
        check_name("entity_id", entity_id)
        check_name("resource", resource)
        return Call(
            BucketKey(self.repository.namespace, entity_id, resource),
            None if consume is None else check_amounts(consume),
            None if limits is None else check_limits(limits),
            self.limits,
            check_timeout(timeout),
            self.on_unavailable if on_unavailable is None else _check_policy(on_unavailable),
            self.prefetch if prefetch is None else _check_prefetch(prefetch),
            monotonic(),
        )


class Acquisition(Entering):
    """The context manager that `acquire` returns; it may be entered once, and takes nothing before."""

    __slots__ = ("_call", "_entered", "_lease", "_limiter", "_refund_on_error")

    def __init__(self, limiter: RateLimiter, call: Call, *, refund_on_error: bool) -> None:
        self._limiter = limiter
        self._call = call
        self._entered = False
        self._refund_on_error = refund_on_error
        self._lease: Lease | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._call.key.entity_id!r}/{self._call.key.resource!r}>"

    async def __aenter__(self) -> Lease:
        if self._entered:
            raise LimiterError("an acquire() can be entered once; call acquire() again for the next")
        self._entered = True
        self._lease = await self._limiter._enter(self._call)
        return self._lease

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._lease is not None:
            await self._lease.close(refund=exc_type is not None and self._refund_on_error)

    def __del__(self) -> None:
        # As Python does for a coroutine that was never awaited: nothing was limited, and nothing else would tell.
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
    fields = {each.name: getattr(event, each.name) for each in dataclasses.fields(event) if each.name not in _UNLOGGED}
    verdict = f"refused by {', '.join(violated)}" if violated else "admitted"
    extra = fields | {"namespace": namespace, "violated": violated}
    _decisions.debug("%s/%s %s", event.entity_id, event.resource, verdict, extra=extra)


def _resolve(value: Any, args: Any, kwargs: Any) -> Any:
    return value(*args, **kwargs) if callable(value) else value
