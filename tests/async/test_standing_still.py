# twin: ../sync/test_standing_still.py
"""Processes whose monotonic clock stood still (a frozen function, a snapshot, a suspended laptop) look before they write.

The test of `limiter.core.trust`.
"""

from __future__ import annotations

import time
from collections import Counter
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest
from support.engines import plain_client

from limiter import Limit, MemoryRepository, RateLimiter, RateLimiterUnavailable, Repository
from limiter.aws.clock import ServerClock
from limiter.core.units import NANOSECONDS
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from support.engines import Engine

START = 1_800_000_000 * NANOSECONDS
LIMITS = [Limit.per_minute("requests", 5)]
MACHINES = 20


class Remote:
    """A store at the other end of a wire, as one machine sees it: every answer tells the time, if there is a `Date` in it.

    `wrong` are seconds by which the next answer's `Date` is ahead.
    """

    namespace = "default"

    def __init__(self, *, dated: bool = True) -> None:
        self.inner = MemoryRepository(clock=lambda: START)
        self.now, self.elapsed, self.skew = START, 12_345 * NANOSECONDS, 0
        self.clock = ServerClock(lambda: self.now + self.skew, lambda: self.elapsed)
        self.dated, self.wrong = dated, 0.0
        self.error: Exception | None = None
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def pass_time(self, seconds: float, *, frozen: bool = False) -> None:
        """Let time pass, which monotonic time does not count while the machine is frozen."""
        self.now += round(seconds * NANOSECONDS)
        self.elapsed += 0 if frozen else round(seconds * NANOSECONDS)

    def take(self) -> dict[str, int]:
        """The calls made since the last look."""
        seen = dict(self.calls)
        self.calls.clear()
        return seen

    async def read_bucket(self, *arguments: Any) -> Any:
        return self.answered("read_bucket", await self.inner.read_bucket(*arguments))

    async def write_bucket(self, *arguments: Any) -> Any:
        return self.answered("write_bucket", await self.inner.write_bucket(*arguments))

    async def read_records(self, *arguments: Any) -> Any:
        return self.answered("read_records", await self.inner.read_records(*arguments))

    def answered(self, name: str, answer: Any) -> Any:
        self.calls[name] += 1
        if self.error is not None:
            raise self.error
        sent = self.elapsed
        self.pass_time(0.004)
        if self.dated:
            self.clock.observe(formatdate(self.now / NANOSECONDS + self.wrong, usegmt=True), sent, self.elapsed)
        else:
            self.clock.observe_undated()
        self.wrong = 0.0
        return answer


@pytest.fixture(params=[True, False], ids=["dated", "undated"])
def remote(request: pytest.FixtureRequest) -> Remote:
    """A store whose answers have a `Date`, and one whose answers have none."""
    return Remote(dated=request.param)


def limiter_on(remote: Any, **options: Any) -> RateLimiter:
    """A limiter for which test machines may stall."""
    return RateLimiter(remote, LIMITS, **{"decision_timeout": 60.0} | options)


async def test_normal_running_costs_no_call(remote: Remote) -> None:
    """As long as wall and monotonic time go together, an admission is one write, and five refusals are one read."""
    limiter = limiter_on(remote)
    await limiter.try_acquire("user", "api")
    assert remote.take() == {"read_records": 1, "write_bucket": 1}
    for _ in range(4):
        remote.pass_time(0.3)
        assert (await limiter.try_acquire("user", "api")).allowed
    assert remote.take() == {"write_bucket": 4}
    remote.pass_time(3)
    assert [(await limiter.try_acquire("user", "api")).allowed for _ in range(5)] == [False] * 5
    assert remote.take() == {"read_bucket": 1}, "as any refusal that is not remembered"


async def test_a_refusal_from_before_a_freeze_is_not_repeated(remote: Remote) -> None:
    """After ten minutes in which monotonic time stood still, a full bucket admits, and the time is right at once."""
    limiter = limiter_on(remote)
    assert [(await limiter.try_acquire("user", "api")).allowed for _ in range(7)] == [True] * 5 + [False] * 2
    remote.pass_time(600, frozen=True)
    remote.take()
    assert [(await limiter.try_acquire("user", "api")).allowed for _ in range(7)] == [True] * 5 + [False] * 2
    assert remote.take()["read_records"] == 1
    assert abs(remote.clock() - remote.now) < NANOSECONDS


async def test_limits_are_read_anew_after_a_freeze(remote: Remote) -> None:
    """Limits that were changed while the process was frozen count from its first decision on."""
    limiter = limiter_on(remote)
    await limiter.try_acquire("user", "api")
    await limiter_on(remote).set_limits([Limit.per_minute("requests", 100)])
    remote.pass_time(600, frozen=True)
    assert (await limiter.try_acquire("user", "api", {"requests": 50})).allowed


