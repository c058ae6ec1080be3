# twin: ../sync/test_transport.py
"""How calls reach the table: directly where that changes nothing for anybody, by botocore otherwise.

The test of `limiter.aws.call_path` and `limiter.aws.connections`.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from support.engines import wait_until
from support.wire_server import CLOSE, EMPTY, WireServer

from limiter import (
    ConfigurationError,
    Limit,
    LimiterError,
    MemoryRepository,
    RateLimiter,
    RateLimiterUnavailable,
    Repository,
    ValidationError,
)
from limiter.aws.client import ClientOptions, close_client, new_session, open_client
from limiter.core.records import BucketKey, LimitsKey
from limiter.core.state import Change, Condition, Update

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

KEY = BucketKey("default", "user", "api")
PATIENT = {"connect_timeout": 30.0, "read_timeout": 30.0}
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"


@pytest.fixture
def server() -> Iterator[WireServer]:
    """A table without items."""
    with WireServer() as started:
        yield started


@pytest.fixture
async def new(server: WireServer) -> AsyncIterator[Callable[..., Repository]]:
    """Makes repositories on the server, each with a session of its own, and closes them."""
    made: list[Repository] = []

    def repository(**options: Any) -> Repository:
        options = {"endpoint_url": server.endpoint_url, "session": new_session(ClientOptions()), **PATIENT, **options}
        made.append(Repository("my-app", **options))
        return made[-1]

    yield repository
    for each in made:
        await each.close()


async def test_frequent_calls_are_direct(new: Any, server: WireServer) -> None:
    """Nothing is sent to find out, every frequent call uses one connection, and `stats` shows the transport."""
    repository = new()
    limiter = RateLimiter(repository, [Limit.per_minute("requests", 5)])
    assert limiter.stats().transport is None
    await repository.prepare()
    assert (server.accepted, server.received) == (0, [])
    await repository.open()
    await repository.read_bucket(KEY)
    assert (server.accepted, len(server.received)) == (1, 2)
    assert (limiter.stats().transport, limiter.stats().transport_reason) == ("direct", "")


async def test_all_other_calls_are_botocores(new: Any, server: WireServer) -> None:
    """A call that is not frequent is made by the client, also where the others have to be direct."""
    repository = new(transport="direct")
    await repository.write_limits(LimitsKey(), None)
    (request,) = server.received
    assert request.headers["x-amz-target"] == "DynamoDB_20120810.DeleteItem"


async def test_botocore_never_leaves_it(new: Any, server: WireServer) -> None:
    """`transport="botocore"` makes every call by botocore, and says why."""
    repository = new(transport="botocore")
    await repository.read_bucket(KEY)
    assert repository.transport.name == "botocore"
    assert len(server.received) == 1


async def test_a_copy_has_the_same_transport(server: WireServer) -> None:
    """What is said of the transport holds for a copy of the repository too."""
    repository = copy(Repository("my-app", endpoint_url=server.endpoint_url, transport="botocore", **PATIENT))
    await repository.read_bucket(KEY)
    await repository.close()
    assert repository.transport is not None
    assert repository.transport.name == "botocore"


def test_another_transport_is_refused() -> None:
    """The message names what there is."""
    with pytest.raises(ValidationError, match='"auto", "direct" or "botocore", not \'http2\''):
        Repository("my-app", transport="http2")  # type: ignore[arg-type]


async def test_a_store_in_memory_has_no_transport() -> None:
    """It makes no calls."""
    limiter = RateLimiter(MemoryRepository(), [Limit.per_minute("requests", 5)])
    await limiter.try_acquire()
    assert limiter.stats().transport is None


async def test_a_handler_from_elsewhere_is_not_passed_by(new: Any) -> None:
    """A program's handler for the session's events sees every call, and `direct` raises with the reason."""
    seen: list[str] = []

    def note(event_name: str, **_: Any) -> None:
        seen.append(event_name)

    session = new_session(ClientOptions())
    _botocore_session(session).register("before-send.dynamodb", note)
    repository = new(session=session)
    await repository.read_bucket(KEY)
    assert seen == ["before-send.dynamodb.GetItem"]
    assert repository.transport.name == "botocore"
    assert "before-send" in repository.transport.reason
    with pytest.raises(ConfigurationError, match="listens to before-send"):
        await new(session=session, transport="direct").read_bucket(KEY)


async def test_a_proxy_is_not_passed_by(new: Any, server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes through a proxy is left to botocore."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, server.endpoint_url)
    repository = new(endpoint_url="http://dynamodb.invalid:8000")
    await repository.read_bucket(KEY)
    assert repository.transport.reason == "a proxy is configured"
    assert server.received[0].line.startswith("POST http://dynamodb.invalid:8000")


async def test_a_later_patch_is_noticed(new: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call goes through a new patch, and the next call after its removal does not."""
    repository, direct = new(), new(transport="direct")
    await repository.read_bucket(KEY)
    await direct.read_bucket(KEY)
    assert repository.transport.name == "direct"
    owner = await _owner_of_calls()
    original, seen = owner._make_api_call, []

    def traced(self: Any, operation: str, parameters: Any) -> Any:
        seen.append(operation)
        return original(self, operation, parameters)

    with monkeypatch.context() as patch:
        patch.setattr(owner, "_make_api_call", traced)
        await repository.read_bucket(KEY)
        assert seen == ["GetItem"]
        assert repository.transport.name == "botocore"
        assert "_make_api_call is patched" in repository.transport.reason
        with pytest.raises(ConfigurationError, match="_make_api_call is patched by"):
            await direct.read_bucket(KEY)
    await repository.read_bucket(KEY)
    assert seen == ["GetItem"]
    assert repository.transport.name == "direct"


