"""The limiter in gunicorn's workers: gevent, gevent with a preloaded application, and threads."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from support.presence import need
from support.processes import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import Engine
    from support.processes import Server

REQUESTS = 200
ADMITTED = 150
THREADS = 8
GEVENT = {"worker_class": "gevent", "configuration": "gunicorn_plain.py"}
GEVENT_PRELOADED = {"worker_class": "gevent", "configuration": "gunicorn_patched_first.py"}
THREADED = {"worker_class": "gthread", "threads": str(THREADS)}


@pytest.fixture
def gunicorn(serve: Callable[..., Server], slow_network: Callable[..., Any]) -> Callable[..., Any]:
    """Starts gunicorn with `wsgi_app.py`, whose network is slow and speaks TLS; returns it and the network."""
    need("gunicorn", "gevent")

    def start(
        engine: Engine,
        table: str,
        *flags: str,
        worker_class: str,
        configuration: str = "gunicorn_plain.py",
        workers: str = "2",
        threads: str = "1",
        **environment: str,
    ) -> Any:
        network = slow_network(engine)
        where = ["--chdir", str(FOLDER), "--bind", "127.0.0.1:{port}", "--config", str(FOLDER / configuration)]
        what = ["--worker-class", worker_class, "--workers", workers, "--threads", threads, "--timeout", "120"]
        environment |= {"STACK": table} | network.environment
        return serve("-m", "gunicorn", *where, *what, *flags, "wsgi_app:application", **environment), network

    return start


def admitted(answers: list[Any]) -> int:
    """How many were admitted; the test fails when a request failed."""
    assert Counter(status for status, _, _ in answers) == {200: len(answers)}, answers[-1]
    return sum(body["admitted"] for _, _, body in answers)


def workers(answers: list[Any]) -> set[int]:
    """The processes that have answered."""
    return {body["worker"] for _, _, body in answers}


@pytest.mark.parametrize("options", [GEVENT, GEVENT_PRELOADED], ids=["gevent", "gevent-preloaded"])
@pytest.mark.engines("dynoxide", "dynamodb-local")
def test_greenlets_overlap_and_admit_exactly(server_engine: Engine, table: str, gunicorn: Any, options: Any) -> None:
    """200 requests at once wait together in two workers while other greenlets run, and the limit is exact."""
    server, network = gunicorn(server_engine, table, **options, CAPACITY=str(ADMITTED))

    answers = server.call_all(["/?entity=one"] * REQUESTS)

    assert admitted(answers) == ADMITTED
    ticks = [body["ticks"] for _, _, body in answers if body["admitted"]]
    assert sum(map(bool, ticks)) > ADMITTED / 2
    assert max(body["most_inside"] for _, _, body in answers) > REQUESTS / 10

    network.count()
    answers = server.call_all([f"/?entity=each-{number}" for number in range(REQUESTS)])

    assert admitted(answers) == REQUESTS
    assert network.count()["most_under_way"] > REQUESTS / 10
    assert len(workers(answers)) == 2


@pytest.mark.parametrize("early", [{}, {"IMPORT_FIRST": "boto3"}, {"OPEN_FIRST": "yes"}], ids=["made", "boto3", "opened"])
@pytest.mark.engines("dynoxide")
def test_preloading_without_patching_is_explained(
    server_engine: Engine, table: str, gunicorn: Any, early: dict[str, str]
) -> None:
    """An application that was preloaded before gevent patched fails at its first use, with an error that names the fix."""
    server, _ = gunicorn(server_engine, table, "--preload", **GEVENT, **early)

    for status, _, answer in server.call_all(["/"] * 10):
        assert status == 500
        assert answer["error"].startswith("RuntimeNotReady: ")
        assert "call gevent.monkey.patch_all()" in answer["error"]
        assert "at the top of its configuration file" in answer["error"]


@pytest.mark.parametrize("early", [{"IMPORT_FIRST": "boto3"}, {"OPEN_FIRST": "yes"}], ids=["boto3", "opened"])
@pytest.mark.engines("dynoxide")
def test_preloading_after_patching_forgives_everything(
    server_engine: Engine, table: str, gunicorn: Any, early: dict[str, str]
) -> None:
    """With gevent patched first, the application may import boto3 and even open the limiter before gunicorn forks."""
    server, _ = gunicorn(server_engine, table, **GEVENT_PRELOADED, **early)

    answers = server.call_all(["/?entity=one"] * 50)

    assert admitted(answers) == 50
    assert {body["master"] for _, _, body in answers}.isdisjoint(workers(answers))


@pytest.mark.engines("dynoxide", "dynamodb-local")
def test_threads_admit_exactly(server_engine: Engine, table: str, gunicorn: Any) -> None:
    """Two workers of 8 threads admit exactly what the limit allows."""
    server, _ = gunicorn(server_engine, table, **THREADED, CAPACITY=str(ADMITTED))

    assert admitted(server.call_all(["/?entity=one"] * REQUESTS)) == ADMITTED


@pytest.mark.engines("dynoxide")
def test_no_lock_spans_a_network_call(server_engine: Engine, table: str, gunicorn: Any) -> None:
    """All 8 threads of a worker have a call of their own under way at the same time, when their buckets are different ones."""
    server, network = gunicorn(server_engine, table, **THREADED, workers="1")
    admitted(server.call_all(["/"] * THREADS))
    network.count()

    answers = server.call_all([f"/?entity=each-{number}" for number in range(10 * THREADS)])

    assert admitted(answers) == 10 * THREADS
    assert network.count()["most_under_way"] == THREADS


@pytest.mark.engines("dynoxide")
def test_preloaded_and_opened_before_the_fork(server_engine: Engine, table: str, gunicorn: Any) -> None:
    """Workers that inherit an open limiter make their own clients and locks."""
    server, network = gunicorn(server_engine, table, "--preload", **THREADED, OPEN_FIRST="yes", CAPACITY=str(ADMITTED))
    assert network.count()["connections"] == 1

    answers = server.call_all(["/?entity=one"] * REQUESTS)

    assert admitted(answers) == ADMITTED
    assert network.count()["connections"] >= len(workers(answers)) == 2
    assert {body["master"] for _, _, body in answers}.isdisjoint(workers(answers))
