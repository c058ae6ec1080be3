"""Answers, headers, addresses, keys and rules, without any framework.

The test of `limiter.contrib.addresses`.
"""

from __future__ import annotations

import ipaddress
import json
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from limiter import (
    BaseLimit,
    Blocked,
    Concurrency,
    Limit,
    LimitStatus,
    NeverSatisfiable,
    Quota,
    RateLimiterUnavailable,
    RateLimitExceeded,
    SyncMemoryRepository,
    SyncRateLimiter,
    ValidationError,
)
from limiter.contrib.http import Rule, client_ip, hashed_key, rate_headers, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import FakeClock

    from limiter.contrib.http import HeaderStyle

EXAMPLE = Path(__file__).parents[2] / "examples" / "adapters" / "http_app.py"
FRAMEWORKS = {
    "asgi": ["starlette", "fastapi"],
    "django": ["django", "asgiref"],
    "drf": ["rest_framework", "django"],
    "fastapi": ["fastapi", "starlette"],
    "flask": ["flask", "werkzeug"],
    "http": ["flask", "starlette", "django"],
    "wsgi": ["flask", "werkzeug"],
}


def status(name: str = "requests", available: int = 0, retry_after: float | None = 0.0, **changes: Any) -> LimitStatus:
    """A status of a limit of ten a minute."""
    values: dict[str, Any] = {
        "entity_id": "secret-entity",
        "resource": "search",
        "limit": Limit.per_minute(name, 10),
        "requested": 1,
        "available": available,
        "exceeded": retry_after != 0.0,
        "retry_after": retry_after,
        "reset_after": 6.0 * (10 - available),
    }
    return LimitStatus(**(values | changes))


def headers_of(*lines: tuple[str, str]) -> Callable[[str], str | None]:
    """A lookup of headers."""
    return {name.lower(): value for name, value in lines}.get


@pytest.mark.parametrize("module", FRAMEWORKS)
def test_importing_an_adapter_imports_no_framework(module: str) -> None:
    """A framework is imported when it is used."""
    program = f"import sys, limiter.contrib.{module}; assert not {{*{FRAMEWORKS[module]}}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_refusal_is_429_with_a_problem_document() -> None:
    """It says when to try again, in whole seconds that are not too early, and names limits but no entity."""
    answer = refusal(RateLimitExceeded((status(retry_after=2.1), status("tokens", available=5))))

    assert (answer.status, answer.headers) == (429, [("Retry-After", "3")])
    assert answer.content_type == "application/problem+json"
    assert json.loads(answer.body) == {
        "type": "about:blank",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "Over the limit: requests. Try again in 3 s.",
        "violated-policies": ["requests"],
    }
    assert ("Content-Length", str(len(answer.body))) in answer.fields


def test_a_refusal_without_an_end_has_no_retry_after() -> None:
    """A pool that never refills is 429 without a time to try again."""
    answer = refusal(RateLimitExceeded((status(retry_after=None),)))

    assert (answer.status, answer.headers) == (429, [])


def test_a_refusal_without_limits_is_429() -> None:
    """What is blocked altogether has no limit to name."""
    answer = refusal(Blocked(entity_id="secret-entity", resource="search"))

    assert (answer.status, json.loads(answer.body)["detail"]) == (429, "Requests are not allowed.")


def test_what_can_never_fit_is_413() -> None:
    """An amount above a capacity is the request's fault, which no waiting heals."""
    answer = refusal(NeverSatisfiable((status(retry_after=None, requested=11),)))

    assert (answer.status, answer.headers) == (413, [])
    assert json.loads(answer.body)["detail"] == "The request exceeds the capacity of this limit: requests."


def test_an_unreachable_table_is_503() -> None:
    """The cause is not told to the client."""
    answer = refusal(RateLimiterUnavailable("the table my-app at 10.0.0.1 did not answer"))

    assert (answer.status, answer.headers) == (503, [("Retry-After", "1")])
    assert b"my-app" not in answer.body


def test_no_headers_where_none_are_wanted() -> None:
    """The style "none" leaves out Retry-After too."""
    assert refusal(RateLimitExceeded((status(retry_after=2.1),)), headers="none").headers == []
    assert rate_headers([status(retry_after=2.1)], headers="none") == []


