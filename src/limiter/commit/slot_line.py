# twin: sync_slot_line.py
"""Waiting for slots: in order of arrival within a process; across processes by reads, at most 10 a second."""

from __future__ import annotations

import asyncio
import random
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TypeVar

from ..core.limits.slots import short_of_slots
from ..core.request import Grant, refund_of
from ..core.units import NANOSECONDS
from ..runtime.concurrency import shielded
from .caller_line import InLine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ..core.request import Refusal, Request
    from .committer import Committer


LEAST_LOOK, MOST_LOOK = NANOSECONDS // 10, NANOSECONDS
"""Nanoseconds between two looks of a process for slots of a bucket that others have freed, before jitter is added."""
LONGEST_SLEEP = 3_600 * NANOSECONDS
"""Most nanoseconds for which a caller in line sleeps at a time."""


class Answer(Protocol):
    """The outcome of a look, as the line uses it; see `Admission`."""

    @property
    def allowed(self) -> bool:
        """Whether all of it was granted."""

    @property
    def outcomes(self) -> Sequence[object]:
        """The outcome of each request."""


A = TypeVar("A", bound=Answer)


class SlotLine:
    """The place of one caller in the line for the slots of the request at a `place`.

    Callers are served in order of arrival. Only the first one looks for slots that other processes have freed. No caller holds
    anything while it waits, so two calls for several buckets cannot wait for each other.
    """

    def __init__(self, committer: Committer, requests: Sequence[Request], place: int) -> None:
        self._committer = committer
        self._requests = requests
        self._request = requests[place]
        self._slots = committer.open_slots(self._request.key)
        self._line = self._slots.line
        lone = len(requests) == 1 and all(limit.holds for limit, _ in self._request.charges)
        self._caller = InLine(self._request if lone else None)

    @classmethod
    def ahead(cls, committer: Committer, requests: Sequence[Request]) -> SlotLine | None:
        """Return the line in which callers of this process already wait for requested slots; None if there is none."""
        for place, request in enumerate(requests):
            if request.slots and any(limit.holds and units for limit, units in request.charges):
                line = cls(committer, requests, place)
                if line._line:
                    return line
        return None

    def refusals(self) -> list[Refusal | None]:
        """Return the outcomes for a caller that does not wait behind the others."""
        with self._committer.lock:
            refusal = self._slots.refuse(self._request)
        return [refusal if request is self._request else None for request in self._requests]

    async def wait(self, deadline: int, ask: Callable[[], Awaitable[A]]) -> A | Grant | None:
        """Wait until the deadline, in nanoseconds since the epoch.

        Returns the grant of slots that another caller of the process has handed on, or the outcome of the last look: an
        admission, or a refusal for another reason. Returns None if the deadline came first.
        """
        with self._committer.lock:
            if not self._line:
                self._line.next_look = self._committer.clock() + self._interval()
            self._line.join(self._caller)
        try:
            found = await self._wait(deadline, ask)
        except BaseException:
            if (grant := self._leave()) is not None:
                await shielded(self._give_back(grant))
            raise
        grant = self._leave()
        if grant is None or found is grant:
            return found
        # The slots were handed on at the same moment.
        if found is None or isinstance(found, Grant) or not found.allowed:
            return grant
        await shielded(self._give_back(grant))
        return found

    def _leave(self) -> Grant | None:
        """Leave the line, and return the slots that were handed on to the caller before."""
        with self._committer.lock:
            self._line.leave(self._caller)
            return self._caller.grant

    async def _wait(self, deadline: int, ask: Callable[[], Awaitable[A]]) -> A | Grant | None:
        while True:
            if (now := self._committer.clock()) < deadline:
                await self._sleep(deadline, now)
            if self._caller.grant is not None:
                return self._caller.grant
            now = self._committer.clock()
            if self._is_to_look(now):
                admission = await ask()
                if admission.allowed or short_of_slots(self._requests, admission.outcomes, deadline) is None:
                    self._invite_next()
                    return admission
                self._fall_out_of_step(now)
            if now >= deadline:
                return None

    async def _sleep(self, deadline: int, now: int) -> None:
        """Sleep until the caller is woken, its deadline comes, or its next look is due."""
        caller, committer, line = self._caller, self._committer, self._line
        caller.clear()
        with committer.lock:
            first = line.first is caller
            if caller.grant is not None or (first and caller.look):
                return
            until = min(deadline, line.next_look if first else deadline)
        left = min(max(0, until - now), LONGEST_SLEEP)
        if committer.sleep is not None:
            await committer.sleep(max(1, min(left, LEAST_LOOK)) / NANOSECONDS)
            await asyncio.sleep(0)  # A clock that only a test moves lets no other caller go on.
            return
        caller.expires = monotonic() + left / NANOSECONDS
        await committer.deadlines.wait(caller)

    def _is_to_look(self, now: int) -> bool:
        """Tell whether the caller is the first in line, and was woken to look or its next look is due."""
        with self._committer.lock:
            if self._line.first is not self._caller or not (self._caller.look or now >= self._line.next_look):
                return False
            self._caller.look = False
            self._line.next_look = now + self._interval()
            return True

    def _fall_out_of_step(self, began: int) -> None:
        """Put off the next look of a call for several buckets by a random time, of up to as long as the last look took.

        It held slots of some buckets until the others refused. If each look took longer than the time between two looks, two such
        calls could stay in step and refuse each other until their deadlines.
        """
        if len(self._requests) > 1:
            now = self._committer.clock()
            with self._committer.lock:
                self._caller.look = False  # What the look gave back has woken this caller itself.
                later = now + round((now - began) * random.random())  # noqa: S311 - spreads processes, hides nothing
                self._line.next_look = max(self._line.next_look, later)

    def _interval(self) -> int:
        spread = random.uniform(1, 1.5)  # noqa: S311 - spreads processes, hides nothing
        return round(self._slots.interval(LEAST_LOOK, MOST_LOOK) * spread)

    def _invite_next(self) -> None:
        """Let the next caller in line look at once, because more slots may be free."""
        with self._committer.lock:
            self._line.next_look = min(self._line.next_look, self._committer.clock())

    async def _give_back(self, grant: Grant) -> bool:
        return await self._committer.write_refunds([refund_of(self._request.key, grant.receipts)])
