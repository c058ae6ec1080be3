"""Keys in `limiter.core.absences` hold for the time to live at most, and are remembered beyond it."""

from __future__ import annotations

from limiter.core.absences import Absences
from limiter.core.records import EntityKey

TTL = 80
KEYS = [EntityKey(name) for name in "abc"]


def test_an_expired_absence_is_remembered_for_outages() -> None:
    """Without the table, what was read last is used, however old."""
    absences = Absences(TTL)
    absences.add(KEYS[0], 0)
    absences.add(KEYS[1], 10 * TTL)
    assert [absences.expiry(key) for key in KEYS] == [0, 11 * TTL, None]
    assert len(absences) == 2


def test_a_clock_that_is_set_back_prolongs_nothing() -> None:
    """A set that would hold for longer than the time to live is not used any more."""
    absences = Absences(TTL)
    absences.add(KEYS[0], 10 * TTL)
    absences.add(KEYS[1], 0)
    assert absences.expiry(KEYS[1]) == TTL


def test_a_key_that_is_forgotten_is_absent_no_more() -> None:
    """Neither one that still holds nor one that has expired; the others stay."""
    absences = Absences(TTL)
    for place, key in enumerate(KEYS):
        absences.add(key, place * 2 * TTL)
    for key in (KEYS[0], KEYS[2]):
        absences.discard(key)
    assert [absences.expiry(key) is None for key in KEYS] == [True, False, True]
