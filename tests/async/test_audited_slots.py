# twin: ../sync/test_audited_slots.py
"""A record of slots is judged at every instant; an overlap is found from the record alone."""

from __future__ import annotations

import json
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, RateLimiter, RateLimitExceeded
from limiter.audit import judge, record

if TYPE_CHECKING:
    from pathlib import Path

    from support.engines import FakeClock

pytestmark = pytest.mark.one_server  # What is decided and recorded does not depend on the engine, and takes many calls.
SECOND = 1_000_000_000


async def hold_at_random(limiters: list[RateLimiter], chance: random.Random, clock: FakeClock) -> None:
    """Take slots and free them; some are lost, since no renewal comes while the clock leaps."""
    leases: list[Any] = []
    for _ in range(80):
        if leases and chance.random() < 0.5:
            await leases.pop(chance.randrange(len(leases))).__aexit__(None, None, None)
        else:
            lease = chance.choice(limiters).acquire("user", "api", {"calls": chance.randint(1, 2), "requests": 1})
            try:
                await lease.__aenter__()
                leases.append(lease)
            except RateLimitExceeded:
                pass
        clock.advance(chance.choice([0.0, 0.01, 0.5, 0.5, 12.0]))
    for lease in leases:
        await lease.__aexit__(None, None, None)


def make(repositories: list[Any], clock: FakeClock, path: Path, *limits: str) -> list[RateLimiter]:
    """Limiters that record into one file, each with a repository of its own; to wait moves the clock."""

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)

    new = partial(RateLimiter, sleep=sleep, on_decision=record(path), decision_timeout=60.0)
    return [new(each, [Limit.parse(limit) for limit in limits]) for each in repositories]


@pytest.mark.parametrize("seed", range(6))
async def test_a_record_of_slots_is_judged(
    repository: Any, open_repository: Any, clock: FakeClock, tmp_path: Path, seed: int
) -> None:
    """What limiters record keeps every promise, with slots that were lost; one holder more at any full instant is found."""
    chance, path = random.Random(seed), tmp_path / "record"  # noqa: S311 - no secret
    limiters = make([repository, open_repository()], clock, path, "calls=3 at once ttl 20", "requests=500/minute")
    async with limiters[0].acquire("user", "api", {"calls": 3}):
        clock.advance(25.0)
        async with limiters[1].acquire("user", "api", {"calls": 3}):
            clock.advance(1.0)
    await hold_at_random(limiters, chance, clock)
    assert not judge(path, clock_error=2.0).findings
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {"decision", "refund", "expiry"} <= {line["event"] for line in lines}
    held = [line for line in lines if line["event"] == "decision" and line["outcome"] == "allowed"]
    freed = {line["id"]: line for line in lines if line["event"] in ("refund", "expiry")}
    long = [line for line in held if freed[line["id"]]["begin"] > line["end"]]
    with path.open("a") as file:
        for line in chance.sample(long, 1) * 3:
            for number, each in enumerate((line, freed[line["id"]])):
                file.write(json.dumps(each | {"id": f"planted-{file.tell() - number}"}) + "\n")
    assert "capacity" in {each.promise for each in judge(path).findings}


async def test_the_fence_is_recorded(repository: Any, clock: FakeClock, tmp_path: Path) -> None:
    """A decision's line has the number that its lease has; numbers that do not grow are found."""
    path = tmp_path / "record"
    (limiter,) = make([repository], clock, path, "calls=1 at once")
    fences = []
    for _ in range(3):
        async with limiter.acquire("user", "api") as lease:
            fences.append(lease.fence)
        clock.advance(1.0)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    decisions = [line for line in lines if line["event"] == "decision"]
    assert [line["fence"] for line in decisions] == fences == sorted(set(fences))
    assert judge(path)
    swapped = [line | {"fence": fences[0]} if line is decisions[2] else line for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in swapped))
    assert {each.promise for each in judge(path).findings} == {"order"}


class Slow:
    """A repository whose writes take a while."""

    def __init__(self, repository: Any, clock: FakeClock) -> None:
        self._repository = repository
        self._clock = clock
        self.clock = repository.clock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._repository, name)

    async def write_bucket(self, key: Any, update: Any) -> Any:
        """Write, and let time pass until the answer."""
        result = await self._repository.write_bucket(key, update)
        self._clock.advance(0.25)
        return result


@pytest.mark.engines("memory")
async def test_a_slot_that_was_waited_for_is_held_from_the_answer_on(
    repository: Any, open_repository: Any, clock: FakeClock, tmp_path: Path
) -> None:
    """The time in line is no part of the time for which a slot is held: the record says when it was known to be held."""
    path = tmp_path / "record"
    (holder,) = make([repository], clock, path, "calls=1 at once")
    lease = holder.acquire("user", "api")
    await lease.__aenter__()

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)
        await lease.__aexit__(None, None, None)

    waiting = RateLimiter(Slow(open_repository(), clock), holder.limits, sleep=sleep, on_decision=record(path), stored=False)
    async with waiting.acquire("user", "api", timeout=5.0):
        line = json.loads(path.read_text().splitlines()[-1])
        assert (line["event"], line["end"]) == ("decision", clock())
