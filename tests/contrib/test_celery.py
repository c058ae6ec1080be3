"""Limited tasks of Celery: in a worker in this process, and in workers of every pool on Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.engines import wait_until
from support.memory_limiters import left, new_limiter
from support.presence import needed

from limiter import (
    ConfigurationError,
    Limit,
    NeverSatisfiable,
    RateLimitExceeded,
    SyncRateLimiter,
    SyncRepository,
    ValidationError,
)
from limiter.local import LocalEngine
from limiter.testing import create_table

celery = needed("celery")

from celery.exceptions import Retry

from limiter.contrib.celery import LimitedTask

if TYPE_CHECKING:
    from support.engines import FakeClock


@pytest.fixture(autouse=True)
def no_django(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery sets Django up where it finds settings, such as those of other tests."""
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)


class Sent(list[dict[str, Any]]):
    """What was sent to the queue, instead of a broker."""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    """Catches what applications send."""
    sent = Sent()
    monkeypatch.setattr(
        celery.Celery,
        "send_task",
        lambda self, name, args=None, kwargs=None, **options: sent.append({"name": name, "args": args} | options),
    )
    monkeypatch.setattr(
        celery.Task, "apply_async", lambda self, args=None, kwargs=None, **options: sent.append({"args": args, **options})
    )
    return sent


def application(**options: Any) -> Any:
    """An application without a broker."""
    app = celery.Celery("tests", broker="memory://", set_as_current=False)
    app.conf.update(options)
    return app


def trace(task: Any, *args: Any, retries: int = 0) -> Any:
    """Run a task as a worker does, and return its state and result."""
    from celery.app.trace import build_tracer

    request = {"id": "1", "args": args, "kwargs": {}, "retries": retries, "delivery_info": {}, "called_directly": False}
    tracer = build_tracer(task.name, task, app=task.app, eager=False, propagate=False)
    return tracer("1", args, {}, request).info


def test_a_task_is_charged_by_its_arguments(clock: FakeClock, sent: Sent) -> None:
    """Entity, resource and amounts are values or callables of the arguments; the resource is the task's name by default."""
    limiter, app = new_limiter("sync", clock, "requests=9/hour"), application()
    options = {"base": LimitedTask, "limiter": limiter, "entity": lambda user, size: user}

    @app.task(name="one", consume=lambda user, size: {"requests": size}, **options)
    def one(user: str | None, size: int) -> None:
        """Do nothing."""

    @app.task(name="other", resource="mail", **options)
    def other(user: str | None, size: int) -> None:
        """Do nothing."""

    for task in (one, other):
        assert trace(task, "ann", 3) is None
        assert trace(task, None, 3) is None
    assert left(limiter, "ann", "one") == {"requests": 6}
    assert left(limiter, "ann", "mail") == {"requests": 8}
    assert sent == []


def test_a_refused_task_goes_back_to_the_queue(clock: FakeClock, sent: Sent) -> None:
    """It does not run, is sent again for when there is enough, not in step with others, and keeps its retries."""
    limiter, ran = new_limiter("sync", clock, "requests=1/minute"), []

    @application().task(base=LimitedTask, limiter=limiter)
    def task(number: int) -> None:
        ran.append(number)

    assert trace(task, 1, retries=2) is None
    assert trace(task, 2, retries=2).retval.when == sent[0]["countdown"]
    trace(task, 3)
    assert ran == [1]
    assert [(each["args"], each["retries"]) for each in sent] == [((2,), 2), ((3,), 0)]
    assert all(60 <= each["countdown"] <= 120 for each in sent)
    assert sent[0]["countdown"] != sent[1]["countdown"]


@pytest.mark.parametrize(
    ("configuration", "options", "countdown"),
    [
        ({}, {}, 900.0),
        ({"broker_transport_options": {"visibility_timeout": 600}}, {}, 300.0),
        ({"broker_transport_options": {"visibility_timeout": 600}}, {"max_countdown": 20.0}, 20.0),
    ],
)
def test_the_countdown_stays_below_the_visibility_timeout(
    clock: FakeClock, sent: Sent, configuration: dict[str, Any], options: dict[str, Any], countdown: float
) -> None:
    """A broker would deliver again what a worker holds for longer; the task asks again before."""
    limiter = new_limiter("sync", clock, "requests=1/day")

    @application(**configuration).task(base=LimitedTask, limiter=limiter, **options)
    def task() -> None:
        """Do nothing."""

    trace(task)
    trace(task)
    assert [each["countdown"] for each in sent] == [countdown]


def test_an_unreachable_table_sends_the_task_back(sent: Sent) -> None:
    """It is tried again some seconds later, and not lost."""
    limiter = SyncRateLimiter(SyncRepository("my-app", endpoint_url="http://127.0.0.1:1"), [Limit.per_day("requests", 1)])

    @application().task(base=LimitedTask, limiter=limiter)
    def task() -> None:
        """Do nothing."""

    assert isinstance(trace(task).retval, Retry)
    assert 5 <= sent[0]["countdown"] <= 10


