"""A Celery task that runs when its limits allow it, and goes back to the queue when they do not.

    @app.task(base=LimitedTask, limiter=limiter, entity=lambda user, text: user, resource="mail")
    def send(user, text): ...

Celery's own `rate_limit` applies to each worker; this applies to all together. `LimitedTask` is made on first use, because it
subclasses `celery.Task`: importing this module does not import Celery. Needs `pip install "dynamodb-limiter[celery]"`.
"""

from __future__ import annotations

import inspect
import random
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from .. import ConfigurationError, LimiterError, RateLimiterUnavailable, RateLimitExceeded
from .extras import check_sync_limiter, derive, not_installed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .. import SyncRateLimiter

    LimitedTask: Any

__all__ = ["LimitedTask"]

VISIBILITY_TIMEOUT = 1800.0
"""Seconds after which a broker redelivers an unacknowledged task; the least of kombu's defaults (SQS)."""
UNAVAILABLE_COUNTDOWN = 5.0
"""Seconds before the next attempt if the table could not be reached."""


class _Limited:
    """A task that is charged before it runs; when refused it is sent back to the queue, without using up its retries.

    Options of `@app.task`, or attributes of a subclass:

    - `limiter`: a `SyncRateLimiter`, or a callable that returns one. One limiter, made before the pool forks, serves all.
    - `entity`, `resource`, `consume`: values, or callables of the task's arguments. `entity` returning None exempts a call. The
      resource is the task's name by default.
    - `timeout`: seconds that the worker waits for the task's turn before it sends the task back, 0 by default.
    - `refund_on_error`: whether the units of a task that raises are refunded, False by default.
    - `max_countdown`: the longest countdown in seconds. By default half of the broker's visibility timeout, since a broker
      delivers a task again that a worker holds for longer. A task whose turn is later asks again then.

    The task's body finds its `SyncLease` in `self.request.lease` (with `bind=True`), and can `adjust` it. An amount above a
    capacity fails the task with `NeverSatisfiable`. Direct calls, without the queue, are not limited; eager ones raise
    `RateLimitExceeded`.
    """

    abstract: ClassVar[bool] = True
    limiter: ClassVar[SyncRateLimiter | Callable[[], SyncRateLimiter] | None] = None
    entity: ClassVar[str | Callable[..., str | None]] = "default"
    resource: ClassVar[str | Callable[..., str] | None] = None
    consume: ClassVar[Mapping[str, int] | Callable[..., Mapping[str, int]] | None] = None
    timeout: ClassVar[float | None] = None
    refund_on_error: ClassVar[bool] = False
    max_countdown: ClassVar[float | None] = None

    if TYPE_CHECKING:
        name: str
        request: Any
        app: Any
        run: Any
        signature_from_request: Any

    def entity_for(self, *args: Any, **kwargs: Any) -> str | None:
        """Return the entity that a call with these arguments is charged to; None exempts the call."""
        entity: str | None = self._option("entity", args, kwargs)
        return entity

    def resource_for(self, *args: Any, **kwargs: Any) -> str:
        """Return the resource that a call with these arguments uses."""
        return self._option("resource", args, kwargs) or self.name

    def consume_for(self, *args: Any, **kwargs: Any) -> Mapping[str, int] | None:
        """Return the amounts of a call with these arguments; None for 1 of every limit."""
        amounts: Mapping[str, int] | None = self._option("consume", args, kwargs)
        return amounts

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task if its limits allow it; Celery's tracer calls this in the worker."""
        if self.request.called_directly:
            return super().__call__(*args, **kwargs)  # type: ignore[misc] # Task's
        entity = self.entity_for(*args, **kwargs)
        if entity is None:
            return self.run(*args, **kwargs)
        with ExitStack() as stack:
            try:
                self.request.lease = stack.enter_context(
                    self._limiter().acquire(
                        entity,
                        self.resource_for(*args, **kwargs),
                        self.consume_for(*args, **kwargs),
                        timeout=self.timeout,
                        refund_on_error=self.refund_on_error,
                    )
                )
            except RateLimitExceeded as refusal:
                self._send_back(refusal, refusal.retry_after, args, kwargs)
            except RateLimiterUnavailable as error:
                self._send_back(error, UNAVAILABLE_COUNTDOWN, args, kwargs)
            return self.run(*args, **kwargs)

    def _send_back(self, error: LimiterError, seconds: float | None, args: Any, kwargs: Any) -> NoReturn:
        if seconds is None or self.request.is_eager:
            raise error
        from celery.exceptions import Retry

        # At random, so that tasks that were refused together do not return together.
        countdown = min(seconds + random.uniform(0.0, max(1.0, seconds)), self._longest())  # noqa: S311 - spreads, hides nothing
        retries = self.request.retries
        again = self.signature_from_request(self.request, args, kwargs, countdown=countdown, retries=retries)
        again.apply_async()
        raise Retry(str(error), exc=error, when=countdown, sig=again)

    def _longest(self) -> float:
        if self.max_countdown is not None:
            return self.max_countdown
        options = self.app.conf.broker_transport_options or {}
        return float(options.get("visibility_timeout", VISIBILITY_TIMEOUT)) / 2

    def _limiter(self) -> SyncRateLimiter:
        limiter: Any = inspect.getattr_static(type(self), "limiter")
        if limiter is None:
            raise ConfigurationError(
                f"task {self.name!r} has no limiter: @app.task(base=LimitedTask, limiter=SyncRateLimiter(...))"
            )
        made: SyncRateLimiter = limiter() if callable(limiter) else limiter
        check_sync_limiter(made, self)
        return made

    def _option(self, name: str, args: Any, kwargs: Any) -> Any:
        # Celery makes options attributes of a class, and a class would bind functions.
        option = inspect.getattr_static(type(self), name)
        return option(*args, **kwargs) if callable(option) else option


def __getattr__(name: str) -> Any:
    if name != "LimitedTask":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from celery import Task
    except ImportError as error:
        raise not_installed("Celery", "celery", error) from error
    return derive(globals(), name, _Limited, Task)
