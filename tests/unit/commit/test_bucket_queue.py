"""Lanes: who stands before whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from limiter import Limit
from limiter.commit.bucket_queue import Lane, Ticket
from limiter.core.plan import NOBODY, Queue
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Credit, Grant, Request

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = 10**18
ONE = (Charge(Limit.parse("requests=10/minute"), 1),)
TWO = (Charge(Limit.parse("requests=10/minute"), 2),)


def let_finish(lane: Lane, ticket: Ticket) -> None:
    """Decide it, as the batch does that carries it."""
    lane.batch, lane.queue = lane.batch + lane.queue, []
    lane.finish(ticket, Grant((), NOW))


def let_go_from_batch(lane: Lane, ticket: Ticket) -> None:
    """Its caller has gone, after a batch has taken it along."""
    lane.batch, lane.queue = lane.batch + lane.queue, []
    ticket.abandoned = True
    lane.drop_abandoned()


ENDS: dict[str, Callable[[Lane, Ticket], object]] = {
    "decided": let_finish,
    "gone from the queue": lambda lane, ticket: lane.remove(ticket),
    "gone from a batch": let_go_from_batch,
}


@pytest.mark.parametrize("end", ENDS)
def test_whoever_is_decided_or_gone_stands_before_nobody(end: str) -> None:
    """However a request ends, it counts no more."""
    lane = Lane(BucketKey("default", "user", "api"))
    first, second = Ticket(Request(ONE, deadline=NOW), lane), Ticket(Request(ONE, deadline=NOW), lane)
    lane.add(first, NOW)
    lane.add(second, NOW)
    assert lane.ahead == 2
    ENDS[end](lane, first)
    assert lane.ahead == 1
    ENDS[end](lane, second)
    assert lane.ahead == 0


def test_only_the_same_demand_counts() -> None:
    """Who asks for something else, may wait, or is forced in, stands before nobody; nor does anybody before what it asks."""
    lane = Lane(BucketKey("default", "user", "api"))
    lane.add(Ticket(Request(ONE, deadline=NOW), lane), NOW)
    lane.add(Ticket(Request(TWO, deadline=NOW), lane), NOW)
    lane.add(Ticket(Request(ONE, deadline=NOW + 1), lane), NOW)
    lane.add(Ticket(Request(ONE, deadline=NOW, forced=True), lane), NOW)
    assert (lane.ahead, lane.alike) == (1, ONE)


def test_a_refund_stands_before_nobody() -> None:
    """What asks for nothing does not keep those who come after it from being counted."""
    lane = Lane(BucketKey("default", "user", "api"))
    lane.add(Ticket(Request(credits=(Credit(ONE[0].limit, 1, 0),)), lane), NOW)
    lane.add(Ticket(Request(ONE, deadline=NOW), lane), NOW)
    assert (lane.ahead, lane.alike) == (1, ONE)


def test_those_whom_a_write_does_not_carry_are_not_in_the_way() -> None:
    """While a batch is under way, its carried ones count as of its plan, the rest of it not at all, and the queue as of now."""
    lane = Lane(BucketKey("default", "user", "api"))
    tickets = [Ticket(Request(ONE, deadline=NOW), lane) for _ in range(5)]
    for ticket in tickets:
        lane.add(ticket, NOW)
    lane.batch, lane.queue = tickets[:3], tickets[3:]
    lane.board(tickets[:1], NOW - 7)
    assert lane.before(Request(ONE, deadline=NOW), NOW) == Queue(waiting=2, carried=1, planned=NOW - 7)
    assert lane.before(Request(TWO, deadline=NOW), NOW) == NOBODY
    assert lane.before(Request(ONE, deadline=NOW + 1), NOW) == NOBODY
