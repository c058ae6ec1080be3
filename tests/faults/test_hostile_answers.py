"""The server sends wrong responses: calls end in time with a typed error, admit nothing that was not written, and recover.

The test of `limiter.aws.read_timeout`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import zlib
from contextlib import suppress
from email.utils import formatdate
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from limiter import (
    Entity,
    Limit,
    LimiterError,
    RateLimiter,
    RateLimiterUnavailable,
    Repository,
    SyncRateLimiter,
    SyncRepository,
    Throttled,
)
from limiter.aws.client import ClientOptions, new_session, sync_new_session
from limiter.runtime.retry import ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIMITS = [Limit.parse("requests=10/minute")]
PATIENT: dict[str, Any] = {"connect_timeout": 30.0, "read_timeout": 30.0}
"""Test machines stall; a server that responds slowly must not count as one that does not respond."""
BRIEF: dict[str, Any] = {"connect_timeout": 0.5, "read_timeout": 0.5}
"""For responses that never end."""
SLOW = {"status 100", "cut", "nested", "huge", "error huge", "error code huge"}
AMZ = "application/x-amz-json-1.0"


class Answer:
    """A response on the wire: status, headers, body, and whether the connection breaks before its end."""

    def __init__(
        self, body: Any, status: int = 200, kind: str = AMZ, cut: bool = False, headers: dict[str, str] | None = None
    ) -> None:
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status = status
        self.headers = {"Content-Type": kind, "Content-Length": str(len(self.body) * (2 if cut else 1))} | (headers or {})


def error(code: Any, message: Any = "no", status: int = 400, **more: Any) -> Answer:
    """Return an error in DynamoDB's own form."""
    return Answer({"__type": code, "message": message} | more, status)


ANSWERS = {
    "nothing": Answer(b""),
    "bytes": Answer(bytes(range(256)) * 4),
    "half a document": Answer(b'{"Attributes": {"t:reque'),
    "html": Answer(b"<html><body>Log in to the hotel's network</body></html>", kind="text/html"),
    "list": Answer([1, 2]),
    "number": Answer(42),
    "null": Answer(None),
    "text": Answer("ok"),
    "empty": Answer({}),
    "fields of wrong types": Answer({"Item": [1], "Attributes": "x", "Responses": 5, "Items": {"a": 1}, "UnprocessedKeys": []}),
    "fields of null": Answer({"Item": None, "Attributes": None, "Responses": None, "Items": None, "UnprocessedKeys": None}),
    "attributes of wrong types": Answer(
        {"Item": {"pk": 1}, "Attributes": {"t:requests": 5}, "Responses": {"my-app": [{"pk": 3}]}}
    ),
    "unknown attributes": Answer(
        {"Attributes": {"x": {"Q": 1}}, "Item": {"x": {"Q": 1}}, "Responses": {"my-app": [{"x": {"Q": 1}}]}}
    ),
    "items without keys": Answer({"Item": {}, "Attributes": {}, "Responses": {"my-app": [{}, {}]}, "Items": [{}]}),
    "another table's items": Answer({"Responses": {"another": [{"pk": {"S": "a"}}]}}),
    "numbers in fields": Answer({"Attributes": 5, "Item": 5, "Responses": 5, "Items": 5}),
    "keys left of null": Answer(
        {"Responses": {"my-app": []}, "UnprocessedKeys": {"my-app": None}, "UnprocessedItems": {"my-app": [{"PutRequest": None}]}}
    ),
    "huge": Answer(b'{"Attributes": {"x": {"S": "' + b"x" * 5_000_000 + b'"}}}'),
    "nested": Answer(b'{"Item":' + b'{"M":' * 50_000),
    "cut": Answer(b'{"Attributes": {', cut=True),
    "wrong length": Answer(b"{}", headers={"Content-Length": "nonsense"}),
    "wrong encoding": Answer(b"{}", headers={"Content-Encoding": "gzip"}),
    "latin": Answer('{"é": "é"}'.encode("latin-1")),
    "error 500": error("InternalServerError", status=500),
    "error 503 html": Answer(b"<html>" + b"x" * 100_000, 503, "text/html"),
    "error 503 text": Answer("Service Unavailable", 503),
    "error 503 list": Answer([], 503),
    "error 500 null": Answer(None, 500),
    "error 502 number": error(7, status=502),
    "throttled for a number": error("ThrottlingException", throttlingReasons=[{"reason": 5}]),
    "throttled for numbers": error("ThrottlingException", throttlingReasons=[5]),
    "throttled for nothing": error("ThrottlingException", throttlingReasons=5),
    "throttled for a Number": error("ProvisionedThroughputExceededException", ThrottlingReasons=[{"reason": 5}]),
    "error 400 html": Answer(b"<html>" + b"x" * 100_000, 400, "text/html"),
    "error 400 nothing": Answer(b"", 400),
    "error 400 list": Answer([], 400),
    "error unknown": error("com.example#Nonsense"),
    "error number": error(5, 5),
    "error null": error(None, None),
    "error huge": error("ValidationException", "x" * 1_000_000),
    "error code huge": error("x" * 1_000_000),
    "condition without a form": error("com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException"),
    "condition with a wrong item": Answer(
        {
            "__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException",
            "Item": {f"t:{LIMITS[0].identity}": {"N": "x"}},
        },
        400,
    ),
    "condition with no item at all": Answer(
        {"__type": "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException", "Item": 7}, 400
    ),
    "status 600": Answer(b"{}", 600),
    "status 301": Answer(b"", 301, headers={"Location": "http://127.0.0.1:1/"}),
    "status 204": Answer(b"", 204),
    "status 100": Answer(b"", 100),
}


