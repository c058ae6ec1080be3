"""The Flask extension in the newest Flask."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from flask import Blueprint, Flask, Response, abort, g, request, send_file, stream_with_context
from flask.views import MethodView
from support.recorder import SyncRecorder

from limiter import ConfigurationError, LeaseClosed, RateLimitExceeded, SyncLease, SyncRateLimiter, ValidationError
from limiter.contrib.flask import Limiter
from limiter.contrib.http import Refusal, client_ip

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[2] / "examples" / "adapters" / "flask_app.py"


def statuses(app: Flask, path: str = "/", count: int = 3, **options: Any) -> list[int]:
    """The statuses of some requests, one after another, whose responses are read and closed."""
    client = app.test_client()
    return [client.get(path, buffered=True, **options).status_code for _ in range(count)]


def left(limiter: SyncRateLimiter, entity: str = "one") -> int:
    """What is left of the bucket."""
    return limiter.check(entity, consume={"requests": 0}).statuses[0].available


@pytest.fixture
def app() -> Flask:
    """An application without any limit."""
    return Flask(__name__)


@pytest.fixture
def limits(app: Flask, sync_limiter: SyncRateLimiter) -> Limiter:
    """The extension of that application, which charges one bucket."""
    return Limiter(sync_limiter, entity=lambda: "one", app=app, headers="draft-11")


def test_a_limit_above_the_route_is_warned_of(app: Flask, limits: Limiter) -> None:
    """Flask has registered the function by then, and would call it without the limit."""
    with pytest.warns(RuntimeWarning, match=r"above the route of index\(\).*below the route") as warned:

        @limits.limit()
        @app.get("/")
        def index() -> str:
            return "free"

    assert [warning.filename for warning in warned] == [__file__]
    assert statuses(app) == [200, 200, 200]


def test_a_view_is_limited_and_others_are_not(app: Flask, limits: Limiter) -> None:
    """Of three requests two are answered, with headers, and the third is 429 with a problem document."""

    @app.get("/")
    @limits.limit()
    def index() -> str:
        return f"{g.lease.entity_id} {g.lease.resource}"

    @app.get("/free")
    def free() -> str:
        return "free"

    client = app.test_client()
    answers = [client.get("/") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].text == "one default"
    assert answers[0].headers["RateLimit"] == '"requests";r=1;t=3600'
    assert (answers[2].mimetype, answers[2].headers["Retry-After"]) == ("application/problem+json", "3600")
    assert answers[2].json == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "Over the limit: requests. Try again in 3600 s.",
        "violated-policies": ["requests"],
    }
    assert answers[2].headers.getlist("RateLimit") == ['"requests";r=0;t=3600']
    assert statuses(app, "/free") == [200] * 3


def test_it_decorates_without_arguments_too(app: Flask, limits: Limiter) -> None:
    """The parentheses may be left out."""

    @app.get("/")
    @limits.limit
    def index() -> str:
        return "hello"

    assert statuses(app) == [200, 200, 429]


def test_one_extension_serves_several_applications(sync_limiter: SyncRateLimiter) -> None:
    """`init_app` prepares each of them."""
    limits = Limiter(sync_limiter, entity="one")

    def make() -> Flask:
        app = Flask(__name__)
        limits.init_app(app)
        app.add_url_rule("/", view_func=limits.limit()(lambda: "hello"))
        return app

    assert statuses(make(), count=1) + statuses(make(), count=2) == [200, 200, 429]


def test_an_application_that_was_not_prepared_is_an_error(app: Flask, sync_limiter: SyncRateLimiter) -> None:
    """An application without `init_app` raises an error that says what is missing."""
    app.testing = True
    app.add_url_rule("/", view_func=Limiter(sync_limiter, entity="one").limit()(lambda: "hello"))

    with pytest.raises(ConfigurationError, match=r"init_app\(app\)"):
        statuses(app)


def test_async_views(app: Flask, limits: Limiter) -> None:
    """Flask runs them in a loop of their own, to which the lease does not belong."""

    @app.get("/")
    @limits.limit()
    async def index() -> str:
        g.lease.adjust(requests=1)
        return "hello"

    assert statuses(app) == [200, 429, 429]


def test_views_that_are_classes(app: Flask, limits: Limiter) -> None:
    """As a decorator of the class's views or of one method."""

    class Items(MethodView):
        """One method is limited."""

        @limits.limit(resource="get")
        def get(self) -> str:
            return "hello"

        def post(self) -> str:
            return "hello"

    class Users(MethodView):
        """All methods are limited."""

        decorators = [limits.limit(resource="users")]  # noqa: RUF012 - as Flask has it

        def get(self) -> str:
            return "hello"

    app.add_url_rule("/items", view_func=Items.as_view("items"))
    app.add_url_rule("/users", view_func=Users.as_view("users"))
    assert statuses(app, "/items") == statuses(app, "/users") == [200, 200, 429]
    assert app.test_client().post("/items").status_code == 200


