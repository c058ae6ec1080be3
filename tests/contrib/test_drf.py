"""The throttle in the newest Django REST framework."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import override_settings
from django.urls import path
from rest_framework.response import Response
from rest_framework.test import APIClient, APIRequestFactory, force_authenticate
from rest_framework.views import APIView
from support import django_project
from support.recorder import SyncRecorder

from limiter import ConfigurationError, Limit, RateLimiterUnavailable, SyncMemoryRepository, SyncRateLimiter
from limiter.contrib.drf import LimiterThrottle

pytestmark = pytest.mark.usefixtures("urls")


def throttle(limiter: Any, **attributes: Any) -> Any:
    """A throttle of a limiter."""
    return type("Throttle", (LimiterThrottle,), {"limiter": limiter, **attributes})


def view(*throttles: Any, **attributes: Any) -> Any:
    """A view with throttles."""

    def get(self: Any, request: Any) -> Response:
        return Response("hello")

    return type("SomeView", (APIView,), {"throttle_classes": list(throttles), "get": get, **attributes}).as_view()  # type: ignore[attr-defined]


def statuses(view: Any, count: int = 3, user: Any = None, **environ: Any) -> list[int]:
    """The statuses of some requests."""
    requests = [APIRequestFactory().get("/", **environ) for _ in range(count)]
    for request in requests:
        force_authenticate(request, user)
    return [view(request).status_code for request in requests]


def test_requests_are_throttled_with_headers(urls: list[Any], sync_limiter: SyncRateLimiter) -> None:
    """Of three requests two are answered, and the third is 429 as REST framework does it; the middleware adds the headers."""
    urls.append(path("", view(throttle(sync_limiter))))
    with override_settings(MIDDLEWARE=django_project.LIMITER_MIDDLEWARE, LIMITER={"headers": "draft-11"}):
        answers = [APIClient().get("/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["RateLimit"] == '"requests";r=1;t=3600'
    assert answers[2].headers["Retry-After"] == "3600"
    assert answers[2].json() == {"detail": "Request was throttled. Expected available in 3600 seconds."}


def test_requests_at_once_are_counted_exactly() -> None:
    """One write decides, which the throttles of REST framework cannot."""
    limited = view(throttle(SyncRateLimiter(SyncMemoryRepository(), [Limit("requests", 10, 1, 86400.0)])))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: limited(APIRequestFactory().get("/")).status_code, range(40)))

    assert answers.count(200) == 10


def test_users_addresses_and_scopes_have_their_own(sync_limiter: SyncRateLimiter) -> None:
    """A user is charged by primary key, others by address, for the scope of the throttle or the view."""
    one, two = (SimpleNamespace(is_authenticated=True, pk=number) for number in (1, 2))
    searches = view(throttle(sync_limiter, scope="search"))

    assert statuses(searches, user=one) == statuses(searches, user=two) == [200, 200, 429]
    assert statuses(searches, REMOTE_ADDR="192.0.2.1") == statuses(searches, REMOTE_ADDR="192.0.2.2") == [200, 200, 429]
    assert statuses(view(throttle(sync_limiter)), user=one) == [200, 200, 429]
    assert statuses(view(throttle(sync_limiter), throttle_scope="search"), user=one) == [429] * 3
    assert {entity: sync_limiter.check(entity, "search").allowed for entity in ("user:1", "192.0.2.1", "x")} == {
        "user:1": False,
        "192.0.2.1": False,
        "x": True,
    }


@pytest.mark.parametrize(("proxies", "expected"), [(None, "10.0.0.1"), (0, "10.0.0.1"), (1, "203.0.113.9")])
def test_addresses_behind_proxies(proxies: int | None, expected: str) -> None:
    """The setting `NUM_PROXIES` counts, and without it no header is believed."""
    recorder = SyncRecorder()
    with override_settings(REST_FRAMEWORK={"NUM_PROXIES": proxies, "UNAUTHENTICATED_USER": None}):
        environ = {"REMOTE_ADDR": "10.0.0.1", "HTTP_X_FORWARDED_FOR": "1.1.1.1, 203.0.113.9"}
        assert statuses(view(throttle(recorder)), 1, **environ) == [200]
    assert recorder.calls[0]["entity_id"] == expected


def test_what_is_charged_can_be_overridden() -> None:
    """Attributes and methods become the arguments of the acquire; more targets are one decision, and None exempts."""
    recorder = SyncRecorder()
    attributes: dict[str, Any] = {
        "consume": {"tokens": 5},
        "limits": [],
        "timeout": 2.0,
        "entity": lambda self, request, view: request.GET.get("user"),
        "also": lambda self, request, view: [("all", "x")],
    }
    limited = view(throttle(recorder, **attributes))

    limited(APIRequestFactory().get("/?user=one"))
    limited(APIRequestFactory().get("/"))

    assert recorder.calls == [
        {
            "entity_id": "one",
            "resource": "default",
            "consume": {"tokens": 5},
            "limits": [],
            "timeout": 2.0,
            "also": [("all", "x")],
        }
    ]


def test_the_longest_wait_of_several_throttles_is_told(sync_limiter: SyncRateLimiter) -> None:
    """REST framework asks all of them."""
    slow = throttle(sync_limiter, scope="slow", limits=[Limit("requests", 1, 1, 7200.0)])
    fast = throttle(sync_limiter, scope="fast", limits=[Limit("requests", 1, 1, 60.0)])
    limited = view(fast, slow)

    limited(APIRequestFactory().get("/"))

    assert limited(APIRequestFactory().get("/")).headers["Retry-After"] == "7200"


def test_what_can_never_fit_is_413_and_an_unreachable_table_503(sync_limiter: SyncRateLimiter) -> None:
    """Both as REST framework renders errors."""

    def fail(*_: Any, **__: Any) -> None:
        raise RateLimiterUnavailable("no table")

    never = view(throttle(sync_limiter, consume={"requests": 3}))(APIRequestFactory().get("/"))
    outage = view(throttle(SimpleNamespace(try_acquire=fail)))(APIRequestFactory().get("/"))

    assert (never.status_code, str(never.data["detail"])) == (413, "The request exceeds the capacity of this limit: requests.")
    assert (outage.status_code, outage.headers["Retry-After"]) == (503, "1")


def test_a_throttle_without_a_limiter_is_an_error() -> None:
    """A throttle without a limiter raises an error that says what is missing."""
    with pytest.raises(ConfigurationError, match="Throttle needs limiter = "):
        statuses(view(throttle(None)))


def test_there_is_nothing_else_in_the_module() -> None:
    """Names are found where they are, and others are not."""
    import limiter.contrib.drf as adapter

    assert dir(adapter) == ["LimiterThrottle"]
    with pytest.raises(AttributeError, match="no attribute 'Throttle'"):
        _ = adapter.Throttle


def test_the_example() -> None:
    """It admits as many searches as it says."""
    assert django_project.statuses_of_example("drf_app", ["/search"] * 6) == [200] * 5 + [429]