async def _owner_of_calls() -> Any:
    """The class whose method all calls of this side pass through."""
    client = await open_client("dynamodb", ClientOptions())
    await close_client(client)
    return next(each for each in type(client).__mro__ if "_make_api_call" in vars(each))


@pytest.mark.parametrize("option", ["auto", "direct"])
async def test_another_form_of_response_is_a_lost_answer(
    option: str, new: Any, server: WireServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It may have had its effect; then botocore makes all calls, with a warning, unless "direct" was asked for."""
    repository = new(transport=option)
    await repository.read_bucket(KEY)
    server.answers.append(CHUNKED)
    with caplog.at_level(logging.WARNING, "limiter.client"), pytest.raises(RateLimiterUnavailable) as raised:
        await repository.read_bucket(KEY)
    assert not raised.value.unsent
    assert (len(caplog.records), repository.transport.name) == ((1, "botocore") if option == "auto" else (0, "direct"))
    server.answers.append(CHUNKED)
    if option == "auto":
        await repository.read_bucket(KEY)
        await repository.close()
        await repository.read_bucket(KEY)
        assert repository.transport.name == "botocore"
    else:
        with pytest.raises(RateLimiterUnavailable):
            await repository.read_bucket(KEY)
        await repository.read_bucket(KEY)


async def test_a_connection_that_was_closed_between_calls_loses_nothing(new: Any, server: WireServer) -> None:
    """What the server has closed while nothing was asked is replaced before a request is sent."""
    repository = new(transport="direct")
    for number in range(1, 4):
        server.answers.append([EMPTY, CLOSE])
        await repository.read_bucket(KEY)
        assert wait_until(lambda: server.closed == number)  # noqa: B023 - it is waited for here
    assert server.accepted == 3


async def test_a_connection_is_closed_when_the_server_says_so(new: Any, server: WireServer) -> None:
    """Behind `Connection: close` nothing is sent any more."""
    repository = new(transport="direct")
    server.answers.append(EMPTY.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    await repository.read_bucket(KEY)
    await repository.read_bucket(KEY)
    assert server.accepted == 2


@pytest.mark.parametrize("pieces", [[CLOSE], [EMPTY[:20], CLOSE], [EMPTY[:-1], CLOSE]])
async def test_a_connection_that_closes_in_place_of_an_answer(pieces: list[bytes], new: Any, server: WireServer) -> None:
    """The answer counts as lost, the next call uses another connection, and the transport stays."""
    repository = new(transport="direct")
    server.answers.append(pieces)
    with pytest.raises(RateLimiterUnavailable) as raised:
        await repository.read_bucket(KEY)
    assert not raised.value.unsent
    await repository.read_bucket(KEY)
    assert server.accepted == 2


async def test_the_whole_answer_is_bounded(new: Any, server: WireServer) -> None:
    """An answer that begins and does not end is lost after the read timeout, and its connection is not used again."""
    repository = new(transport="direct", read_timeout=0.2)
    server.answers.append(EMPTY[:40])
    with pytest.raises(RateLimiterUnavailable) as raised:
        await repository.read_bucket(KEY)
    assert not raised.value.unsent
    assert "timeout" in str(raised.value).lower()
    assert server.accepted == 1


async def test_where_no_server_listens_nothing_was_sent(new: Any, server: WireServer) -> None:
    """A refused connection is known to have had no effect."""
    repository = new(transport="direct", endpoint_url="http://127.0.0.1:1")
    with pytest.raises(RateLimiterUnavailable) as raised:
        await repository.read_bucket(KEY)
    assert raised.value.unsent
    assert "127.0.0.1:1" in str(raised.value)


async def test_credentials_are_those_of_the_moment(new: Any, server: WireServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call is signed by the credentials that the session has then, with its token."""
    session = new_session(ClientOptions())
    repository = new(session=session, transport="direct")
    await repository.read_bucket(KEY)
    credentials = _botocore_session(session)._credentials
    credentials.access_key, credentials.token = "AKIDLATER", "a token"
    await repository.read_bucket(KEY)
    first, second = server.received
    assert "Credential=testing/" in first.headers["authorization"]
    assert "x-amz-security-token" not in first.headers
    assert "Credential=AKIDLATER/" in second.headers["authorization"]
    assert second.headers["x-amz-security-token"] == "a token"
    assert "x-amz-security-token" in second.headers["authorization"]


async def test_credentials_with_an_end_of_line_are_botocores_affair(new: Any, server: WireServer) -> None:
    """Such credentials add no header; botocore reports the error."""
    session = new_session(ClientOptions())
    repository = new(session=session)
    await repository.read_bucket(KEY)
    _botocore_session(session)._credentials.token = "a token\r\nx-evil: yes"  # noqa: S105 - made up
    with pytest.raises(LimiterError):
        await repository.read_bucket(KEY)
    assert all("x-evil" not in request.headers for request in server.received)


def _botocore_session(session: Any) -> Any:
    return getattr(session, "_session", session)


@pytest.mark.parametrize("token", ["", "a token/with+signs=="])
async def test_what_is_sent_is_what_botocore_sends(
    token: str, new: Any, server: WireServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Address, body, signed headers and user agent of every frequent call are equal by either transport."""
    if token:
        monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    key = BucketKey("default", "üser ☃", 'api "v1"')
    update = Update("stamp", (Condition("tokens", "tat", None, 5, True),), (Change("tokens", "tat", None, 7),))
    for option in ("direct", "botocore"):
        repository = new(transport=option)
        await repository.read_bucket(key)
        for call in (partial(repository.write_bucket, key, update), partial(repository.read_records, [LimitsKey()], [key])):
            with suppress(LimiterError):
                await call()
        assert repository.transport.name == option
    sent = server.received
    assert len(sent) % 2 == 0
    for direct, botocore in zip(sent[: len(sent) // 2], sent[len(sent) // 2 :], strict=True):
        signed = [each.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0] for each in (direct, botocore)]
        assert signed[0] == signed[1]
        assert ("x-amz-security-token" in signed[0]) == bool(token)
        assert (direct.line, direct.body) == (botocore.line, botocore.body)
        for name in {*signed[0].split(";"), "user-agent", "content-length", "accept-encoding"} - {"x-amz-date"}:
            assert direct.headers[name] == botocore.headers[name], name
    assert {request.headers["x-amz-target"].partition(".")[2] for request in sent} == {"GetItem", "UpdateItem", "BatchGetItem"}