class FakeEngine:
    """A server that keeps one bucket correctly, or responds as it is told."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.options: dict[str, Any] = PATIENT
        self.asked: list[str] = []
        self.items: dict[str, dict[str, Any]] = {}
        self.written = 0
        self.ahead = 0.0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def right(self, action: str, request: dict[str, Any]) -> Answer:
        """Return the correct response of a table that holds only buckets and whose conditions all hold."""
        if action == "BatchGetItem":
            return Answer({"Responses": {"my-app": []}, "UnprocessedKeys": {}})
        if action != "UpdateItem":
            return Answer({})
        self.written += 1
        names, values = request["ExpressionAttributeNames"], request["ExpressionAttributeValues"]
        item = self.items.setdefault(json.dumps(request["Key"]), request["Key"])
        before = dict(item)
        expression = request["UpdateExpression"]
        if expression.startswith("ADD #n :n "):
            expression = expression.removeprefix("ADD #n :n ")
            item[names["#n"]] = {"N": str(int(before.get(names["#n"], {"N": "0"})["N"]) + int(values[":n"]["N"]))}
        for change in expression.removeprefix("SET ").split(", #"):
            target, _, value = f"#{change.removeprefix('#')}".partition(" = ")
            older, _, otherwise = value.removeprefix("if_not_exists(").removesuffix(")").partition(", ")
            base, _, moved = value.partition(" + ")
            if otherwise:
                item[names[target]] = before.get(names[older], values[otherwise])
            elif moved:
                item[names[target]] = {"N": str(int(before[names[base]]["N"]) + int(values[moved]["N"]))}
            else:
                item[names[target]] = values[value]
        return Answer({"Attributes": item})

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        engine = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                action = self.headers["X-Amz-Target"].partition(".")[2]
                engine.asked.append(action)
                self.is_mad = action in engine.answers
                answer = engine.answers.get(action) or engine.right(action, request)
                self.send_response(answer.status)
                for name, value in (answer.headers | {"Connection": "close"}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)
                self.close_connection = True

            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate((timestamp or time.time()) + (engine.ahead if self.is_mad else 0), usegmt=True)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture(params=["direct", "botocore"])
def engine_gone_mad(request: pytest.FixtureRequest) -> Iterator[FakeEngine]:
    """A server on a loopback port, and repositories that reach it by either transport."""
    engine = FakeEngine()
    engine.options = PATIENT | {"transport": request.param}
    yield engine
    engine.stop()


@cache
def session(kind: str) -> Any:
    """One session for all tests, which reads botocore's model of DynamoDB once."""
    return sync_new_session(ClientOptions()) if kind == "sync" else new_session(ClientOptions())


