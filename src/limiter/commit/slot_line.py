# twin: sync_slot_line.py
"""Waiting for slots: by arrival within a process; across processes by looks that are spaced, and never more than 10 a second."""

from __future__ import annotations

import random
from time import monotonic
from typing import TYPE_CHECKING, Protocol, TypeVar

from ..core.limits.slots import short_of_slots
from ..core.request import refund_of
from ..core.units import NANOSECONDS
from ..runtime.concurrency import shielded
from .slots import InLine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ..core.request import Grant, Refusal, Request
    from .committer import Committer
    from .slots import BucketSlots


LEAST_LOOK, MOST_LOOK = NANOSECONDS // 10, NANOSECONDS
"""Nanoseconds between two looks of a process for slots of a bucket that others have freed, before they are spread by jitter."""


class Answer(Protocol):
    """What became of a look, as the line sees it; see `Admission`."""

    @property
    def allowed(self) -> bool:
        """Whether all of it was granted."""

    @property
    def outcomes(self) -> Sequence[object]:
        """The outcome of each request."""


A = TypeVar("A", bound=Answer)


def line_of(committer: Committer, requests: Sequence[Request]) -> int | None:
    """The place of the first request for slots for which callers of this process wait already; None if there is none."""
    for place, request in enumerate(requests):
        if request.slots and any(limit.holds and units for limit, units in request.charges):
            slots = committer.slots_of(request.key)
            if slots is not None and slots.line:
                return place
    return None


def refuse_in_line(committer: Committer, request: Request) -> Refusal | None:
    """The refusal of a caller who is not willing to wait behind the line."""
    slots = committer.slots_of(request.key)
    if slots is None:
        return None
    with committer.lock:
        return slots.refuse(request)


async def wait_in_line(
    committer: Committer, requests: Sequence[Request], place: int, deadline: int, ask: Callable[[], Awaitable[A]]
) -> Grant | A | None:
    """Wait for the slots of the request at a place, in the order of arrival.

    Returns the grant of slots that another caller of the process has handed on, or what became of the last look: an admission, or
    a refusal for another reason. None where the deadline (nanoseconds since the epoch) came first. Nothing is held while waiting.
    """
    slots = committer.slots_of(requests[place].key)
    if slots is None:
        return None
    lone = len(requests) == 1 and all(limit.holds for limit, _ in requests[0].charges)
    caller = InLine(requests[0] if lone else None)
    with committer.lock:
        if not slots.line:
            slots.next_look = committer.clock() + _interval(slots)
        slots.join(caller)
    try:
        return await _wait(committer, slots, caller, requests, deadline, ask)
    except BaseException:
        if caller.grant is not None:
            await shielded(_give_back(committer, requests[0], caller.grant))
        raise
    finally:
        with committer.lock:
            slots.leave(caller)


async def _wait(
    committer: Committer,
    slots: BucketSlots,
    caller: InLine,
    requests: Sequence[Request],
    deadline: int,
    ask: Callable[[], Awaitable[A]],
) -> Grant | A | None:
    while True:
        now = committer.clock()
        if caller.handed() is None and now < deadline:
            await _sleep(committer, slots, caller, deadline, now)
        if (grant := caller.handed()) is not None:
            return grant
        now = committer.clock()
        if _is_to_look(committer, slots, caller, now):
            admission = await ask()
            grant = caller.handed()
            if grant is not None and not admission.allowed:
                return grant
            if grant is not None:
                await shielded(_give_back(committer, requests[0], grant))
            if admission.allowed or short_of_slots(requests, admission.outcomes, deadline) is None:
                _invite_next(committer, slots)
                return admission
        if now >= deadline:
            return None


async def _sleep(committer: Committer, slots: BucketSlots, caller: InLine, deadline: int, now: int) -> None:
    """Sleep until the caller is woken, or its deadline comes, or it is its turn to look."""
    caller.clear()
    first = bool(slots.line) and slots.line[0] is caller
    if caller.handed() is not None or (first and caller.look):
        return
    left = max(0, min(deadline, slots.next_look if first else deadline) - now)
    if committer.sleep is not None:
        await committer.sleep(max(1, min(left, LEAST_LOOK)) / NANOSECONDS)
        return
    caller.expires = monotonic() + left / NANOSECONDS
    await committer.deadlines.wait(caller)


def _is_to_look(committer: Committer, slots: BucketSlots, caller: InLine, now: int) -> bool:
    """Whether the caller is the first in line, and has been woken to look or comes to the time for it."""
    with committer.lock:
        if not slots.line or slots.line[0] is not caller or not (caller.look or now >= slots.next_look):
            return False
        caller.look = False
        slots.next_look = now + _interval(slots)
        return True


def _interval(slots: BucketSlots) -> int:
    return round(slots.interval(LEAST_LOOK, MOST_LOOK) * random.uniform(1, 1.5))  # noqa: S311 - spreads processes, hides nothing


def _invite_next(committer: Committer, slots: BucketSlots) -> None:
    """Have the next in line look at once, since there may be more where this came from."""
    with committer.lock:
        slots.next_look = min(slots.next_look, committer.clock())


async def _give_back(committer: Committer, request: Request, grant: Grant) -> bool:
    return await committer.write_refunds([refund_of(request.key, grant.receipts)])
