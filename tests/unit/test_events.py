"""What a hook receives: it pays for what it reads, and may keep, copy or pickle it."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from limiter import Concurrency, DecisionEvent, Limit, SyncMemoryRepository, SyncRateLimiter
from limiter import events as under_test

if TYPE_CHECKING:
    from collections.abc import Callable

LIMITS = [Limit.parse("requests=2/hour"), Concurrency("calls", 5, ttl=60.0)]
COPIES = [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))]  # noqa: S301 - its own


@pytest.fixture
def told() -> list[DecisionEvent]:
    """An acquire that was allowed, and one that was refused."""
    kept: list[DecisionEvent] = []
    with SyncRateLimiter(SyncMemoryRepository(), LIMITS, on_decision=kept.append) as limiter:
        limiter.try_acquire("user", "api", {"requests": 2})
        limiter.try_acquire("user", "api", {"requests": 1})
        with limiter.acquire("other", "api", {"calls": 1}):
            pass
    return kept


def test_an_event_tells_what_became_of_a_call(told: list[DecisionEvent]) -> None:
    """Whenever it is read."""
    allowed, refused, slots = told
    assert [(each.entity_id, each.outcome, each.kind) for each in told] == [
        ("user", "allowed", "decision"),
        ("user", "refused", "decision"),
        ("other", "allowed", "decision"),
    ]
    assert [(each.limit.name, each.available) for each in allowed.statuses] == [("requests", 0)]
    assert [(each.limit.name, each.units) for each in allowed.charges] == [("requests", 2)]
    assert [(each.limit.name, each.units, each.start) for each in refused.charges] == [("requests", 1, None)]
    assert allowed.buckets == refused.buckets == (("user", "api"),)
    assert (allowed.fence, refused.fence, slots.fence) == (None, None, slots.charges[0].start + 1)


def test_what_a_hook_reads_is_made_then_and_once(told: list[DecisionEvent], monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that no hook has read has made none of it."""
    made: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        make = getattr(under_test, name)
        return lambda *given: (made.append(name), make(*given))[1]

    for name in ("taken", "charged_buckets", "fence_of"):
        monkeypatch.setattr(under_test, name, counted(name))
    allowed = told[0]
    assert (allowed.allowed, made) == (True, [])
    for _ in range(2):
        assert allowed.charges[0].units == 2
        assert allowed.buckets == (("user", "api"),)
        assert allowed.fence is None
    assert made == ["taken", "charged_buckets", "fence_of"]


@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_tells_the_same(told: list[DecisionEvent], copied: Any) -> None:
    """Also in another process, which has no limiter that it is made from."""
    for event in told:
        other = copied(event)
        assert (other, repr(other), other.values()) == (event, repr(event), event.values())
        assert {"_call", "_admission"}.isdisjoint(vars(other))


def test_an_event_shows_all_that_it_tells(told: list[DecisionEvent]) -> None:
    """By name, and in its repr."""
    shown = repr(told[0])
    assert shown.startswith("DecisionEvent(entity_id='user', resource='api', allowed=True, ")
    assert all(f" {name}=" in shown for name in ("statuses", "buckets", "charges", "fence"))
    assert "_call" not in shown
