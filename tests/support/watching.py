"""Shows a world what limiters do inside: every plan, its outcome, and when a block is held."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any
from unittest import mock

from limiter import memory_repository, sync_memory_repository
from limiter.commit import batch, breaker, sync_batch, sync_committer
from limiter.commit.allotment import Payment, Stock
from limiter.core import plan as planning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from support.limiter_world import World

    from limiter.core.plan import Plan
    from limiter.core.request import Grant, Refund, Request
    from limiter.core.state import BucketState


@contextlib.contextmanager
def watching(world: World) -> Iterator[None]:
    """Report to the world; and let no code pause, start threads or use real time, so that a run can be repeated."""
    with contextlib.ExitStack() as stack:
        for owner, name, value in (
            (planning, "plan", plan_told_to(world)),
            (planning.Plan, "grants", grants_told_to(world)),
            (Stock, "add", add_told_to(world)),
            (Payment, "give_back", give_back_told_to(world)),
            (batch, "backoff", backoff),
            (sync_batch, "sync_backoff", lambda _: None),
            (sync_committer, "sync_start", lambda calls, _: one_after_another(calls)),
            (breaker, "THRESHOLD", sys.maxsize),
            # The judge follows a bucket's periods and stamps for longer than a store has to keep them.
            (memory_repository, "is_forgettable", lambda *_: False),
            (sync_memory_repository, "is_forgettable", lambda *_: False),
        ):
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


def plan_told_to(world: World) -> Callable[..., Plan]:
    """`plan`, which reports every update to the world."""
    sound = planning.plan

    def plan(state: BucketState, requests: Sequence[Request], now: int, stamp: str, **view: Any) -> Plan:
        made = sound(state, requests, now, stamp, **view)
        world.planned(made, requests)
        return made

    return plan


def grants_told_to(world: World) -> Callable[..., dict[int, Grant]]:
    """`Plan.grants`, which reports to the world which update included them."""
    sound = planning.Plan.grants

    def grants(made: Plan, after: BucketState, *sent_first: Plan | None) -> dict[int, Grant]:
        found = sound(made, after, *sent_first)
        world.grants |= {id(grant): (grant, made.update) for grant in found.values() if made.update is not None}
        return found

    return grants


def add_told_to(world: World) -> Callable[..., None]:
    """`Stock.add`, which reports to the world when a block was planned: its time begins there."""
    sound = Stock.add

    def add(stock: Stock, grant: Grant, *times: Any) -> None:
        update, client, key = world.carriers[id(world.grants[id(grant)][1])]
        for receipt in grant.receipts:
            client.advances[key, receipt.limit].blocks.append([world.plans[id(update)][2].now, receipt.units])
        sound(stock, grant, *times)

    return add


def give_back_told_to(world: World) -> Callable[..., None]:
    """`Payment.give_back`, which reports to the world that a caller has not used what it was granted."""
    sound = Payment.give_back

    def give_back(payment: Payment) -> list[Refund]:
        world.unpaid(payment)
        return sound(payment)

    return give_back


async def backoff(_: int) -> None:
    """Let other callers continue, without losing time."""
    await asyncio.sleep(0)


def one_after_another(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Do what `sync_gather` does, without threads, so that a run can be repeated."""
    outcomes: list[Any] = []
    for call in calls:
        try:
            outcomes.append(call())
        except BaseException as error:  # As sync_gather does: the error is returned as an outcome.
            outcomes.append(error)
    return outcomes
