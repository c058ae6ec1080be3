"""No secret is in a log record, an error, a traceback or the command's output, however a call fails."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from support.engines import free_port

from limiter import Limit, LimiterError, RateLimiter, Repository, SyncRateLimiter, SyncRepository, ValidationError, cli

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS = [Limit.parse("requests=10/minute")]
SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAMARKEDACCESSKEY0",
    "AWS_SECRET_ACCESS_KEY": "marked+secret/access+key",
    "AWS_SESSION_TOKEN": "marked+session/token",
}
PASSWORD = "marked-password"  # noqa: S105 - it opens nothing


class Echo(BaseHTTPRequestHandler):
    """A server that refuses every request and repeats all of it, as AWS does when a signature does not match."""

    code = "InvalidSignatureException"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        shown = "\n".join(f"{name.lower()}:{value}" for name, value in self.headers.items())
        message = f"The signature does not match. The Canonical String for this request should have been\n'POST\n/\n\n{shown}'"
        body = json.dumps({"__type": f"com.amazon.coral.service#{self.code}", "message": message}).encode()
        self.send_response(400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=["InvalidSignatureException", "ExpiredTokenException", "ValidationException", "ThrottlingException"])
def endpoint_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A server that refuses in one way."""
    handler = type("Handler", (Echo,), {"code": request.param})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _marked(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Credentials that can be recognised in any text, logs at every level, and attempts without pauses."""
    for module in ("retry", "sync_retry"):
        monkeypatch.setattr(f"limiter.runtime.{module}.BACKOFF", 0.001)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    caplog.set_level(logging.DEBUG, "limiter")


def everything(error: BaseException) -> str:
    """Return all that a program may log of an error: its text, its repr, and the traceback with its causes."""
    return "\n".join([str(error), repr(error), *traceback.format_exception(error)])


def check_clean(text: str) -> None:
    """Check that a text contains no marked credential."""
    for secret in (*SECRETS.values(), PASSWORD):
        assert secret not in text


def use(repository_url: str) -> list[BaseException]:
    """Return what both limiters raise, under every policy, and what opening raises."""
    errors: list[BaseException] = []
    with_timeouts = {"connect_timeout": 0.5, "read_timeout": 1.0}

    async def use_async() -> None:
        repository = Repository("my-app", endpoint_url=repository_url, **with_timeouts)
        for call in (repository.open, lambda: RateLimiter(repository, LIMITS).try_acquire("user", on_unavailable="allow")):
            try:
                await call()
            except LimiterError as error:
                errors.append(error)
        await repository.close()

    asyncio.run(use_async())
    repository = SyncRepository("my-app", endpoint_url=repository_url, **with_timeouts)
    limiter = SyncRateLimiter(repository, LIMITS)
    for call in (repository.open, lambda: limiter.try_acquire("user", on_unavailable="allow"), limiter.delete_limits):
        try:
            call()
        except LimiterError as error:
            errors.append(error)
    repository.close()
    return errors


def test_an_engine_that_shows_the_request(
    endpoint_url: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server repeats what was signed; neither errors with their causes, nor logs, nor the command's output contain it."""
    errors = use(endpoint_url)
    assert len(errors) >= 3
    for error in errors:
        check_clean(everything(error))
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint_url)
    for command in (["limits", "get", "-s", "my-app"], ["check", "user", "api", "-s", "my-app"]):
        assert cli.run(command)
    check_clean(caplog.text + "".join(capsys.readouterr()))


@pytest.mark.parametrize("url", [f"http://marked:{PASSWORD}@127.0.0.1:1", f"https://{PASSWORD}@127.0.0.1:1/x"])
def test_an_endpoint_holds_no_password(url: str) -> None:
    """An endpoint with a user or password is refused without being shown; botocore would show it in every error."""
    with pytest.raises(ValidationError, match="user name or password") as caught:
        SyncRepository("my-app", endpoint_url=url)
    check_clean(everything(caught.value))


def test_a_password_in_an_environment_variable(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint or proxy from the environment may hold a password; the limiter's messages and logs do not show it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://marked:{PASSWORD}@127.0.0.1:{free_port()}")
    for error in use(None):  # type: ignore[arg-type] # from the environment
        check_clean(str(error) + repr(error))
    check_clean(caplog.text)


def test_values_are_shown_without_credentials() -> None:
    """The repr of repositories and limiters names the table and the namespace, and nothing about credentials or endpoints."""
    for repository in (Repository("my-app"), SyncRepository("my-app")):
        check_clean(repr(repository) + str(vars(repository)))
