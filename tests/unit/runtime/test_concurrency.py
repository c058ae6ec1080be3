"""Where a process ends, no thread can be started any more, and everything is done by the one that is left."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest

from limiter import Limit, SyncMemoryRepository, SyncRateLimiter
from limiter.runtime.concurrency import sync_gather, sync_start

if TYPE_CHECKING:
    from support.engines import FakeClock


@pytest.fixture(autouse=True)
def _at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Python 3.12 has it in `atexit` handlers."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", start)


def test_calls_are_made_one_after_another() -> None:
    """All are made, and their results come in order, errors too."""
    made: list[int] = []
    sync_start([partial(made.append, number) for number in range(3)], lambda: None)
    assert made == [0, 1, 2]
    first, second, third = sync_gather([lambda: 1, lambda: 1 // 0, lambda: 3])
    assert (first, third) == (1, 3)
    assert isinstance(second, ZeroDivisionError)


def test_a_chain_is_charged(clock: FakeClock) -> None:
    """An entity with a parent is limited as ever."""
    limiter = SyncRateLimiter(SyncMemoryRepository(clock=clock), [Limit.per_hour("requests", 2)])
    limiter.create_entity("parent")
    limiter.create_entity("child", parent_id="parent")
    assert [bool(limiter.try_acquire("child")) for _ in range(3)] == [True, True, False]