def test_a_blueprint_is_limited_but_for_what_is_exempt_or_has_its_own_rule(app: Flask, limits: Limiter) -> None:
    """The rule that is nearest to the view counts, alone."""
    blueprint = Blueprint("api", __name__)

    @blueprint.get("/shared")
    def shared() -> str:
        assert g.lease.resource == "api"
        return "hello"

    @blueprint.get("/also-shared")
    async def also_shared() -> str:
        return "hello"

    @blueprint.get("/own")
    @limits.limit(resource="own")
    def own() -> str:
        assert g.lease.resource == "own"
        return "hello"

    @blueprint.get("/exempt")
    @limits.exempt
    def exempt() -> str:
        assert g.lease is None
        return "hello"

    limits.limit(resource="api")(blueprint)
    app.register_blueprint(blueprint)

    assert statuses(app, "/shared", 1) + statuses(app, "/also-shared", 2) == [200, 200, 429]
    assert statuses(app, "/own") == [200, 200, 429]
    assert statuses(app, "/exempt", 5) == [200] * 5


def test_nested_blueprints_and_the_application(app: Flask, limits: Limiter) -> None:
    """A blueprint's rule replaces the rule of its parent, and an exempt blueprint has none."""
    outer, inner, open_ = (Blueprint(name, __name__, url_prefix=f"/{name}") for name in ("outer", "inner", "open"))
    for blueprint in (outer, inner, open_):
        blueprint.add_url_rule("/", "index", lambda: g.lease.resource if g.lease else "none")
    limits.limit(resource="outer")(outer)
    limits.limit(resource="inner")(inner)
    limits.exempt(open_)
    limits.limit(resource="all")(app)
    app.add_url_rule("/", view_func=lambda: g.lease.resource)
    outer.register_blueprint(inner)
    app.register_blueprint(outer)
    app.register_blueprint(open_)

    client = app.test_client()
    assert [client.get(path).text for path in ("/", "/outer/", "/outer/inner/", "/open/")] == ["all", "outer", "inner", "none"]
    assert client.get("/nowhere").status_code == 404
    assert client.get("/").status_code == 429, "a path that does not exist is charged by the application's rule"


def test_only_views_blueprints_and_applications_can_be_limited(limits: Limiter) -> None:
    """Limiting anything else is an error that names the value."""
    with pytest.raises(ValidationError, match="not for 5"):
        limits.limit()(5)


def test_an_entity_is_made_in_the_request(app: Flask, sync_limiter: SyncRateLimiter) -> None:
    """None exempts; the rule's own entity replaces the extension's."""
    limits = Limiter(sync_limiter, entity=lambda: request.args.get("user"), app=app)
    app.add_url_rule("/", view_func=limits.limit()(lambda: "hello"))
    by_address = limits.limit(entity=lambda: client_ip(request.remote_addr, request.headers.get))
    app.add_url_rule("/own", "own", by_address(lambda: "hello"))

    assert statuses(app) == [200] * 3
    assert statuses(app, "/?user=a") == statuses(app, "/?user=b") == [200, 200, 429]
    assert statuses(app, "/own") == [200, 200, 429]
    assert left(sync_limiter, "127.0.0.1") == 0


def test_preflights_are_exempt(app: Flask, limits: Limiter) -> None:
    """CORS preflights are not charged."""
    app.add_url_rule("/", view_func=limits.limit()(lambda: "hello"), methods=["GET", "OPTIONS"], provide_automatic_options=False)
    headers = {"Origin": "https://example.com", "Access-Control-Request-Method": "GET"}

    client = app.test_client()
    assert [client.options("/", headers=headers).status_code for _ in range(3)] == [200] * 3
    assert [client.options("/").status_code for _ in range(3)] == [200, 200, 429]


def test_arguments_are_handed_on(app: Flask) -> None:
    """Parameters that are passed reach `acquire`, `also` included; others keep its defaults."""
    recorder: Any = SyncRecorder()
    limits = Limiter(recorder, entity=lambda: "one", app=app)
    everything: dict[str, Any] = {"resource": "search", "consume": {"tokens": 5}, "limits": [], "also": [("all", "x")]}
    app.add_url_rule("/", view_func=limits.limit()(lambda: "hello"))
    app.add_url_rule("/full", "full", limits.limit(**everything)(lambda: "hello"))

    assert statuses(app, "/", 1) + statuses(app, "/full", 1) == [200, 200]
    assert recorder.calls == [
        {"entity_id": "one", "resource": "default", "refund_on_error": False},
        {"entity_id": "one", "refund_on_error": False, **everything},
    ]


@pytest.mark.parametrize("status", [401, 503])
def test_failed_logins_count_and_errors_of_the_server_where_not_asked(
    app: Flask, limits: Limiter, sync_limiter: SyncRateLimiter, status: int
) -> None:
    """Without `refund_when` nothing is given back."""
    app.add_url_rule("/", view_func=limits.limit()(lambda: abort(status)))

    assert statuses(app) == [status, status, 429]