def test_what_can_never_run_fails(clock: FakeClock, sent: Sent) -> None:
    """An amount above the capacity is the task's failure."""

    @application().task(base=LimitedTask, limiter=new_limiter("sync", clock, "requests=1/day"), consume={"requests": 2})
    def task() -> None:
        """Do nothing."""

    assert isinstance(trace(task).retval, NeverSatisfiable)
    assert sent == []


def test_a_failed_task_keeps_its_charge_unless_told_otherwise(clock: FakeClock, sent: Sent) -> None:
    """`refund_on_error` gives it back."""
    limiter, app = new_limiter("sync", clock, "requests=9/hour"), application()

    def fail() -> None:
        raise KeyError

    trace(app.task(base=LimitedTask, limiter=limiter, name="kept")(fail))
    trace(app.task(base=LimitedTask, limiter=lambda: limiter, refund_on_error=True, name="refunded")(fail))
    assert left(limiter, "default", "kept") == {"requests": 8}
    assert left(limiter, "default", "refunded") == {"requests": 9}


def test_the_body_corrects_its_lease(clock: FakeClock, sent: Sent) -> None:
    """A bound task finds its lease in its request."""
    limiter = new_limiter("sync", clock, "requests=9/hour")

    @application().task(base=LimitedTask, limiter=limiter, bind=True, resource="mail")
    def task(self: Any) -> None:
        self.request.lease.adjust(requests=+4)

    trace(task)
    assert left(limiter, "default", "mail") == {"requests": 4}


def test_without_a_queue_nothing_is_sent_back(clock: FakeClock) -> None:
    """A direct call is not limited, and an eager one raises the refusal."""
    limiter = new_limiter("sync", clock, "requests=1/day")

    @application().task(base=LimitedTask, limiter=limiter)
    def task(number: int) -> int:
        return number

    assert [task(number) for number in range(3)] == [0, 1, 2]
    assert task.apply([7]).get() == 7
    with pytest.raises(RateLimitExceeded):
        task.apply([8], throw=True)


def test_a_task_without_a_limiter_says_so(sent: Sent) -> None:
    """The error names the option."""

    @application().task(base=LimitedTask)
    def task() -> None:
        """Do nothing."""

    with pytest.raises(ConfigurationError, match="limiter=SyncRateLimiter"):
        raise trace(task).retval


def test_what_is_no_limiter_is_named(sent: Sent) -> None:
    """A task whose `limiter` is not a limiter fails before its body runs."""

    @application().task(base=LimitedTask, limiter="redis://localhost")
    def task() -> None:
        """Do nothing."""

    with pytest.raises(ValidationError, match="takes a SyncRateLimiter, not 'redis://localhost'"):
        raise trace(task).retval


def test_importing_the_module_imports_no_celery() -> None:
    """The class is made when it is asked for, once; without Celery the error names the extra."""
    code = (
        "import sys, limiter.contrib.celery as module\n"
        "assert 'celery' not in sys.modules\n"
        "assert module.LimitedTask is module.LimitedTask\n"
        "del module.LimitedTask\n"
        "sys.modules['celery'] = None\n"
        "try: module.LimitedTask\n"
        "except Exception as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 'pip install "dynamodb-limiter[celery]"' in done.stdout


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_workers_run_what_the_limit_admits_and_the_rest_later(pool: str, redis_url: str) -> None:
    """Of twenty tasks exactly five run; when another limit takes its place all the others do, each once."""
    redis = needed("redis").Redis.from_url(redis_url)
    with LocalEngine() as engine:
        create_table("my-app", endpoint_url=engine.endpoint_url)
        with SyncRepository("my-app", endpoint_url=engine.endpoint_url, read_timeout=30) as repository:
            limiter = SyncRateLimiter(repository, decision_timeout=60)
            limiter.set_limits([Limit("requests", 5, 1, 86_400.0)])
            environment = {**os.environ, "BROKER": redis_url, "ENDPOINT": engine.endpoint_url}
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
            command = [sys.executable, "-m", "celery", "-A", "support.celery_app"]
            worker = subprocess.Popen(
                [*command, "worker", "-P", pool, "-c", "4", "--without-gossip", "--without-mingle", "-l", "WARNING"],
                env=environment,
                start_new_session=True,
            )
            try:
                send = "from support.celery_app import run\nfor number in range(20): run.delay(number)"
                subprocess.run([sys.executable, "-c", send], env=environment, check=True, timeout=60)
                assert wait_until(lambda: limiter.check("mail", "support.celery_app.run").statuses[0].available == 0)
                assert wait_until(lambda: redis.llen("ran") == 5)
                limiter.set_limits([Limit("calls", 50, 50, 1.0)])
                assert wait_until(lambda: redis.llen("ran") >= 20)
            finally:
                worker.terminate()
                try:
                    worker.wait(30)
                finally:
                    if worker.poll() is None:
                        os.killpg(worker.pid, signal.SIGKILL)
                        worker.wait()
            ran = [text.decode() for text in redis.lrange("ran", 0, -1)]
    redis.close()
    assert sorted(ran) == sorted(f"{number}:1:0" for number in range(20))
