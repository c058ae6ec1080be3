"""How long to wait between looks, how long altogether, and how often to try again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..exceptions import StackBusy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRST_LOOK, SLOWEST_LOOK, GROWTH = 1.0, 5.0, 1.3
RETRY_DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before each further attempt of a call that was throttled or got no answer: half a minute in all."""


class Pacing:
    """Says how long to wait before the next look, until `timeout` seconds have passed since it was made."""

    def __init__(self, stack: str, timeout: float, clock: Callable[[], float]) -> None:
        self._stack = stack
        self._timeout = timeout
        self._clock = clock
        self._end = clock() + timeout

    def delays(self) -> Iterator[float]:
        """Seconds before each next look, slower and slower; raises `StackBusy` when the time is over."""
        delay = FIRST_LOOK
        while True:
            left = self._end - self._clock()
            if left <= 0:
                raise StackBusy(
                    f"stack {self._stack!r} was not finished within {self._timeout:g} s; the operation goes on in AWS. Run the "
                    f"same command again to go on waiting, or see how it does: limiter status {self._stack}"
                )
            yield min(delay, left)
            delay = min(delay * GROWTH, SLOWEST_LOOK)
