"""What one caller of a worker does at a time, and what it reports: a line for each event.

    + ENTITY UNITS CALL PID BEGAN ENDED WAITED   a call was allowed units, and waited WAITED seconds for its turn
    - ENTITY UNITS NUMBER BEGAN                  units are about to be refunded
    . NUMBER ENDED                               the refund of that number has been written
    ! ERROR                                      something happened that must not

Times are in seconds of the monotonic clock, which all processes of a machine share. A caller that is killed in between has
consumed more than it reported, never less.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from support.pipe import say

from limiter import RateLimitExceeded

if TYPE_CHECKING:
    from limiter import Lease, RateLimiter, SyncLease, SyncRateLimiter

CALLERS = 6
"""Numbers of one process."""
RESOURCE = "api"
_numbers = itertools.count(1)


class Failed(Exception):
    """The block of a lease fails, and its units are refunded."""


@dataclass(frozen=True)
class Turn:
    """What one caller does next: acquire, consume more if it fits, release some, correct, and fail or not.

    With `lasting` it keeps the first units and does nothing else.
    """

    entity: str
    options: dict[str, Any]
    first: int
    more: int = 0
    back: int = 0
    correction: int = 0
    pause: float = 0.0
    fails: bool = False
    lasting: bool = False


class Play:
    """The turns of one process, which got `line` from its test."""

    repository_options: ClassVar[dict[str, Any]] = {}
    limiter_options: ClassVar[dict[str, Any]] = {}

    def __init__(self, line: str) -> None:
        self.random = random.Random(line)  # noqa: S311 - no secret
        self.parent = os.getppid()

    def begin(self, limiter: RateLimiter | SyncRateLimiter) -> None:
        """Do what else there is to do in the process, when it has begun."""

    def turn(self) -> Turn:
        """Return the next turn; the process ends when its parent has."""
        if os.getppid() != self.parent:
            os._exit(0)
        return self.choose()

    def choose(self) -> Turn:
        """Choose the next turn."""
        raise NotImplementedError

    def refused(self, turn: Turn) -> None:
        """React to a refusal."""

    def after(self, turn: Turn, failure: BaseException | None) -> float:
        """Return the seconds to rest after a turn; report and raise what a turn must not end with."""
        if isinstance(failure, RateLimitExceeded):
            self.refused(turn)
        elif failure is not None and not isinstance(failure, Failed):
            say(f"! {failure!r}".replace("\n", " "))
            raise failure
        return 0.0


def taken(turn: Turn, units: int, call: str, began: float, waited: float = 0.0) -> None:
    """Report that units were allowed."""
    if units:
        say(f"+ {turn.entity} {units} {call} {os.getpid()} {began:.6f} {monotonic():.6f} {waited:.6f}")


def giving(turn: Turn, units: int) -> str:
    """Report that units are about to be refunded, and under which number."""
    number = f"{os.getpid()}-{next(_numbers)}"
    if units:
        say(f"- {turn.entity} {units} {number} {monotonic():.6f}")
    return number


def given(number: str) -> None:
    """Report that a refund has been written."""
    say(f". {number} {monotonic():.6f}")


async def async_turn(limiter: RateLimiter, turn: Turn) -> None:
    """Take one turn of a task."""
    began, number, lost = monotonic(), "", limiter.stats().corrections_lost
    if turn.lasting:
        allowed = bool(await limiter.try_acquire(turn.entity, RESOURCE, {"units": turn.first}, **turn.options))
        taken(turn, turn.first * allowed, "acquire", began)
        return
    try:
        async with limiter.acquire(turn.entity, RESOURCE, {"units": turn.first}, **turn.options) as lease:
            taken(turn, turn.first, "acquire", began, lease.waited)
            try:
                await async_use(lease, turn)
            except BaseException:
                number = giving(turn, lease.consumed["units"])
                raise
    except Failed:
        # A lost refund is not raised, and may still arrive.
        if limiter.stats().corrections_lost == lost:
            given(number)
        raise


async def async_use(lease: Lease, turn: Turn) -> None:
    """Do what is done while units are held."""
    began = monotonic()
    try:
        await lease.consume(units=turn.more)
        taken(turn, turn.more, "consume", began)
    except RateLimitExceeded:
        pass
    await asyncio.sleep(turn.pause)
    number = giving(turn, turn.back)
    await lease.release(units=turn.back)
    given(number)
    number = giving(turn, max(0, -turn.correction))
    await lease.adjust(units=turn.correction)
    given(number)
    if turn.fails:
        raise Failed


def sync_turn(limiter: SyncRateLimiter, turn: Turn) -> None:
    """Take one turn of a thread or greenlet."""
    began, number, lost = monotonic(), "", limiter.stats().corrections_lost
    if turn.lasting:
        allowed = bool(limiter.try_acquire(turn.entity, RESOURCE, {"units": turn.first}, **turn.options))
        taken(turn, turn.first * allowed, "acquire", began)
        return
    try:
        with limiter.acquire(turn.entity, RESOURCE, {"units": turn.first}, **turn.options) as lease:
            taken(turn, turn.first, "acquire", began, lease.waited)
            try:
                sync_use(lease, turn)
            except BaseException:
                number = giving(turn, lease.consumed["units"])
                raise
    except Failed:
        if limiter.stats().corrections_lost == lost:
            given(number)
        raise


def sync_use(lease: SyncLease, turn: Turn) -> None:
    """Do what is done while units are held."""
    began = monotonic()
    try:
        lease.consume(units=turn.more)
        taken(turn, turn.more, "consume", began)
    except RateLimitExceeded:
        pass
    time.sleep(turn.pause)
    number = giving(turn, turn.back)
    lease.release(units=turn.back)
    given(number)
    number = giving(turn, max(0, -turn.correction))
    lease.adjust(units=turn.correction)
    given(number)
    if turn.fails:
        raise Failed