def test_the_draft_describes_every_limit() -> None:
    """Quota and window in seconds, and what remains with the time to the next unit, as lists of RFC 9651."""
    statuses = [status(available=4, reset_after=33.0), status("tokens", available=10, reset_after=0.0)]

    assert rate_headers(statuses, headers="draft-11") == [
        ("RateLimit-Policy", '"requests";q=10;w=60,"tokens";q=10;w=60'),
        ("RateLimit", '"requests";r=4;t=3,"tokens";r=10'),
    ]


def test_the_draft_in_debt_and_after_a_refusal() -> None:
    """In debt nothing remains, and the next unit is the first of all; Retry-After and the draft's type of problem are there."""
    error = RateLimitExceeded((status(available=-2, retry_after=18.0, reset_after=72.0),))

    answer = refusal(error, headers="draft-11")

    assert answer.headers == [
        ("Retry-After", "18"),
        ("RateLimit-Policy", '"requests";q=10;w=60'),
        ("RateLimit", '"requests";r=0;t=18'),
    ]
    assert json.loads(answer.body)["type"].endswith("#quota-exceeded")


@pytest.mark.parametrize(
    ("limit", "reset_after", "policy", "level"),
    [
        (Quota.per_day("tokens", 10), 86_000.0, '"tokens";q=10', '"tokens";r=4;t=86000'),
        (Quota.total("credits", 10), None, '"credits";q=10', '"credits";r=4'),
        (Concurrency("calls", 10), None, '"calls";q=10;qu="concurrent-requests"', '"calls";r=4'),
    ],
)
def test_limits_that_are_no_rates_have_no_window(limit: BaseLimit, reset_after: float | None, policy: str, level: str) -> None:
    """A quota comes back all at once at its reset; a total and slots have none."""
    shown = status(limit=limit, available=4, reset_after=reset_after)

    assert rate_headers([shown], headers="draft-11") == [("RateLimit-Policy", policy), ("RateLimit", level)]
    assert ("X-RateLimit-Reset" in dict(rate_headers([shown], headers="x-ratelimit"))) == (reset_after is not None)


@pytest.mark.parametrize("style", ["retry-after", "draft-11", "x-ratelimit", "none"])
def test_limits_that_never_reset_break_no_style(clock: FakeClock, style: HeaderStyle) -> None:
    """Slots, a quota and a total of one bucket have headers in every style, of a grant and of a refusal."""
    limits = [Concurrency("calls", 1), Quota.per_day("tokens", 10), Quota.total("credits", 1)]
    limiter = SyncRateLimiter(SyncMemoryRepository(clock=clock), limits)
    with limiter.acquire("two") as lease:
        granted = dict(rate_headers(lease.statuses, headers=style))
        with pytest.raises(RateLimitExceeded) as caught, limiter.acquire("two"):
            pass
    one = {"calls": 1}
    with (
        pytest.raises(RateLimitExceeded) as by_slots,
        limiter.acquire("three", consume=one),
        limiter.acquire("three", consume=one),
    ):
        pass
    assert "Retry-After" not in granted
    assert "X-RateLimit-Reset" not in granted  # Of slots, of which nothing is left.
    assert granted.get("RateLimit", "none").startswith(('"calls";r=0,"tokens";r=9;t=', "none"))
    answer = refusal(caught.value, headers=style)
    assert (answer.status, "Retry-After" in dict(answer.headers)) == (429, False)  # The total has no time.
    assert ("Retry-After" in dict(refusal(by_slots.value, headers=style).headers)) == (style != "none")


def test_limits_that_are_not_enforced_are_not_shown() -> None:
    """They hold up no client."""
    shadow = Limit.per_minute("shadow", 10, enforce=False)
    statuses = [status(limit=shadow, retry_after=5.0), status(available=4)]

    assert rate_headers(statuses, headers="retry-after") == []
    assert rate_headers(statuses, headers="x-ratelimit")[1] == ("X-RateLimit-Remaining", "4")
    assert rate_headers(statuses[:1], headers="draft-11") == []


def test_of_several_limits_with_one_name_the_tightest_is_shown() -> None:
    """An entity and its parent both have a limit of requests: what is left is the lower of the two."""
    statuses = [status(available=7), status(available=3, limit=Limit.per_hour("requests", 100))]

    assert ("RateLimit-Policy", '"requests";q=100;w=3600') in rate_headers(statuses, headers="draft-11")


