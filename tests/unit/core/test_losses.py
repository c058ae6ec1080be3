"""The units that a lost request leaves wrong in its bucket, at most."""

from __future__ import annotations

from limiter import Limit, Quota
from limiter.core.losses import units_at_stake
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Refund, Request

KEY = BucketKey("default", "user", "api")
RATE, QUOTA = Limit.per_minute("requests", 60), Quota.per_day("tokens", 100)
SECOND = 10**9


def test_charges_and_refunds_are_at_stake() -> None:
    """A rate's refund is worth the units that refill in its nanoseconds; a quota's cost is in units."""
    refunds = (Refund(RATE, 3 * SECOND, 0), Refund(QUOTA, 5, 0))
    assert units_at_stake(Request(KEY, (Charge(RATE, 2),), refunds)) == {"requests": 5, "tokens": 5}


def test_nothing_at_stake_is_left_out() -> None:
    """A request without units leaves nothing wrong."""
    assert units_at_stake(Request(KEY, (Charge(RATE, 0),))) == {}
