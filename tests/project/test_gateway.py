"""The example gateway, over HTTP, with many requests at once."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.engines import wait_until
from support.presence import need
from support.processes import PATIENCE, Server, at_once

from limiter import Limit, SyncRateLimiter, SyncRepository
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.engines import Engine

FOLDER = Path(__file__).parents[2] / "examples" / "gateway"
REQUESTS, TOKENS = 20, 2000
# So slow that no test is long enough for the next unit.
LIMITS = [Limit("requests", REQUESTS, 1, 86400.0), Limit("tokens", TOKENS, 1, 86400.0)]
KEY, OTHER_KEY = "key-1", "key-2"
Answer = tuple[int, dict[str, str], Any]


class Gateway:
    """A running gateway, and its table."""

    def __init__(self, engine: Engine, table: str, **environment: str) -> None:
        create_table(table, endpoint_url=engine.endpoint_url)
        self.limiter = SyncRateLimiter(
            SyncRepository(table, endpoint_url=engine.endpoint_url, connect_timeout=30, read_timeout=30), decision_timeout=60
        )
        self.limiter.set_limits(LIMITS)
        environment |= {"AWS_ENDPOINT_URL": str(engine.endpoint_url), "GATEWAY_STACK": table, "GATEWAY_TIMEOUT": "60"}
        options = ["--app-dir", str(FOLDER), "--host", "127.0.0.1", "--port", "{port}", "--log-level", "warning"]
        self.server = Server(["-m", "uvicorn", *options, "app:app"], environment)
        self.server.wait_until_ready()

    def post(self, path: str, prompt: str, *, key: str = KEY, max_tokens: int = 10) -> Answer:
        """Send a prompt."""
        body = {"prompt": prompt, "max_tokens": max_tokens}
        return self.server.call(path, "POST", body=body, headers={"X-API-Key": key})

    def post_all(self, path: str, count: int, prompt: str, **options: Any) -> list[Answer]:
        """Send a prompt many times at once."""
        return at_once([partial(self.post, path, prompt, **options)] * count)

    def status(self, job_id: str, key: str = KEY) -> Answer:
        """Ask for a job."""
        return self.server.call(f"/status/{job_id}", headers={"X-API-Key": key})

    def ended(self, job_id: str) -> Any:
        """Wait for a job's end, and return what is known of it."""
        assert wait_until(lambda: self.status(job_id)[2]["status"] in {"done", "failed"}, PATIENCE)
        return self.status(job_id)[2]

    def left(self) -> dict[str, int]:
        """What the table says is left for the key."""
        entity = hashlib.sha256(KEY.encode()).hexdigest()[:32]
        return {status.limit.name: status.available for status in self.limiter.check(entity, "model").statuses}

    def stop(self) -> None:
        """Stop it."""
        self.server.stop()
        self.limiter.repository.close()


@pytest.fixture
def start_gateway(server_engine: Engine, table_name: str) -> Iterator[Callable[..., Gateway]]:
    """Starts a gateway on an engine."""
    need("fastapi", "uvicorn", "aiobotocore")
    started: list[Gateway] = []

    def start(**environment: str) -> Gateway:
        started.append(Gateway(server_engine, table_name, **environment))
        return started[-1]

    yield start
    for gateway in started:
        gateway.stop()


@pytest.fixture
def gateway(start_gateway: Callable[..., Gateway]) -> Gateway:
    """A running gateway."""
    return start_gateway()


def split(answers: list[Answer], accepted: int) -> tuple[list[Any], list[Answer]]:
    """The bodies of the accepted answers, and the refused ones; the test fails when there is anything else."""
    assert {status for status, _, _ in answers} <= {accepted, 429}, answers
    return [body for status, _, body in answers if status == accepted], [each for each in answers if each[0] == 429]


@pytest.mark.engines("dynoxide", "moto")
def test_run_answers_and_refuses(gateway: Gateway) -> None:
    """Of many requests at once the limit's number are answered, the others refused with a time to try again."""
    done, refused = split(gateway.post_all("/run", 2 * REQUESTS, "one two three", max_tokens=50), 200)

    assert len(done) == REQUESTS
    assert all(body["tokens"] == len(body["result"]) == 3 for body in done)
    assert all(int(headers["retry-after"]) >= 1 and "requests" in body["detail"] for _, headers, body in refused)
    assert gateway.left() == {"requests": 0, "tokens": TOKENS - 3 * REQUESTS}