def test_names_are_strings_of_ascii() -> None:
    """What a header cannot hold is encoded, and nothing ends the string before its end."""
    (_, policy), _ = rate_headers([status('a"b\\é')], headers="draft-11")

    assert policy == '"a\\"b\\\\%C3%A9";q=10;w=60'


def test_x_ratelimit_describes_the_limit_with_the_smallest_share_left() -> None:
    """Three headers of one limit; the reset is in seconds."""
    statuses = [status("tokens", available=900, limit=Limit.per_minute("tokens", 1000)), status(available=4, reset_after=33.2)]

    assert rate_headers(statuses, headers="x-ratelimit") == [
        ("X-RateLimit-Limit", "10"),
        ("X-RateLimit-Remaining", "4"),
        ("X-RateLimit-Reset", "34"),
    ]


def test_headers_come_from_the_decision_itself(sync_limiter: SyncRateLimiter, clock: FakeClock) -> None:
    """The statuses of a real acquire make the headers, while time passes."""
    with sync_limiter.acquire("one") as lease:
        assert rate_headers(lease.statuses, headers="draft-11")[1] == ("RateLimit", '"requests";r=1;t=3600')
    clock.advance(1800)
    decision = sync_limiter.check("one")
    assert rate_headers(decision.statuses, headers="draft-11")[1] == ("RateLimit", '"requests";r=1;t=1800')


def test_an_unknown_style_is_an_error() -> None:
    """The message names the styles that there are."""
    message = "headers must be one of retry-after, draft-11, x-ratelimit, none, not 'draft-12'"
    with pytest.raises(ValidationError, match=message):
        rate_headers([], headers="draft-12")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match=message):
        refusal(RateLimitExceeded(()), headers="draft-12")  # type: ignore[arg-type]


def test_the_peer_counts_by_default() -> None:
    """What a client writes into a header is not believed."""
    assert client_ip("192.0.2.1", headers_of(("X-Forwarded-For", "198.51.100.7"))) == "192.0.2.1"


