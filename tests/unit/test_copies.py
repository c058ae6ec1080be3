"""Limiters and repositories are pickled and copied as their configuration."""

from __future__ import annotations

import copy
import pickle
import time
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from limiter import (
    Limit,
    MemoryRepository,
    RateLimiter,
    Repository,
    SyncMemoryRepository,
    SyncRateLimiter,
    SyncRepository,
    ValidationError,
)
from limiter.audit import judge, record
from limiter.testing import create_table

if TYPE_CHECKING:
    from pathlib import Path

    from support.engines import Engine

CREDENTIALS = {"aws_access_key_id": "x", "aws_secret_access_key": "y"}
COPIES = [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))]  # noqa: S301 - its own


def told(event: object) -> None:
    """A hook that can be pickled, since it has a name."""


@pytest.mark.parametrize("copied", COPIES)
def test_a_copy_opens_anew_from_the_same_configuration(copied: Any, server_engine: Engine, table_name: str) -> None:
    """A copy of an open limiter decides on the same table, through a client of its own, which outlives the original's."""
    create_table(table_name, endpoint_url=server_engine.endpoint_url)
    repository = SyncRepository(table_name, namespace="tenant", endpoint_url=server_engine.endpoint_url)
    with SyncRateLimiter(repository, [Limit.parse("requests=10/hour")], decision_timeout=60.0) as limiter:
        assert limiter.try_acquire("user")
        other = copied(limiter)
    assert other.repository is not repository
    with other:
        assert [status.available for status in other.check("user").statuses] == [9]
        assert other.repository.namespace == "tenant"


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize(("kind", "store"), [(RateLimiter, Repository), (SyncRateLimiter, SyncRepository)])
def test_a_copy_has_every_option(copied: Any, kind: Any, store: Any) -> None:
    """Limits, policies and hooks arrive with it."""
    limiter = kind(
        store("my-app", namespace="tenant", region="eu-west-1", endpoint_url="http://127.0.0.1:1", clock=time.time_ns),
        iter([Limit.parse("requests=10/hour")]),
        "allow",
        on_decision=told,
    )
    other = copied(limiter)
    assert (type(other), repr(other)) == (kind, repr(limiter))
    assert (other.limits, other.on_unavailable) == (limiter.limits, "allow")
    assert other.repository.clock is time.time_ns
    assert other.__reduce__()[1][2] == limiter.__reduce__()[1][2]


@pytest.mark.parametrize("copied", COPIES)
@pytest.mark.parametrize(
    ("kind", "store"),
    [
        (RateLimiter, MemoryRepository()),
        (SyncRateLimiter, SyncMemoryRepository()),
        (SyncRateLimiter, SyncRepository("my-app", session=boto3.Session(**CREDENTIALS))),
        (SyncRateLimiter, SyncRepository("my-app", client=boto3.client("dynamodb", region_name="eu-west-1", **CREDENTIALS))),
    ],
)
def test_what_cannot_be_copied_says_so(copied: Any, kind: Any, store: Any) -> None:
    """A copy of a store in memory would double its limits, and a client that was given cannot be made again."""
    for each in (store, kind(store)):
        with pytest.raises(ValidationError, match="cannot be pickled or copied"):
            copied(each)


@pytest.mark.parametrize("copied", COPIES)
def test_a_recorder_opens_its_file_anew(copied: Any, tmp_path: Path) -> None:
    """A copy writes to the same file also when the original is closed, or belongs to another process."""
    original = record(tmp_path / "decisions.jsonl")
    limiter = SyncRateLimiter(SyncMemoryRepository(), [Limit.parse("requests=10/hour")], on_decision=copied(original))
    original.close()
    assert limiter.try_acquire("user")
    assert judge(original.path).decisions == 1
