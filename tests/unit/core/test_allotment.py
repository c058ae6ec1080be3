"""Which requests a block can pay for, and how many units one takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from limiter.core.allotment import Sizing, allots, lifetime
from limiter.core.limits import Concurrency, Limit, Quota
from limiter.core.request import Charge
from limiter.core.units import NANOSECONDS

if TYPE_CHECKING:
    from limiter.models import BaseLimit

SECOND = NANOSECONDS
EPOCH = 1_800_000_000 * SECOND
REQUESTS, TOKENS = Limit.per_hour("requests", 1_000, allotment=1.0), Limit.per_hour("tokens", 100_000, allotment=0.5)
DAILY = Quota.per_day("daily", 1_000)


@pytest.mark.parametrize(
    ("charges", "expected"),
    [
        ([(REQUESTS, 1)], True),
        ([(REQUESTS, 1), (TOKENS, 5), (DAILY, 1), (Quota.session("five", 5, 60.0), 1)], True),
        ([(REQUESTS, 0)], False),
        ([(DAILY, 1)], False),
        ([(REQUESTS, 1), (Limit.per_hour("plain", 5), 1)], False),
        ([(REQUESTS, 1), (Quota.total("credits", 5), 1)], False),
        ([(REQUESTS, 1), (Concurrency("calls", 5), 1)], False),
        ([], False),
    ],
)
def test_which_requests_a_block_can_pay(charges: list[tuple[BaseLimit, int]], expected: bool) -> None:
    """Rates with an allotment, and quotas and sessions beside one; no totals, no slots, no amounts of 0."""
    assert allots([Charge(*charge) for charge in charges]) is expected


def test_units_of_several_limits_live_as_long_as_the_shortest_allotment() -> None:
    """A quota has none of its own."""
    assert lifetime([REQUESTS, DAILY]) == SECOND
    assert lifetime([REQUESTS, TOKENS, DAILY]) == SECOND // 2


def test_defeats_make_blocks_smaller() -> None:
    """After a block that others have defeated the next one is three quarters of it, but a quarter of what is free at least."""
    sizing = Sizing()
    for _ in range(100):
        sizing.observe(EPOCH)
    assert sizing.order(SECOND, 0, 1_000) == 99
    sizing.note(99, granted=False)
    assert (sizing.order(SECOND, 0, 200), sizing.order(SECOND, 0, 360)) == (74, 90)
    sizing.note(74, granted=True)
    assert sizing.order(SECOND, 0, 200) == 82
    for _ in range(30):
        sizing.note(1, granted=False)
    assert sizing.order(SECOND, 0, 3) == 1