@pytest.mark.parametrize(("raised", "told"), [(None, 200), (401, 401), (503, 503), (ZeroDivisionError, 500)])
def test_refund_when_is_told_the_status(
    app: Flask, limits: Limiter, sync_limiter: SyncRateLimiter, raised: Any, told: int
) -> None:
    """It is the status that the client has seen, also where Flask makes the response to an error."""
    seen: list[int] = []

    @app.get("/")
    @limits.limit(refund_when=lambda status, _: bool(seen.append(status)) or status >= 500)  # type: ignore[func-returns-value]
    def index() -> str:
        if isinstance(raised, int):
            abort(raised)
        if raised is not None:
            raise raised
        return "hello"

    assert statuses(app, "/", 1) == [told]
    assert seen == [told]
    assert left(sync_limiter) == (2 if told >= 500 else 1)


def test_errors_that_leave_the_application(app: Flask, limits: Limiter, sync_limiter: SyncRateLimiter) -> None:
    """While testing and debugging Flask lets them through."""
    app.testing = True
    seen: list[Any] = []

    @app.get("/")
    @limits.limit(refund_when=lambda *told: bool(seen.append(told)) or True)  # type: ignore[func-returns-value]
    def index() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        statuses(app)
    assert [(status, type(error)) for status, error in seen] == [(500, ZeroDivisionError)]
    assert left(sync_limiter) == 2


def test_the_cost_can_come_from_the_response(app: Flask, limits: Limiter, sync_limiter: SyncRateLimiter) -> None:
    """Hooks that see the response find the lease, which has not ended."""

    @app.after_request
    def correct(response: Response) -> Response:
        g.lease.adjust(requests=int(response.headers["X-Cost"]))
        return response

    @app.get("/")
    @limits.limit()
    def index() -> tuple[str, dict[str, str]]:
        return "hello", {"X-Cost": "5"}

    assert statuses(app, "/", 1) == [200]
    assert left(sync_limiter) == -4


def test_streams_keep_the_lease_until_they_are_closed(app: Flask, limits: Limiter, sync_limiter: SyncRateLimiter) -> None:
    """A generator corrects what it took, chunk by chunk, and the lease ends when the server closes it."""
    kept: list[SyncLease] = []

    @app.get("/")
    @limits.limit()
    def index() -> Response:
        lease: SyncLease = g.lease
        kept.append(lease)

        def chunks() -> Iterator[str]:
            yield "a"
            lease.adjust(requests=1)
            yield "b"

        return Response(chunks())

    with app.test_client().get("/") as response:
        assert response.get_data(as_text=True) == "ab"
        kept[0].adjust(requests=-1)
    assert left(sync_limiter) == 1
    with pytest.raises(LeaseClosed):
        kept[0].adjust(requests=1)


@pytest.mark.parametrize("with_context", [True, False])
def test_a_client_that_hangs_up_pays(app: Flask, limits: Limiter, sync_limiter: SyncRateLimiter, with_context: bool) -> None:
    """The stream's `finally` can still correct the lease; `refund_when` sees the client's part in it."""
    seen: list[tuple[int, Any]] = []

    def refund_when(status: int, error: BaseException | None) -> bool:
        seen.append((status, type(error)))
        return status >= 500

    @app.get("/")
    @limits.limit(refund_when=refund_when)
    def index() -> Response:
        lease: SyncLease = g.lease

        def chunks() -> Iterator[str]:
            try:
                yield "a"
                yield "b"
            finally:
                lease.adjust(requests=1)

        return Response(stream_with_context(chunks()) if with_context else chunks())

    response = app.test_client().get("/", buffered=False)
    assert next(iter(response.response)) == b"a"
    response.close()

    assert seen == [(200, ConnectionAbortedError)]
    assert left(sync_limiter) == 0


def test_files_stay_the_servers(app: Flask, limits: Limiter, tmp_path: Path) -> None:
    """A server that sends files by itself still can."""
    (tmp_path / "file").write_bytes(b"content")
    app.add_url_rule("/", view_func=limits.limit()(lambda: send_file(tmp_path / "file", mimetype="text/plain")))

    with app.test_client().get("/") as response:
        assert response.data == b"content"


def test_refusals_can_be_answered_otherwise(app: Flask, sync_limiter: SyncRateLimiter) -> None:
    """`on_refused` returns what a view may return, or a `Refusal`, or leaves it."""
    own = Refusal(503, [("X-Busy", "1")], b"busy", "text/plain")

    def on_refused(error: Any) -> Any:
        assert isinstance(error, RateLimitExceeded)
        return {"/text": ("slow down", 420), "/refusal": own}.get(request.path)

    limits = Limiter(sync_limiter, entity="one", app=app, on_refused=on_refused)
    app.add_url_rule("/<path>", view_func=limits.limit(consume={"requests": 3})(lambda path: "hello"))

    client = app.test_client()
    assert [client.get(path).status_code for path in ("/text", "/refusal", "/none")] == [420, 503, 413]


def test_the_example() -> None:
    """It admits as many logins as it says, though they fail."""
    client = runpy.run_path(str(EXAMPLE))["app"].test_client()

    assert [client.post("/login", data={"password": "x"}).status_code for _ in range(6)] == [401] * 5 + [429]
    assert client.post("/login", data={"password": "correct horse"}).status_code == 429
