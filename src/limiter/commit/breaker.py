"""A circuit breaker: while the store is down, calls are refused at once, except one at a time that tests whether it is back.

The pattern is Michael Nygard's ("Release It!", 2007). Any response of the store closes the breaker, even a refusal. Missing
responses and server errors open it. Throttling of a hot key is not an outage, because other keys are served.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..exceptions import CircuitOpen, RateLimiterUnavailable, Throttled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..statistics import BreakerState

_log = logging.getLogger("limiter.breaker")

THRESHOLD = 3
"""Failures in a row, each after its own retries, that open the breaker."""
REST = 0.3
"""Most seconds between two tests of a store that is down; at least half of it. The random part keeps processes out of step."""
LATE = 0.1
"""Seconds by which a deadline may be noticed late before that counts as this process's own load."""
PROBE = 10.0
"""Seconds after which an unfinished test counts as lost, for example because its event loop was stopped."""


def _rest() -> float:
    return REST * random.uniform(0.5, 1)  # noqa: S311 - spreads callers, hides nothing


class Attempt:
    """An attempt to reach the store. It `is_moot` if it ended before the store answered, because nothing was left to ask."""

    __slots__ = ("is_moot",)

    def __init__(self) -> None:
        self.is_moot = False


class Breaker:
    """Counts failures in a row and decides whether a call may be tried. Safe for threads.

    `monotonic` returns the time in seconds, `rest` the seconds until the next test.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, rest: Callable[[], float] = _rest) -> None:
        self._monotonic = monotonic
        self._rest = rest
        self._lock = threading.Lock()
        self.failures = 0
        """Failures in a row until now."""
        self._cause: RateLimiterUnavailable | None = None
        self._reopens = 0.0
        self._probe: object | None = None
        self._overdue = 0.0
        self.answered = 0.0
        """When the store last answered a call, in seconds of `monotonic`."""
        self.is_closed = True
        """Whether any call may be made."""

    @property
    def state(self) -> BreakerState:
        """Whether calls pass ("closed"), are refused ("open"), or one call tests the store ("half-open")."""
        if self.failures < THRESHOLD:
            return "closed"
        return "open" if self._probe is None else "half-open"

    @contextmanager
    def guard(self) -> Iterator[Attempt]:
        """Surround an attempt to reach the store and record how it ends; raises `CircuitOpen` if none may be made.

        Returns the attempt. If it waits before its call, it asks for a `refusal` again after that.
        """
        attempt = Attempt()
        self._enter(attempt)
        try:
            yield attempt
        except CircuitOpen:
            self._withdraw(attempt)  # The store was not asked, because others have failed.
            raise
        except Throttled as error:
            self._end(attempt, None if error.hot_key else error)
            raise
        except RateLimiterUnavailable as error:
            self._end(attempt, error)
            raise
        except Exception:
            self._end(attempt, None)
            raise
        except BaseException:
            self._withdraw(attempt)  # An interruption says nothing about the store.
            raise
        if attempt.is_moot:
            self._withdraw(attempt)
        else:
            self._end(attempt, None)

    def note_answer(self) -> None:
        """Record that the store has responded to a call."""
        self.answered = self._monotonic()

    def note_recovery(self) -> None:
        """Record, after `failures`, that the store has responded to a call outside of a guard."""
        self._end(object(), None)

    @staticmethod
    def extended(deadline: float, now: float, renewed: float) -> float:
        """Return the next deadline of a caller whose deadline has passed at `now`: `renewed`, if that is in the future.

        If the deadline was noticed late, this process was too busy to see responses. Then the caller gets that much more time.
        """
        late = now - deadline
        return now + late if renewed <= now and late > LATE else renewed

    def refusal(self, attempt: object = None) -> CircuitOpen | None:
        """Return the reason why the store must not be asked now; None if it may be, although another caller may be first.

        The `attempt` that tests the store may ask it.
        """
        if self.failures < THRESHOLD:
            return None
        with self._lock:
            return None if attempt is not None and self._probe is attempt else self._refusal()

    def _refusal(self) -> CircuitOpen | None:
        now = self._monotonic()
        if self.failures < THRESHOLD or now >= (self._reopens if self._probe is None else self._overdue):
            return None
        what = f"it is not asked again for {self._reopens - now:.1f} s" if self._probe is None else "one caller asks it now"
        error = CircuitOpen(f"the table has not answered; {what}")
        error.__cause__ = self._cause
        return error

    def _enter(self, attempt: object) -> None:
        if self.failures < THRESHOLD:
            return
        with self._lock:
            refusal = self._refusal()
            if refusal is not None:
                raise refusal
            if self.failures >= THRESHOLD:
                self._probe, self._overdue = attempt, self._monotonic() + PROBE

    def _end(self, attempt: object, failure: RateLimiterUnavailable | None) -> None:
        if failure is None and not self.failures and self._probe is not attempt:
            return
        with self._lock:
            before = self.failures
            self._release(attempt)
            self._cause = failure
            self.failures = 0 if failure is None else self.failures + 1
            self.is_closed = self.failures < THRESHOLD
            if failure is not None:
                self._reopens = self._monotonic() + self._rest()
        if failure is None and before >= THRESHOLD:
            _log.info("the table answers again: the breaker is closed", extra={"failures": before})
        elif failure is not None and before == THRESHOLD - 1:
            fields = {"failures": THRESHOLD, "error": str(failure)}
            _log.warning("the table has failed %d times in a row: the breaker is open: %s", THRESHOLD, failure, extra=fields)

    def _withdraw(self, attempt: object) -> None:
        with self._lock:
            self._release(attempt)

    def _release(self, attempt: object) -> None:
        if self._probe is attempt:
            self._probe = None