async def test_nothing_is_written_by_a_time_that_stood_still(remote: Remote) -> None:
    """A correction after a freeze, which needs no stored limits, looks first too."""
    limiter = limiter_on(remote)
    async with limiter.acquire("user", "api") as lease:
        remote.pass_time(600, frozen=True)
        remote.take()
        await lease.adjust(requests=2)
        assert remote.take() == {"read_bucket": 1, "write_bucket": 1}
    assert (await limiter.check("user", "api")).statuses[0].available == 3


async def test_units_in_advance_are_not_spent_after_a_freeze(remote: Remote) -> None:
    """A block that was taken before a freeze has died in it, so that a burst is at most the capacity."""
    limits = [Limit.per_minute("requests", 20, allotment=30.0)]
    limiter = RateLimiter(remote, limits, decision_timeout=60.0)
    for _ in range(3):
        await limiter.try_acquire("user", "api")
    assert (await limiter.check("user", "api")).statuses[0].available < 7
    remote.pass_time(600, frozen=True)
    assert [(await limiter.try_acquire("user", "api")).allowed for _ in range(30)].count(True) <= 20


@pytest.mark.parametrize("ahead", [3_600.0, -3_600.0])
async def test_one_wrong_date_locks_no_bucket(ahead: float) -> None:
    """After an answer whose `Date` is an hour off, the next decision looks again, and the bucket is as it was."""
    remote = Remote()
    limiter = limiter_on(remote, config_ttl=86_400)
    await limiter.try_acquire("user", "api")
    remote.wrong = ahead
    await limiter.try_acquire("user", "api")
    assert [(await limiter.try_acquire("user", "api")).allowed for _ in range(5)] == [True] * 3 + [False] * 2
    remote.pass_time(60)
    assert [(await limiter_on(remote).try_acquire("user", "api")).allowed for _ in range(7)] == [True] * 5 + [False] * 2


async def test_a_wrong_date_in_the_first_answer_locks_no_bucket() -> None:
    """The first answer needs a second one to agree where it contradicts this machine's clock."""
    remote = Remote()
    remote.wrong = 3_600.0
    limiter = limiter_on(remote)
    assert [(await limiter.try_acquire("user", "api")).allowed for _ in range(7)] == [True] * 5 + [False] * 2
    remote.pass_time(60)
    assert (await limiter.try_acquire("user", "api", {"requests": 5})).allowed


async def test_an_outage_after_a_freeze_is_an_outage(remote: Remote) -> None:
    """Without the table a process that was frozen limits alone, by its own time."""
    limiter = limiter_on(remote, on_unavailable="local")
    await limiter.try_acquire("user", "api")
    remote.pass_time(600, frozen=True)
    remote.error = RateLimiterUnavailable("gone", unsent=True)
    assert [(await limiter.try_acquire("user", "api")).allowed for _ in range(7)] == [True] * 5 + [False] * 2
    remote.error = None


@pytest.fixture
async def thawing(
    server_engine: Engine, table_name: str, aws_session: Any
) -> AsyncIterator[Callable[[], tuple[RateLimiter, list[int]]]]:
    """Makes limiters on machines of one table, each with the nanoseconds by which its monotonic clock stood still."""
    opened: list[Repository] = []
    create_table(table_name, client=plain_client(str(server_engine.endpoint_url)))

    def new() -> tuple[RateLimiter, list[int]]:
        still = [0]
        clock = ServerClock(monotonic=lambda: time.monotonic_ns() - still[0])
        url = server_engine.endpoint_url
        options: dict[str, Any] = {"session": aws_session, "connect_timeout": 30.0, "read_timeout": 30.0}
        opened.append(Repository(table_name, endpoint_url=url, clock=clock, **options))
        return limiter_on(opened[-1]), still

    yield new
    for repository in opened:
        await repository.close()


async def test_processes_that_thaw_together_admit_what_the_limit_allows(
    thawing: Callable[[], tuple[RateLimiter, list[int]]],
) -> None:
    """Twenty, frozen for minutes, each for longer than the next, admit together what one would; also without a `Date`.

    They are clocks, limiters and connections of their own in one process: a clock that stood still is all that a freeze leaves.
    """
    machines = [thawing() for _ in range(MACHINES)]
    for place, (limiter, still) in enumerate(machines):
        await limiter.try_acquire(f"warm-{place}", "api")
        await limiter.resolve_limits("hot", "api")
        still[0] = (60 + (MACHINES - place) * 61) * NANOSECONDS
    began = time.monotonic()
    # Five at once, as when the calls of a machine gather: the answer to the first would set the clock for the others.
    admitted = sum([5 * (await limiter.try_acquire("hot", "api", {"requests": 5})).allowed for limiter, _ in machines])
    assert 5 <= admitted <= 5 + (time.monotonic() - began) * 5 / 60
    for limiter, _ in machines:
        assert abs(limiter.repository.clock() - time.time_ns()) < 5 * NANOSECONDS
