"""A value of the wrong kind, or for the other version, is named where it is passed.

The test of `limiter.memory_repository` and `limiter.runtime.entering`.
"""

from __future__ import annotations

import re
import sys
import time
import uuid
from contextlib import AbstractAsyncContextManager
from typing import Any

import boto3
import pytest
from aiobotocore.session import AioSession
from botocore.session import Session

from limiter import (
    BlockingCallWarning,
    Limit,
    MemoryRepository,
    RateLimiter,
    Repository,
    SyncMemoryRepository,
    SyncRateLimiter,
    SyncRepository,
    ValidationError,
)


@pytest.mark.parametrize("store", [None, "my-app", object(), SyncMemoryRepository()])
def test_an_asynchronous_limiter_takes_an_asynchronous_repository(store: Any) -> None:
    """A string, None, or a sync repository is refused with the remedy."""
    with pytest.raises(ValidationError, match="use SyncRateLimiter"):
        RateLimiter(store)


@pytest.mark.parametrize("store", [None, "my-app", object(), MemoryRepository()])
def test_a_synchronous_limiter_takes_a_synchronous_repository(store: Any) -> None:
    """A string, None, or an async repository is refused with the remedy."""
    with pytest.raises(ValidationError, match="use RateLimiter"):
        SyncRateLimiter(store)


REPOSITORIES = [MemoryRepository, SyncMemoryRepository, lambda clock: Repository("my-app", clock=clock)]
REPOSITORIES += [lambda clock: SyncRepository("my-app", clock=clock)]


@pytest.mark.parametrize("make", REPOSITORIES)
@pytest.mark.parametrize("clock", [time.time, lambda: True, lambda: "now", lambda: None, 5])
def test_a_clock_reads_as_an_integer(make: Any, clock: Any) -> None:
    """A clock that returns floats, or is not callable, is refused, because its time would be stored for all processes."""
    with pytest.raises(ValidationError, match=r"clock must .* such as time\.time_ns, not "):
        make(clock=clock)


class Double:
    """An object that a test, or a user's wrapper, passes as a client and as a session."""

    async def update_item(self, **_: Any) -> None:
        """Wait."""

    def client(self, *_: Any, **__: Any) -> None:
        """Make a client."""


class SyncDouble(Double):
    """The sync version."""

    def update_item(self, **_: Any) -> None:  # type: ignore[override] # the other kind
        """Do not wait."""


def plain_client(service: str = "dynamodb") -> Any:
    """Return a client of boto3."""
    return boto3.client(service)


SESSIONS = [5, "default", object(), boto3.Session, AioSession]
CLIENTS = [5, "dynamodb", object(), Double, SyncDouble]


@pytest.mark.parametrize("session", [*SESSIONS, boto3.Session(), Session()])
def test_an_asynchronous_repository_takes_an_asynchronous_session(session: Any) -> None:
    """A session that makes no async clients is refused with the remedy."""
    with pytest.raises(ValidationError, match=r"AioSession\(\) or an aioboto3\.Session\(\), not .* use SyncRepository"):
        Repository("my-app", session=session)


@pytest.mark.parametrize("session", [*SESSIONS, AioSession(), Session()])
def test_a_synchronous_repository_takes_a_synchronous_session(session: Any) -> None:
    """A session that makes no sync clients is refused with the remedy."""
    with pytest.raises(ValidationError, match=r"session must be a boto3\.Session\(\), not .* use Repository"):
        SyncRepository("my-app", session=session)


async def test_an_asynchronous_repository_takes_an_asynchronous_client() -> None:
    """A client of boto3, one of another service, and one that is not open are refused with the remedy."""
    unopened = AioSession().create_client("dynamodb")
    for client in (*CLIENTS, plain_client(), plain_client("s3"), boto3.resource("dynamodb").Table("my-app"), unopened):
        with pytest.raises(ValidationError, match=r"client must be what `async with .* use SyncRepository"):
            Repository("my-app", client=client)
    async with unopened:  # It warns when it is never entered.
        pass


async def test_a_synchronous_repository_takes_a_synchronous_client() -> None:
    """A client of aiobotocore, one whose methods are coroutines, and one of another service are refused with the remedy."""
    async with AioSession().create_client("dynamodb") as opened:
        for client in (*CLIENTS, opened, Double(), plain_client("s3"), boto3.resource("dynamodb").Table("my-app")):
            with pytest.raises(ValidationError, match=r'client must be boto3\.client\("dynamodb"\), not .* use Repository'):
                SyncRepository("my-app", client=client)


async def test_sessions_and_clients_of_the_right_kind_pass() -> None:
    """Sessions and clients of AWS's libraries pass, and so do objects with the same methods."""
    for session in (AioSession(), Double()):
        Repository("my-app", session=session)
    for session in (boto3.Session(), Double()):
        SyncRepository("my-app", session=session)
    async with AioSession().create_client("dynamodb") as opened:
        for client in (opened, Double(), SyncDouble()):
            Repository("my-app", client=client)
    for client in (plain_client(), SyncDouble()):
        SyncRepository("my-app", client=client)


@pytest.mark.parametrize("make", [Repository, SyncRepository])
def test_a_region_is_a_string(make: Any) -> None:
    """A region that is not a string is refused with an example."""
    with pytest.raises(ValidationError, match=r"region must be None or a string such as 'eu-west-1', not 5"):
        make("my-app", region=5)


