"""The adapter for requests, in front of a server on this machine."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support.memory_limiters import left, new_limiter, wait
from support.presence import needed

from limiter import RateLimitExceeded
from limiter.contrib.requests import OPENAI, LimiterAdapter

requests = needed("requests")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.engines import FakeClock


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    def do_GET(self) -> None:
        """Answer a request."""
        self.send_response(int(self.path[1:4]))
        self.send_header("Retry-After", "30")
        self.send_header("X-RateLimit-Remaining-Requests", "4")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a server."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def get(limiter: Any, url: str, **terms: Any) -> Any:
    """Make one request through a new session, and return the response."""
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", LimiterAdapter(requests.adapters.HTTPAdapter(), limiter, **({"entity": "me"} | terms)))
        return session.get(url, timeout=30)


def test_requests_wait_for_their_turn_or_are_refused(url: str, clock: FakeClock) -> None:
    """Within `timeout` a request waits; beyond it nothing is sent."""
    limiter, begun = new_limiter("sync", clock, "requests=1/second burst 2"), clock()
    assert [get(limiter, url + "/200", timeout=1.5).status_code for _ in range(4)] == [200] * 4
    assert clock() - begun == 2 * 10**9
    with pytest.raises(RateLimitExceeded):
        get(limiter, url + "/200")


def test_a_429_pauses_for_all_processes(url: str, clock: FakeClock) -> None:
    """No process gets a turn until its Retry-After is over, and the caller gets the response; not without `feedback`."""
    limiter = new_limiter("sync", clock, "requests=9/hour")
    assert get(limiter, url + "/429", resource="mail").status_code == 429
    get(limiter, url + "/429", feedback=False)
    get(limiter, url + "/503")
    assert (wait(limiter, "me", "mail"), wait(limiter, "me")) == (30.0, 0.0)
    with pytest.raises(RateLimitExceeded):
        get(limiter, url + "/200", resource="mail")


def test_headers_lower_what_is_left(url: str, clock: FakeClock) -> None:
    """The server's number of remaining units applies if it is lower than the bucket's."""
    limiter = new_limiter("sync", clock, "requests=9/hour")
    get(limiter, url + "/200", remaining=OPENAI)
    assert left(limiter, "me") == {"requests": 4}


def test_a_request_that_was_not_sent_is_given_back(clock: FakeClock) -> None:
    """An adapter that raises has used nothing."""
    limiter = new_limiter("sync", clock, "requests=9/hour")
    with pytest.raises(requests.ConnectionError):
        get(limiter, "http://127.0.0.1:1/200")
    assert left(limiter, "me") == {"requests": 9}


def test_terms_may_depend_on_the_request(url: str, clock: FakeClock) -> None:
    """The path may be the entity, and a request without an entity is exempt."""
    limiter = new_limiter("sync", clock, "requests=9/hour")
    for path in ("/200", "/404"):
        get(limiter, url + path, entity=lambda request: None if request.path_url == "/200" else request.path_url)
    assert left(limiter, "/404") == {"requests": 8}
    assert limiter.stats().decisions == 1


def test_it_imports_nothing_of_requests() -> None:
    """The module can be imported where requests is not installed."""
    code = "import sys, limiter.contrib.requests; print('requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
