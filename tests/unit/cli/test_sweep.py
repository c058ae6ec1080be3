"""The command `limiter sweep`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, SyncRateLimiter, SyncRepository
from limiter.cli.sweep import _notes
from limiter.models import Sweep

if TYPE_CHECKING:
    from collections.abc import Callable

LONG_AGO = 1_600_000_000 * 10**9


@pytest.fixture
def expired(stack: str, engine_environment: dict[str, str]) -> str:
    """A stack with three buckets that were used years ago."""
    with SyncRepository(stack, endpoint_url=engine_environment["AWS_ENDPOINT_URL"], clock=lambda: LONG_AGO) as repository:
        limiter = SyncRateLimiter(repository, [Limit.per_minute("requests", 10)])
        for entity in ("a", "b", "c"):
            assert limiter.try_acquire(entity, "api")
    return stack


@pytest.mark.one_server
def test_a_sweep_is_counted(expired: str, run: Callable[..., Any]) -> None:
    """A dry run counts, a sweep deletes, and a second one finds nothing."""
    dry = run("sweep", expired, "--dry-run", "-o", "json")
    assert json.loads(dry.out) == {"expired": 3, "deleted": 0, "renewed": 0}
    assert "3 items expired; nothing was deleted." in dry.err
    done = run("sweep", expired, "--max-rate", "1000", "-o", "json")
    assert json.loads(done.out) == {"expired": 3, "deleted": 3, "renewed": 0}
    assert "Deleted 3 items; 0 items had been used again." in done.err
    assert json.loads(run("sweep", expired, "--segment", "2/2", "-o", "json").out)["expired"] == 0


@pytest.mark.parametrize("segment", ["0/2", "3/2", "1", "a/b", "1/2/3"])
def test_a_wrong_segment_is_named(segment: str, run: Callable[..., Any]) -> None:
    """The message says what a segment is."""
    done = run("sweep", "my-app", "--segment", segment)
    assert done.code == 2
    assert "is not N/M" in done.err


def test_progress_is_told_every_thousand_deletions(capsys: pytest.CaptureFixture[str]) -> None:
    """A sweep of hours says that it goes on."""
    note = _notes()
    for deleted in range(0, 2_500, 8):
        note(Sweep(deleted, deleted, 0))
    assert capsys.readouterr().err == "Deleted 1,000 items so far.\nDeleted 2,000 items so far.\n"