def call_sync(engine: FakeEngine, use: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Return the outcome of a sync call, and of the next call after the server works again."""
    repository = SyncRepository("my-app", endpoint_url=engine.endpoint_url, session=session("sync"), **engine.options)
    limiter = SyncRateLimiter(repository, LIMITS, config_ttl=0, decision_timeout=60.0)
    try:
        first = use(limiter)
    except Exception as error:
        first = error
    engine.answers.clear()
    try:
        return first, limiter.try_acquire("user", "api")
    finally:
        repository.close()


def call_async(engine: FakeEngine, use: Callable[[Any], Any]) -> tuple[Any, Any]:
    """Return the same for an async call."""

    async def call() -> tuple[Any, Any]:
        repository = Repository("my-app", endpoint_url=engine.endpoint_url, session=session("async"), **engine.options)
        limiter = RateLimiter(repository, LIMITS, config_ttl=0, decision_timeout=60.0)
        try:
            first = await use(limiter)
        except Exception as error:
            first = error
        engine.answers.clear()
        try:
            return first, await limiter.try_acquire("user", "api")
        finally:
            await repository.close()

    return asyncio.run(call())


both = pytest.mark.parametrize("call", [call_sync, call_async])


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the pauses between attempts."""
    for module in ("retry", "sync_retry"):
        monkeypatch.setattr(f"limiter.runtime.{module}.BACKOFF", 0.001)


@both
@pytest.mark.parametrize("answer", ANSWERS)
def test_a_malformed_response_to_a_write_admits_no_caller(
    call: Callable[..., tuple[Any, Any]], answer: str, engine_gone_mad: FakeEngine
) -> None:
    """After any wrong response to its write, an acquire fails with a typed, short error, and the next one is allowed."""
    engine_gone_mad.answers["UpdateItem"] = ANSWERS[answer]
    first, then = call(engine_gone_mad, lambda limiter: limiter.try_acquire("user", "api"))
    assert not engine_gone_mad.written - 1, "only the second acquire was written"
    assert isinstance(first, LimiterError), repr(first)[:300]
    assert len(str(first)) < 2_000
    assert then.allowed


OF_AWS = {
    "error huge",
    "error unknown",
    "error code huge",
    "condition with a wrong item",
    "error null",
    "condition without a form",
}
"""Refusals that the service made on purpose; they are no outage."""


@both
@pytest.mark.parametrize("answer", sorted(ANSWERS.keys() - SLOW))
def test_nonsense_is_an_outage_and_a_refusal_is_none(
    call: Callable[..., tuple[Any, Any]], answer: str, engine_gone_mad: FakeEngine
) -> None:
    """Under `on_unavailable="allow"`, a wrong response lets a caller through, and an error of AWS does not."""
    engine_gone_mad.answers["UpdateItem"] = ANSWERS[answer]
    first, then = call(engine_gone_mad, lambda limiter: limiter.try_acquire("user", "api", on_unavailable="allow"))
    assert isinstance(first, LimiterError) is (answer in OF_AWS), repr(first)[:300]
    assert then.allowed


@both
@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException", "ValidationException"])
def test_a_refusal_of_aws_is_raised(call: Callable[..., tuple[Any, Any]], code: str, engine_gone_mad: FakeEngine) -> None:
    """An error of AWS is raised under `on_unavailable="allow"` as well."""
    for action in ("BatchGetItem", "UpdateItem"):
        engine_gone_mad.answers[action] = error(f"com.amazonaws.dynamodb.v20120810#{code}")
        first, _ = call(engine_gone_mad, lambda limiter: limiter.try_acquire("user", "api", on_unavailable="allow"))
        assert isinstance(first, LimiterError)
        assert not isinstance(first, RateLimiterUnavailable)


@both
@pytest.mark.parametrize("policy", ["block", "allow"])
def test_keys_that_are_never_processed(call: Callable[..., tuple[Any, Any]], policy: str, engine_gone_mad: FakeEngine) -> None:
    """Keys that a read leaves unprocessed are requested three times; then it counts as throttling, and the policy applies."""
    key = {"pk": {"S": "a"}, "sk": {"S": "b"}}
    engine_gone_mad.answers["BatchGetItem"] = Answer({"Responses": {}, "UnprocessedKeys": {"my-app": {"Keys": [key]}}})
    first, then = call(engine_gone_mad, lambda limiter: limiter.try_acquire("user", "api", on_unavailable=policy))
    assert isinstance(first, Throttled) if policy == "block" else first.allowed
    assert engine_gone_mad.asked.count("BatchGetItem") == ATTEMPTS + 1
    assert then.allowed


@both
def test_deletions_that_are_never_processed(call: Callable[..., tuple[Any, Any]], engine_gone_mad: FakeEngine) -> None:
    """Deletions that are never processed end in an error as well."""
    left = [{"DeleteRequest": {"Key": {"pk": {"S": "a"}, "sk": {"S": "b"}}}}]
    engine_gone_mad.answers["Query"] = Answer({"Items": []})
    engine_gone_mad.answers["BatchWriteItem"] = Answer({"UnprocessedItems": {"my-app": left}})
    first, _ = call(engine_gone_mad, lambda limiter: limiter.delete_entity("user"))
    assert isinstance(first, Throttled), first
    assert engine_gone_mad.asked.count("BatchWriteItem") == ATTEMPTS


CALLS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "acquire": ("BatchGetItem", lambda limiter: limiter.try_acquire("user", "api")),
    "check": ("GetItem", lambda limiter: limiter.check("user", "api")),
    "get_entity": ("BatchGetItem", lambda limiter: limiter.get_entity("user")),
    "set_limits": ("PutItem", lambda limiter: limiter.set_limits(LIMITS)),
    "delete_limits": ("DeleteItem", lambda limiter: limiter.delete_limits()),
    "create_entity": ("PutItem", lambda limiter: limiter.create_entity("user")),
    "put_entity": ("PutItem", lambda limiter: limiter.put_entity(Entity("user"))),
    "list_stored_entities": ("Scan", lambda limiter: limiter.list_stored_entities()),
    "buckets": ("Scan", lambda limiter: limiter.repository.buckets()),
    "list_children": ("Query", lambda limiter: limiter.list_children("user")),
    "list_entities": ("Query", lambda limiter: limiter.list_entities("api")),
    "list_resources": ("Query", lambda limiter: limiter.list_resources("user")),
    "list_namespaces": ("Scan", lambda limiter: limiter.list_namespaces()),
    "list_limits": ("Scan", lambda limiter: limiter.list_limits()),
    "delete_namespace": ("BatchWriteItem", lambda limiter: limiter.delete_namespace("default")),
    "delete_entity": ("BatchWriteItem", lambda limiter: limiter.delete_entity("user")),
}


