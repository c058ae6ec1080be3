"""What `limiter.core.record_cache` keeps is what was read last, and no older than promised."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from limiter.core.absences import PARTS
from limiter.core.limits import Access
from limiter.core.record_cache import RecordCache
from limiter.core.records import EntityKey
from limiter.core.resolution import MISSING

TTL = 80
KEYS = [EntityKey(name) for name in "abcd"]
VALUES = [None, Access.BLOCKED, Access.UNLIMITED]
ABSENT = -1

steps = st.lists(
    st.tuples(
        st.sampled_from(["read", "write", "clear", "begin", "end"]),
        st.sampled_from(KEYS),
        st.sampled_from(VALUES),
        st.integers(0, 30),
    ),
    max_size=60,
)


@example(
    [("begin", KEYS[3], None, 0), ("write", KEYS[0], None, 0), ("read", KEYS[3], Access.BLOCKED, 0), ("end", KEYS[3], None, 0)]
)
@given(steps=steps)
def test_a_lookup_tells_what_was_read_last(steps: list[tuple[str, EntityKey, Any, int]]) -> None:
    """The last read or own write counts, for at most the time to live, but no read that began before what is known.

    What began later is told by the generation, which each own write raises. A record that was never there has none.
    """
    now = 1_000
    cache = RecordCache(lambda: now, TTL, 100)
    known: dict[EntityKey, tuple[Any, int, int]] = {}
    begun: tuple[int, EntityKey, Any] | None = None
    for action, key, value, passed in steps:
        now += passed
        if action == "begin":
            begun = cache.generation, key, value
        elif action == "write":
            cache.put(key, value)
            known[key] = value, now, cache.generation
        elif action == "clear":
            cache.clear()
            known.clear()
            begun = None
        else:
            generation, key, value = (cache.generation, key, value) if action == "read" or begun is None else begun
            cache.store({key: value}, generation)
            newest = known[key][2] if key in known else ABSENT
            if generation >= newest:
                known[key] = value, now, ABSENT if value is None and newest == ABSENT else generation
        for each in KEYS:
            found, expires = cache.lookup(each)
            expected, since, _ = known.get(each, (MISSING, 0, ABSENT))
            assert found is expected
            assert expires <= since + TTL
            if expected is not MISSING and now < since + TTL - TTL // PARTS:
                assert expires > now


def test_an_overtaken_read_brings_nothing_back() -> None:
    """A read that began before a write or a clearing of the cache ends without effect."""
    cache = RecordCache(lambda: 0, TTL, 100)
    for forget in (lambda: cache.put(KEYS[0], None), cache.clear):
        began = cache.generation
        forget()
        cache.store({KEYS[0]: Access.BLOCKED}, began)
        assert cache.lookup(KEYS[0])[0] is not Access.BLOCKED


def test_many_absent_records_push_out_none_that_exists() -> None:
    """An attacker who invents ids does not decide what is remembered of others, nor how much memory is used."""
    cache = RecordCache(lambda: 0, TTL, 50)
    cache.store({KEYS[0]: Access.BLOCKED}, 0)
    for number in range(500):
        cache.store({EntityKey(str(number)): None}, 0)
        assert len(cache) <= 50
    assert cache.lookup(KEYS[0])[0] is Access.BLOCKED


def test_the_least_recently_used_record_goes_first() -> None:
    """Records that exist are bounded too."""
    cache = RecordCache(lambda: 0, TTL, 2)
    for key in KEYS[:2]:
        cache.put(key, Access.BLOCKED)
    cache.lookup(KEYS[0])
    cache.put(KEYS[2], Access.BLOCKED)
    assert [cache.lookup(key)[0] for key in KEYS[:3]] == [Access.BLOCKED, MISSING, Access.BLOCKED]