@pytest.mark.parametrize(
    ("trusted", "forwarded", "expected"),
    [
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        (2, "1.1.1.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        (2, "203.0.113.9", "10.0.0.1"),
        (1, None, "10.0.0.1"),
        (1, "nonsense", "10.0.0.1"),
        (1, "203.0.113.9:4711", "203.0.113.9"),
        (1, "[2001:db8::1]:4711", "2001:db8::/64"),
        (["10.0.0.0/8"], "1.1.1.1, 203.0.113.9, 10.0.0.2", "203.0.113.9"),
        (["10.0.0.0/8"], "1.1.1.1, nonsense, 10.0.0.2", "10.0.0.2"),
        (["10.0.0.0/8"], "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (["10.0.0.0/8"], None, "10.0.0.1"),
        (["192.168.0.0/16"], "203.0.113.9", "10.0.0.1"),
        ([ipaddress.ip_network("10.0.0.1/32")], "203.0.113.9, 10.0.0.2", "10.0.0.2"),
        ([], "203.0.113.9", "10.0.0.1"),
    ],
)
def test_addresses_are_counted_from_the_right(trusted: Any, forwarded: str | None, expected: str) -> None:
    """So many proxies, or the networks of the proxies, are passed over; with too few addresses the peer counts."""
    lookup = headers_of(*([("x-forwarded-for", forwarded)] if forwarded else []))

    assert client_ip("10.0.0.1", lookup, trusted=trusted) == expected


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        ('for="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::/64"),
        ("for=1.1.1.1, For=203.0.113.9;proto=https;by=10.0.0.1", "203.0.113.9"),
        ("for=_hidden", "10.0.0.1"),
        ("for=unknown", "10.0.0.1"),
        ("by=203.0.113.9", "10.0.0.1"),
        ('for="1.1.1.1, for=203.0.113.9', "203.0.113.9"),
    ],
)
def test_forwarded_is_read_as_in_rfc_7239(forwarded: str, expected: str) -> None:
    """Names that hide an address are none, and a quote that a client leaves open hides nothing that a proxy appends."""
    lookup = headers_of(("forwarded", forwarded), ("x-forwarded-for", "9.9.9.9"))

    assert client_ip("10.0.0.1", lookup, trusted=1, header="Forwarded") == expected


def test_ipv6_comes_as_a_network_and_mapped_addresses_as_ipv4() -> None:
    """One client has 2^64 addresses, or one of the older kind."""
    nothing = headers_of()

    assert client_ip("2001:db8:1:2:3::4", nothing) == "2001:db8:1:2::/64"
    assert client_ip("2001:db8:1:2:3::4", nothing, ipv6_prefix=48) == "2001:db8:1::/48"
    assert client_ip("::ffff:192.0.2.1", nothing) == "192.0.2.1"
    assert client_ip("fe80::1%eth0", nothing) == "fe80::/64"


@pytest.mark.parametrize("trusted", [1, ["10.0.0.0/8"]])
@pytest.mark.parametrize("peer", [None, ""])
def test_a_unix_socket_is_a_proxy(peer: str | None, trusted: Any) -> None:
    """It has no address, so that without trust or a header nothing is known."""
    lookup = headers_of(("x-forwarded-for", "1.1.1.1, 203.0.113.9"))

    assert client_ip(peer, lookup, trusted=trusted) == "203.0.113.9"
    assert client_ip(peer, lookup) == "unknown"
    assert client_ip(peer, headers_of(), trusted=trusted) == "unknown"


def test_a_peer_that_is_no_address_is_what_it_is() -> None:
    """Test clients have names, which are in no network."""
    assert client_ip("testclient", headers_of(("x-forwarded-for", "1.1.1.1")), trusted=["10.0.0.0/8"]) == "testclient"


@pytest.mark.parametrize(
    "options", [{"trusted": -1}, {"trusted": True}, {"trusted": "10.0.0.0/8"}, {"trusted": ["x"]}, {"ipv6_prefix": 0}]
)
def test_unusable_options_are_errors(options: dict[str, Any]) -> None:
    """Each unusable option raises an error that says what is expected."""
    with pytest.raises(ValidationError, match=r"must be|must hold"):
        client_ip("10.0.0.1", headers_of(), **options)


def test_keys_are_hashed() -> None:
    """The same key has the same id, which does not show the key, and depends on the secret; any text has an id."""
    assert hashed_key("sk-1") == hashed_key("sk-1") != hashed_key("sk-2")
    assert len({hashed_key("sk-1"), hashed_key("sk-1", secret="a"), hashed_key("sk-1", secret=b"b")}) == 3  # noqa: S106
    assert len(hashed_key("\ud800#\n" * 1000)) == 32


def test_a_rule_reads_a_request() -> None:
    """Values and callables become the arguments of an acquire; those that are not given are left out."""
    rule = Rule(entity=lambda request: request["user"], consume=lambda request: {"tokens": request["size"]}, also=[("all", "x")])

    assert rule.charge({"user": "one", "size": 5}) == {
        "entity_id": "one",
        "resource": "default",
        "consume": {"tokens": 5},
        "also": [("all", "x")],
        "refund_on_error": False,
    }
    assert rule.charge({"user": None}) is None
    assert Rule(entity="all", exempt=lambda request: request["admin"]).charge({"admin": True}) is None


async def test_a_rule_awaits_coroutines() -> None:
    """Asynchronous adapters take coroutine functions; others refuse them, as they would exempt every request."""

    async def exempt(request: dict[str, Any]) -> bool:
        return bool(request["admin"])

    async def entity(request: dict[str, Any]) -> str:
        return str(request["user"])

    rule = Rule(entity=entity, exempt=exempt)

    assert await rule.charge_async({"admin": True}) is None
    assert await rule.charge_async({"admin": False, "user": 1}) == {
        "entity_id": "1",
        "resource": "default",
        "refund_on_error": False,
    }
    with pytest.raises(ValidationError, match="use a plain function"):
        rule.charge({"admin": False})


def test_the_example() -> None:
    """It admits as many requests as it says."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), runpy.run_path(str(EXAMPLE))["Handler"])
    server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[attr-defined]
    with server, ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever)
        answers = [_get(server.server_port) for _ in range(6)]
        server.shutdown()
    assert [answer.status for answer in answers] == [200] * 5 + [429]
    assert answers[0].getheader("RateLimit", "").startswith('"requests";r=4;t=')


def _get(port: int) -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/")
    response = connection.getresponse()
    response.read()
    connection.close()
    return response
