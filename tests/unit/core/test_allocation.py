"""What a lease holds, and what it refunds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from limiter.core.allocation import Allocation
from limiter.core.limits import Limit, gcra
from limiter.core.request import Receipt

THIRDS = Limit("a", 1_000, 3, 1.0)
LIMITS = st.builds(Limit, st.just("a"), st.integers(1, 1_000), st.integers(1, 50), st.sampled_from([5e-8, 1.0, 60.0]))


def receipt(limit: Limit, units: int, since: int = 5) -> Receipt:
    """Return the receipt for units consumed in a busy period."""
    return Receipt(limit, units, gcra.cost(limit, units), since, start=since, tat=since)


@given(LIMITS, st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=20))
def test_no_more_goes_back_than_was_taken(limit: Limit, moves: list[tuple[int, int]]) -> None:
    """For any sequence of charges and releases, refunds are at most the costs, and what stays is worth at least what it cost."""
    allocation, taken, returned = Allocation(limit), 0, 0
    for more, less in moves:
        allocation = allocation.add(receipt(limit, more))
        taken += gcra.cost(limit, more)
        allocation, refund = allocation.release(min(less, allocation.units))
        returned += refund.cost
        assert refund.cost >= 0
        assert allocation.units >= 0
        assert taken - returned >= gcra.cost(limit, allocation.units)
    allocation, refund = allocation.release(allocation.units)
    assert returned + refund.cost == taken
    assert (allocation.units, allocation.refundable) == (0, 0)


def test_everything_goes_back_whole() -> None:
    """Units that were consumed in parts are refunded to the nanosecond when all are released."""
    allocation = Allocation(THIRDS).add(receipt(THIRDS, 1)).add(receipt(THIRDS, 1)).add(receipt(THIRDS, 1))
    assert allocation.cost == 3 * 333_333_334
    _, refund = allocation.release(3)
    assert refund.cost == 3 * 333_333_334


def test_nothing_of_an_older_busy_period_goes_back() -> None:
    """If the bucket was full between two charges, only the later one can be refunded, and it is refunded first."""
    allocation = Allocation(THIRDS).add(receipt(THIRDS, 30, since=5)).add(receipt(THIRDS, 6, since=9))
    allocation, refund = allocation.release(3)
    assert (refund.cost, refund.since) == (gcra.cost(THIRDS, 3), 9)
    allocation, refund = allocation.release(33)
    assert refund.cost == gcra.cost(THIRDS, 3)


def test_a_release_is_never_taken_for_a_booking() -> None:
    """A release comes after the start, so its refund names no start that might be cancelled."""
    _, refund = Allocation(THIRDS).add(receipt(THIRDS, 3)).release(1)
    assert refund.start < 0


def test_taking_nothing_holds_nothing() -> None:
    """A charge of zero units changes nothing that could be refunded."""
    allocation = Allocation(THIRDS).add(receipt(THIRDS, 3)).add(receipt(THIRDS, 0))
    assert (allocation.units, allocation.refundable) == (3, gcra.cost(THIRDS, 3))