@pytest.mark.parametrize("name", CALLS)
def test_any_call_that_is_answered_with_nonsense(name: str, engine_gone_mad: FakeEngine) -> None:
    """After any wrong response to another action, the call returns or raises a typed error, and the next acquire is allowed."""
    action, use = CALLS[name]
    with SyncRepository(
        "my-app", endpoint_url=engine_gone_mad.endpoint_url, session=session("sync"), **engine_gone_mad.options
    ) as repository:
        for answer in ANSWERS.keys() - SLOW:
            limiter = SyncRateLimiter(repository, LIMITS, config_ttl=0, decision_timeout=60.0)
            engine_gone_mad.answers[action] = ANSWERS[answer]
            try:
                use(limiter)
            except LimiterError as error:
                assert len(str(error)) < 2_000, answer  # noqa: PT017 - some of these are right
            except Exception as error:
                raise AssertionError(f"{answer} gives {error!r:.300}") from error
            engine_gone_mad.answers.clear()
            assert limiter.try_acquire("user", "api").allowed, answer


PAGES = {"nothing", "bytes", "html", "empty", "error 503 html", "error 400 html", "error 400 nothing"}


@pytest.mark.parametrize(
    ("action", "use", "answers"),
    [
        ("GetItem", lambda limiter: limiter.repository.open(), PAGES),
        ("UpdateItem", lambda limiter: limiter.try_acquire("user", "api"), ANSWERS.keys() - SLOW),
    ],
    ids=["GetItem", "UpdateItem"],
)
def test_no_single_answer_sets_the_clock_wrong(
    action: str, use: Callable[[Any], Any], answers: set[str], engine_gone_mad: FakeEngine
) -> None:
    """A `Date` that is an hour ahead does not move the clock, whether its response looks like DynamoDB's or not."""
    with SyncRepository(
        "my-app", endpoint_url=engine_gone_mad.endpoint_url, session=session("sync"), **engine_gone_mad.options
    ) as repository:
        engine_gone_mad.ahead = 3_600.0
        for answer in answers:
            limiter = SyncRateLimiter(repository, LIMITS, config_ttl=0, decision_timeout=60.0)
            engine_gone_mad.answers[action] = ANSWERS[answer]
            with suppress(LimiterError):
                use(limiter)
            engine_gone_mad.answers.clear()
            assert abs(repository.clock() - time.time_ns()) < 60 * 10**9, answer
            assert limiter.try_acquire("user", "api").allowed, answer
            assert abs(repository.clock() - time.time_ns()) < 60 * 10**9


@both
@pytest.mark.parametrize("transport", ["direct", "botocore"])
def test_a_server_that_never_answers(transport: str, call: Callable[..., tuple[Any, Any]]) -> None:
    """A connection that gets no response, or one byte at a time, ends by the timeout."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        engine = FakeEngine()
        try:
            url, engine.endpoint_url = engine.endpoint_url, f"http://127.0.0.1:{port}"
            engine.options = BRIEF | {"transport": transport}
            started = time.monotonic()
            with pytest.raises(LimiterError):
                call(engine, lambda limiter: limiter.try_acquire("user", "api"))
            assert time.monotonic() - started < 30
            assert url != engine.endpoint_url
        finally:
            engine.stop()


@both
def test_a_wrong_checksum_admits_no_caller_twice(call: Callable[..., tuple[Any, Any]], engine_gone_mad: FakeEngine) -> None:
    """A response with a wrong checksum is an error or is ignored; only what was written is allowed."""
    right = engine_gone_mad.right
    headers = {"x-amz-crc32": str(zlib.crc32(b"something else"))}

    def lie(action: str, request: dict[str, Any]) -> Answer:
        answer = right(action, request)
        answer.headers |= headers
        return answer

    engine_gone_mad.right = lie  # type: ignore[method-assign] # the same with a header
    first, then = call(engine_gone_mad, lambda limiter: limiter.try_acquire("user", "api"))
    assert isinstance(first, LimiterError) or first.allowed
    assert engine_gone_mad.written >= 1 + then.allowed