@pytest.mark.engines("dynoxide", "moto")
def test_jobs_complete_and_are_refused(gateway: Gateway) -> None:
    """Of many jobs at once the limit's number are accepted, and complete; the others are refused with a time to try again."""
    accepted, refused = split(gateway.post_all("/run/async", 2 * REQUESTS, "one two three", max_tokens=50), 202)

    assert len({body["job_id"] for body in accepted}) == REQUESTS
    assert all(int(headers["retry-after"]) >= 1 for _, headers, _ in refused)
    jobs = [gateway.ended(body["job_id"]) for body in accepted]
    assert all(job["status"] == "done" and len(job["result"]) == 3 for job in jobs)
    assert gateway.left() == {"requests": 0, "tokens": TOKENS - 3 * REQUESTS}


@pytest.mark.engines("dynoxide")
def test_failures_give_everything_back(gateway: Gateway) -> None:
    """What work took that fails comes back, in the request and in a job."""
    answers = gateway.post_all("/run", REQUESTS // 2, "something forbidden", max_tokens=100)
    accepted, refused = split(gateway.post_all("/run/async", REQUESTS // 2, "something forbidden", max_tokens=100), 202)

    assert {status for status, _, _ in answers} == {422}
    assert not refused
    for body in accepted:
        assert gateway.ended(body["job_id"]) == {**body, "status": "failed", "error": "this prompt is not answered"}
    assert gateway.left() == {"requests": REQUESTS, "tokens": TOKENS}


@pytest.mark.engines("dynoxide")
def test_both_ways_share_the_key_and_keys_share_nothing(gateway: Gateway) -> None:
    """A key's limit holds for both ways together, by either twin, and another key has its own."""
    each = [partial(gateway.post, path, "one") for path in ("/run", "/run/async")] * REQUESTS
    statuses = [status for status, _, _ in at_once(each)]

    assert statuses.count(429) == REQUESTS
    assert statuses.count(200) + statuses.count(202) == REQUESTS
    assert {status for status, _, _ in gateway.post_all("/run", REQUESTS, "one", key=OTHER_KEY)} == {200}


@pytest.mark.engines("dynoxide")
def test_what_does_not_fit_at_all(gateway: Gateway) -> None:
    """A request above the capacity is told so and costs nothing; a job of another key is nowhere to be found."""
    status, headers, body = gateway.post("/run", "one", max_tokens=TOKENS + 1)
    _, _, job = gateway.post("/run/async", "one", max_tokens=1)

    assert (status, "retry-after" in headers) == (413, False)
    assert "tokens" in body["detail"]
    assert gateway.status(job["job_id"])[0] == 200
    assert gateway.status(job["job_id"], OTHER_KEY)[0] == 404
    assert gateway.server.call("/run", "POST", body={"prompt": "one"})[0] == 422
    gateway.ended(job["job_id"])
    assert gateway.left() == {"requests": REQUESTS - 1, "tokens": TOKENS - 1}


@pytest.mark.engines("dynoxide")
def test_stopping_gives_back_what_unfinished_jobs_took(start_gateway: Callable[..., Gateway]) -> None:
    """Jobs that a stopping gateway gives up do not cost anything."""
    gateway = start_gateway(GATEWAY_ROUNDS="300000")
    accepted, _ = split(gateway.post_all("/run/async", REQUESTS, "one two three", max_tokens=100), 202)
    assert len(accepted) == REQUESTS
    before = gateway.left()
    # A machine may be so slow that jobs end while others are being accepted; each of them has used three of its hundred tokens.
    ended, rest = divmod(before["tokens"], 100 - 3)
    assert (before["requests"], rest) == (0, 0)
    assert ended < REQUESTS

    gateway.server.stop()

    left = gateway.left()
    assert 0 < left["requests"] <= REQUESTS - ended
    assert left["tokens"] == TOKENS - 3 * (REQUESTS - left["requests"])