@pytest.mark.parametrize(("limiter", "store"), [(RateLimiter, MemoryRepository), (SyncRateLimiter, SyncMemoryRepository)])
def test_hooks_are_callable(limiter: Any, store: Any) -> None:
    """Hooks have to be callable, and `on_decision` a plain function."""

    async def told(_: object) -> None: ...

    with pytest.raises(ValidationError, match="on_decision must be None or callable, not 5"):
        limiter(store(), on_decision=5)
    with pytest.raises(ValidationError, match=r"on_decision must be a plain function, not .*told"):
        limiter(store(), on_decision=told)
    with pytest.raises(ValidationError, match=r"sleep must be None or callable, not 0\.5"):
        limiter(store(), sleep=0.5)


LIMITS = [Limit.per_minute("requests", 10)]


async def test_an_asynchronous_acquire_names_its_form() -> None:
    """A plain `with` and an `await` name `async with` as the remedy, and the object still works."""
    acquisition: Any = RateLimiter(MemoryRepository(), LIMITS).acquire("user", "api")
    with pytest.raises(TypeError, match=r"asynchronous: use it in an `async with`.*SyncRateLimiter"), acquisition:
        pass
    with pytest.raises(TypeError, match=r"use it in an `async with`.*await try_acquire\(\)"):
        await acquisition
    async with acquisition as lease:
        assert lease.consumed == {"requests": 1}


def test_a_synchronous_acquire_looks_like_no_asynchronous_one() -> None:
    """A program that accepts both kinds, and tries the async one first, enters each in its own way."""
    acquisition = SyncRateLimiter(SyncMemoryRepository(), LIMITS).acquire("user", "api")
    assert not isinstance(acquisition, AbstractAsyncContextManager)
    with acquisition as lease:
        assert lease.consumed == {"requests": 1}


async def test_a_synchronous_acquire_names_its_form() -> None:
    """An `async with` on it names `with` as the remedy, and the object still works."""
    with pytest.warns(BlockingCallWarning):
        acquisition: Any = SyncRateLimiter(SyncMemoryRepository(), LIMITS).acquire("user", "api")
    with pytest.raises(TypeError, match=r"synchronous: use it in a `with` statement; for `async def` there is RateLimiter"):
        async with acquisition:
            pass
    assert not hasattr(acquisition, "__aenter__")
    with acquisition as lease:
        assert lease.consumed == {"requests": 1}


@pytest.mark.parametrize(
    "make", [lambda: RateLimiter(MemoryRepository(), LIMITS), lambda: SyncRateLimiter(SyncMemoryRepository(), LIMITS)]
)
def test_an_acquire_that_is_forgotten_is_warned_of_at_its_own_line(make: Any) -> None:
    """The warning points to the line that called `acquire`, regardless of where the object is collected."""
    limiter = make()

    def drop(kept: list[object]) -> None:
        kept.clear()

    kept = [
        1,
        limiter.acquire("user"),
    ]
    line = sys._getframe().f_lineno - 2
    with pytest.warns(RuntimeWarning, match="never entered") as warnings:
        drop(kept)
    assert [(warning.filename, warning.lineno) for warning in warnings] == [(__file__, line)]


@pytest.mark.parametrize("value", [42, uuid.UUID(int=7)])
def test_an_id_that_is_no_text_is_shown_with_its_conversion(value: Any) -> None:
    """Integers and UUIDs are refused: the caller converts them, and decides how they are written."""
    with pytest.raises(
        ValidationError, match=re.escape(f"entity_id must be a string, not {value!r}; convert it, as in str({value!r})")
    ):
        SyncRateLimiter(SyncMemoryRepository(), LIMITS).try_acquire(value)


def test_an_acquire_that_is_not_entered_names_its_form() -> None:
    """The warning says how each version is entered."""
    with pytest.warns(RuntimeWarning, match="use it in an `async with` statement"):
        RateLimiter(MemoryRepository(), LIMITS).acquire()
    with pytest.warns(RuntimeWarning, match="use it in a `with` statement"):
        SyncRateLimiter(SyncMemoryRepository(), LIMITS).acquire()


@pytest.mark.parametrize("version", [Repository, SyncRepository])
@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("max_connections", 0, "max_connections must be an integer of 1 or more, not 0"),
        ("max_connections", 1.5, "max_connections must be an integer of 1 or more, not 1.5"),
        ("max_connections", True, "max_connections must be an integer of 1 or more, not True"),
        ("connect_timeout", 0, "connect_timeout must be above 0 seconds, not 0"),
        ("read_timeout", -1, "read_timeout must .*not -1"),
        ("read_timeout", "5", "read_timeout must .*not '5'"),
    ],
)
def test_connections_and_their_timeouts_are_checked(version: Any, option: str, value: object, message: str) -> None:
    """A number of connections is at least one, and a timeout is above 0."""
    with pytest.raises(ValidationError, match=message):
        version("my-app", **{option: value})


def test_as_many_calls_as_connections_are_made_at_once() -> None:
    """A repository tells how many connections it has, by which the limiter bounds its calls."""
    assert Repository("my-app", max_connections=7).max_connections == 7
