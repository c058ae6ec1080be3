"""Session quotas: a window that begins with the first use."""

from __future__ import annotations

from typing import Any

import pytest

from limiter import Quota, ValidationError
from limiter.core.limits import SessionQuota
from limiter.core.units import NANOSECONDS

LENGTH = 5 * 3_600 * NANOSECONDS
NOW = 10**18


def test_a_session_lasts_its_length_from_its_opening() -> None:
    """A session is over exactly its length after it was opened, and when all of it was given back."""
    quota = Quota.session("messages", 50, 5 * 3600)
    assert quota.is_over(-1, 0, NOW)
    assert not quota.is_over(NOW, 1, NOW)
    assert not quota.is_over(NOW - LENGTH + 1, 1, NOW)
    assert quota.is_over(NOW - LENGTH, 1, NOW)
    assert quota.is_over(NOW - 1, 0, NOW)


def test_a_session_ends_its_length_after_the_opening() -> None:
    """The end is counted from the opening, and where no session is open from now."""
    quota = Quota.session("messages", 50, 5 * 3600)
    assert quota.ends(NOW - 7, NOW) == NOW - 7 + LENGTH
    assert quota.ends(NOW - LENGTH, NOW) == quota.ends(-1, NOW) == NOW + LENGTH


@pytest.mark.parametrize(
    ("capacity", "seconds", "named"),
    [
        (50, 0, "seconds of limit 'a' .* not 0"),
        (50, -1, "not -1"),
        (50, "5 hours", "not '5 hours'"),
        (50, True, "not True"),
        (50, float("inf"), "not inf"),
        (50, 10**10, "not 10000000000"),
        (10**9 + 1, 1.0, "a session of 1 s is too short for a capacity of 1000000001 .*'a'.*make the session longer"),
        (0, 60.0, "capacity of limit 'a'"),
    ],
)
def test_bad_sessions_are_refused(capacity: Any, seconds: Any, named: str) -> None:
    """A length that is none, or too short for the capacity, is named with the remedy."""
    with pytest.raises(ValidationError, match=named):
        Quota.session("a", capacity, seconds)


def test_a_session_is_a_quota_with_an_identity() -> None:
    """What was counted belongs to a name and a length."""
    quota = Quota.session("a", 5, 60.0)
    assert isinstance(quota, Quota)
    assert quota == SessionQuota("a", 5, 60)
    assert quota.identity == Quota.session("a", 9, 60, enforce=False).identity
    assert quota.identity not in {Quota.session("a", 5, 61).identity, Quota.session("b", 5, 60).identity}
