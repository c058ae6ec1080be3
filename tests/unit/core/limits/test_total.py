"""Totals: units that do not refill."""

from __future__ import annotations

from typing import Any

import pytest

from limiter import Quota, ValidationError
from limiter.core.limits import TotalQuota


def test_a_total_opens_once_and_never_ends() -> None:
    """A total is opened by its first use, and not by time or by giving all of it back."""
    quota = Quota.total("credits", 10_000)
    assert quota.is_over(-1, 0, 10**18)
    assert not quota.is_over(0, 0, 10**18)
    assert not quota.is_over(1, 10_000, 10**19)
    assert quota.ends(-1, 10**18) is None


@pytest.mark.parametrize("capacity", [0, -1, 1.5, True, None, "10", 10**12 + 1])
def test_bad_totals_are_refused(capacity: Any) -> None:
    """A total is a whole number from 1 on."""
    with pytest.raises(ValidationError, match="capacity of limit 'credits'"):
        Quota.total("credits", capacity)


def test_a_total_is_a_quota_with_an_identity() -> None:
    """What was used belongs to the name; a larger capacity keeps it."""
    quota = Quota.total("credits", 10_000)
    assert isinstance(quota, Quota)
    assert quota == TotalQuota("credits", 10_000)
    assert quota.identity == Quota.total("credits", 15_000, enforce=False).identity
    assert quota.identity != Quota.total("more", 10_000).identity
