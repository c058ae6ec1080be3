# twin: ../sync/test_ids.py
"""Ids hold any text, `#` included, and show as they are or escaped, but never deceive the reader of a log.

The test of `limiter.core.visible`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, RateLimiter, RateLimitExceeded, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable

HASHED = ["#", "a#b", "#a", "a#", "a##b", "p#x", "r#api", "%23", "a%23b", "%2523", "user%", "b#api", "l#api", "e"]
UNSEEN = ["\u2028", "\u2029", "\u202e", "\u2066", "\u200b", "\u200d", "\u2060", "\ufeff", "\u061c", "\u00ad", "\u3164", "\u034f"]
UNSEEN += ["\U000e0041", "\U000e0101", "\ufff9"]
PLAIN = ["é", "日本", "🧊", "a b", "a'b\"c", "%"]


@pytest.fixture
def limiter(new_limiter: Callable[..., RateLimiter]) -> RateLimiter:
    """A limiter of five requests an hour."""
    return new_limiter("requests=5/hour")


@pytest.mark.parametrize("name", [*HASHED, *PLAIN, "a\u2028b", "\u202euser"], ids=ascii)
async def test_an_id_is_stored_and_read_back(limiter: RateLimiter, name: str) -> None:
    """As entity, parent, resource and name of a limit it works everywhere, and comes out of every list as it went in."""
    limits = (Limit.per_hour(name, 5),)
    await limiter.create_entity(name)
    await limiter.create_entity("child", parent_id=name)
    await limiter.set_limits(limits, entity_id=name, resource=name)
    assert await limiter.get_limits(name, name) == limits
    assert await limiter.list_entities(name) == (name,)
    assert [child.entity_id for child in await limiter.list_children(name)] == ["child"]
    assert (await limiter.try_acquire("child", name, limits=limits)).allowed
    assert (await limiter.check(name, name)).statuses[0].available == 4
    assert await limiter.list_resources(name) == (name,)
    await limiter.delete_entity(name)
    assert await limiter.get_entity(name) is None


async def test_ids_that_look_like_parts_of_a_key_stay_apart(limiter: RateLimiter) -> None:
    """Each of these ids has a separate bucket, entity and limits."""
    for place, name in enumerate(HASHED):
        await limiter.create_entity(name)
        await limiter.set_limits([Limit.per_hour("requests", 10 + place)], entity_id=name, resource=name)
    for place, name in enumerate(HASHED):
        assert (await limiter.check(name, name)).statuses[0].available == 10 + place
        assert (await limiter.try_acquire(name, name, {"requests": 10 + place})).allowed


@pytest.mark.engines("moto", "dynoxide", "dynamodb-local")
async def test_namespaces_with_a_hash_are_unforgeable(open_repository: Callable[..., Any]) -> None:
    """No entity of one namespace stands in another whose name it continues, and each is found by its name."""
    names = ["a", "a#b", "a%23b", "a%2523b", "a#", "#", "%"]
    limiters = {
        name: RateLimiter(open_repository(name), [Limit.per_hour("requests", 5)], decision_timeout=60.0) for name in names
    }
    for each in limiters.values():
        for entity in ("b#c", "c", "#b#c", "23b#c"):
            assert (await each.try_acquire(entity, "api", {"requests": 5})).allowed
    assert await limiters["a"].list_namespaces() == tuple(sorted(names))
    assert await limiters["a#"].delete_namespace("a#b") == 4
    assert await limiters["a"].list_namespaces() == tuple(sorted(set(names) - {"a#b"}))
    assert (await limiters["a#b"].check("c", "api")).statuses[0].available == 5
    assert not (await limiters["a"].try_acquire("b#c", "api")).allowed


@pytest.mark.parametrize("sign", UNSEEN, ids=ascii)
async def test_what_deceives_a_reader_is_escaped(limiter: RateLimiter, sign: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither an error nor a log shows a line separator, a sign of direction or a zero-width character as it is."""
    caplog.set_level(logging.DEBUG, "limiter")
    name = f"a{sign}b"
    limits = [Limit.per_hour(name, 1)]
    assert (await limiter.try_acquire(name, name, limits=limits)).allowed
    with pytest.raises(RateLimitExceeded) as refused:
        async with limiter.acquire(name, name, limits=limits):
            pass
    with pytest.raises(ValidationError) as unknown:
        await limiter.try_acquire(name, name, {sign: 1}, limits=limits)
    texts = [str(refused.value), str(unknown.value), repr(limiter)]
    for record in caplog.records:
        texts += [record.getMessage(), *(str(value) for value in vars(record).values())]
    escaped = sign.encode("unicode_escape").decode()
    assert not [text for text in texts if sign in text]
    assert escaped in texts[0]
    assert escaped in texts[1]
    assert any(escaped in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("name", PLAIN)
async def test_what_is_seen_is_shown_as_it_is(limiter: RateLimiter, name: str) -> None:
    """Names in any script stay readable."""
    with pytest.raises(RateLimitExceeded) as refused:
        async with limiter.acquire(name, name, {"requests": 6}):
            pass
    assert f"{name}/{name}" in str(refused.value)
