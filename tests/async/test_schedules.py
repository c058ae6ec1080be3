# twin: ../sync/test_schedules.py
"""Schedules: a level's limits by the time of the week, which change over at the right instant without a new read."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from limiter import BLOCKED, UNLIMITED, Blocked, Limit, Quota, ValidationError
from limiter.repository_protocol import LimitsKey, Window

if TYPE_CHECKING:
    from support.engines import FakeClock

WEEK = 7 * 86_400.0
PLAIN, OFFICE = (Limit.per_minute("requests", 2),), (Limit.per_minute("requests", 5),)
HOURS = "mon-fri 09:00-17:00"
BERLIN: list[Any] = [(HOURS, "Europe/Berlin", OFFICE)]


def at(clock: FakeClock, text: str) -> None:
    """Set the clock to a time in UTC."""
    clock.now_ns = int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 10**9


async def admitted(limiter: Any, entity: str = "user", most: int = 20) -> int:
    """How many calls are admitted at once."""
    return sum([bool(await limiter.try_acquire(entity, "api")) for _ in range(most)])


async def test_a_schedule_is_stored_beside_the_plain_limits(new_limiter: Any) -> None:
    """The level returns its plain limits and its windows, and both are replaced and removed together."""
    limiter, elsewhere = new_limiter(), new_limiter()
    for level in ({"entity_id": "user", "resource": "api"}, {"entity_id": "user"}, {"resource": "api"}, {}):
        windows = [*BERLIN, ("sat", "UTC", UNLIMITED), ("sun 22:00-06:00", "Europe/Berlin", BLOCKED)]
        await limiter.set_limits(list(PLAIN), **level, schedule=windows)
        assert await elsewhere.get_limits(**level) == PLAIN
        assert await elsewhere.get_schedule(**level) == tuple(windows)
        assert await elsewhere.get_schedule(**level) == tuple(Window(*window) for window in windows)
        assert await elsewhere.list_limits() == {LimitsKey(**level): PLAIN}
        await limiter.set_limits(PLAIN, **level)
        assert await elsewhere.get_limits(**level) == PLAIN
        assert await elsewhere.get_schedule(**level) == ()
        await limiter.set_limits(BLOCKED, **level, schedule=iter(BERLIN))
        assert await elsewhere.get_limits(**level) is BLOCKED
        await limiter.delete_limits(**level)
        assert await elsewhere.get_limits(**level) is None
        assert await elsewhere.get_schedule(**level) == ()


@pytest.mark.parametrize(
    ("schedule", "named"),
    [
        ([*BERLIN, ("wed 16:59-18:00", "Europe/Berlin", PLAIN)], "'mon-fri 09:00-17:00' in Europe/Berlin .* overlap; change"),
        ([(HOURS, "Europe/Brelin", PLAIN)], "'Europe/Brelin', which does not exist; did you mean 'Europe/Berlin'"),
        ([("mox 09:00-17:00", "UTC", PLAIN)], "'mox' .* is not a weekday, which are mon, tue"),
        ([("mon 09:00-25:00", "UTC", PLAIN)], "25:00 .* is not a time of the day, which are from 00:00 to 24:00"),
        ([(HOURS, "UTC", [])], f"limits of the window '{HOURS}' in UTC: a level needs at least one limit"),
        ([(HOURS, "UTC", ["100/minute"])], f"limits of the window '{HOURS}' in UTC: '100/minute' is not a Limit"),
        ((HOURS, "UTC", PLAIN), "a window is"),
        (None, "schedule must be a list of windows"),
    ],
    ids=range(8),
)
async def test_a_bad_schedule_changes_nothing(new_limiter: Any, repository: Any, schedule: Any, named: str) -> None:
    """It is refused with the value and what to write, before anything is stored."""
    limiter = new_limiter()
    await limiter.set_limits(OFFICE)
    repository.take()
    with pytest.raises(ValidationError, match=named):
        await limiter.set_limits(PLAIN, schedule=schedule)
    assert repository.take() == {}
    assert await limiter.resolve_limits("user", "api") == OFFICE


async def test_the_limits_of_the_time_apply(new_limiter: Any, repository: Any, clock: FakeClock) -> None:
    """They change over at the instant, in the process that stored them and in others, and nothing is read for it."""
    at(clock, "2027-01-15T07:59:59")
    limiter, elsewhere = new_limiter(config_ttl=WEEK), new_limiter(config_ttl=WEEK)
    await limiter.set_limits(PLAIN, schedule=BERLIN)
    for each in (limiter, elsewhere):
        assert await each.resolve_limits("user", "api") == PLAIN
    repository.take()
    for time, expected in (
        ("2027-01-15T08:00:00", OFFICE),
        ("2027-01-15T15:59:59", OFFICE),
        ("2027-01-15T16:00:00", PLAIN),
        ("2027-01-18T07:59:59", PLAIN),
        ("2027-01-18T08:00:00", OFFICE),
    ):
        at(clock, time)
        for each in (limiter, elsewhere):
            assert await each.resolve_limits("user", "api") == expected
            assert (await each.check("user", "api")).statuses[0].limit == expected[0]
    assert "read_records" not in repository.take()


@pytest.mark.parametrize("level", [{"entity_id": "user", "resource": "api"}, {"entity_id": "user"}, {"resource": "api"}, {}])
async def test_a_schedule_at_any_level(new_limiter: Any, clock: FakeClock, level: dict[str, str]) -> None:
    """The strongest level that is stored counts at all times, also where its windows are over."""
    at(clock, "2027-01-15T15:59:00")
    limiter = new_limiter("requests=9/minute", config_ttl=0)
    weaker: list[dict[str, str]] = [{"entity_id": "user"}, {"resource": "api"}, {}]
    for each in weaker[weaker.index(level) + 1 :] if level in weaker else weaker:
        await limiter.set_limits([Limit.per_minute("requests", 8)], **each)
    await limiter.set_limits(PLAIN, **level, schedule=BERLIN)
    assert await limiter.resolve_limits("user", "api") == OFFICE
    clock.advance(60)
    assert await limiter.resolve_limits("user", "api") == PLAIN


async def test_limits_in_code_have_no_schedule(new_limiter: Any, clock: FakeClock) -> None:
    """The limits of the limiter apply where nothing is stored, and those of a call always."""
    limiter = new_limiter("requests=9/minute", config_ttl=WEEK)
    await limiter.set_limits(PLAIN, "user", schedule=BERLIN)
    for _ in range(2):
        assert (await limiter.resolve_limits("other", "api"))[0].capacity == 9
        assert (await limiter.check("user", "api", limits=[Limit.per_minute("requests", 7)])).statuses[0].limit.capacity == 7
        clock.advance(12 * 3_600)


async def test_used_units_survive_a_change_over(new_limiter: Any, clock: FakeClock) -> None:
    """What was used before a change-over is used after it; an upgrade frees the difference, and a rate goes on where it was."""
    at(clock, "2027-01-15T07:59:59")
    limiter, elsewhere = new_limiter(config_ttl=WEEK), new_limiter(config_ttl=WEEK)
    await limiter.set_limits(
        [Limit.per_hour("requests", 2)], schedule=[(HOURS, "Europe/Berlin", [Limit.per_hour("requests", 5)])]
    )
    assert await admitted(limiter) == 2
    clock.advance(1)
    assert await admitted(elsewhere) == 3
    at(clock, "2027-01-15T15:59:59")
    assert await admitted(limiter) == 5
    clock.advance(1)
    assert await admitted(limiter) == await admitted(elsewhere) == 0
    clock.advance(1_800)
    assert await admitted(elsewhere) == 1


async def test_a_quota_keeps_its_count(new_limiter: Any, clock: FakeClock) -> None:
    """A quota of the same period has one count, at any capacity."""
    at(clock, "2027-01-15T07:00:00")
    limiter = new_limiter(config_ttl=WEEK)
    day, night = (Quota.per_day("requests", capacity) for capacity in (10, 3))
    await limiter.set_limits([night], schedule=[("09:00-17:00", "Europe/Berlin", [day])])
    seen = []
    for _ in range(3):
        seen.append(await admitted(limiter))
        clock.advance(8 * 3_600)
    assert seen == [3, 7, 0]


async def test_a_refusal_is_not_repeated_after_a_change_over(new_limiter: Any, repository: Any, clock: FakeClock) -> None:
    """What was refused without a look a moment before is admitted at the change-over, and the other way round."""
    at(clock, "2027-01-15T07:59:59")
    limiter = new_limiter(config_ttl=WEEK, denial_ttl=600.0)
    await limiter.set_limits(PLAIN, schedule=BERLIN)
    assert await admitted(limiter) == 2
    repository.take()
    assert await admitted(limiter) == 0
    assert repository.take() == {}
    clock.advance(1)
    assert await admitted(limiter) == 3
    at(clock, "2027-01-15T15:59:59")
    assert await admitted(limiter) == 5
    clock.advance(1)
    assert await admitted(limiter) == 0


async def test_a_lease_gives_back_where_it_took(new_limiter: Any, clock: FakeClock) -> None:
    """A lease that is open over a change-over corrects and refunds the limits that it was granted by."""
    at(clock, "2027-01-15T15:59:59")
    limiter = new_limiter(config_ttl=WEEK)
    await limiter.set_limits(PLAIN, schedule=BERLIN)
    with pytest.raises(KeyError):
        async with limiter.acquire("user", "api", {"requests": 4}) as lease:
            clock.advance(1)
            assert await limiter.resolve_limits("user", "api") == PLAIN
            await lease.release(requests=1)
            await lease.adjust(requests=2)
            assert lease.consumed == {"requests": 5}
            raise KeyError
    assert (await limiter.check("user", "api", limits=OFFICE)).statuses[0].available == 5
    assert await admitted(limiter) == 2


async def test_unlimited_and_blocked_by_the_clock(new_limiter: Any, repository: Any, clock: FakeClock) -> None:
    """A window may lift the limits or admit nothing; neither costs a call, and limits count again at its end."""
    at(clock, "2027-01-15T07:59:59")
    limiter = new_limiter(config_ttl=WEEK)
    await limiter.set_limits(PLAIN, schedule=[(HOURS, "Europe/Berlin", UNLIMITED), ("fri 17:00-18:00", "Europe/Berlin", BLOCKED)])
    assert await admitted(limiter) == 2
    clock.advance(1)
    repository.take()
    assert await admitted(limiter) == 20
    assert await limiter.resolve_limits("user", "api") is UNLIMITED
    at(clock, "2027-01-15T16:00:00")
    assert await admitted(limiter) == 0
    with pytest.raises(Blocked):
        await limiter.acquire("user", "api").__aenter__()
    assert repository.take() == {}
    clock.advance(3_600)
    assert await admitted(limiter) == 2


async def test_parents_and_targets_follow_their_own_schedules(new_limiter: Any, clock: FakeClock) -> None:
    """Each bucket of a call changes over at its own time, and the earliest change-over counts for the call."""
    at(clock, "2027-01-15T07:59:59")
    limiter = new_limiter("requests=100/minute", config_ttl=WEEK)
    await limiter.create_entity("team")
    await limiter.create_entity("user", parent_id="team")
    await limiter.set_limits(PLAIN, "team", schedule=BERLIN)
    await limiter.set_limits(OFFICE, "everybody", schedule=[("fri 08:30-09:00", "UTC", BLOCKED)])

    async def capacities() -> list[int]:
        decision = await limiter.check("user", "api", also=[("everybody", "api")])
        return [status.limit.capacity for status in decision.statuses]

    assert await capacities() == [100, 2, 5]
    clock.advance(1)
    assert await capacities() == [100, 5, 5]
    clock.advance(1_800)
    assert await capacities() == []
    assert not await limiter.try_acquire("user", "api", also=[("everybody", "api")])
    assert await limiter.try_acquire("user", "api")
    clock.advance(1_800)
    assert await capacities() == [100, 5, 5]


async def test_a_caller_that_waits_asks_again_at_a_change_over(new_limiter: Any, clock: FakeClock) -> None:
    """It starts under the limits that apply then, and sooner than those before it would have let it."""
    at(clock, "2027-01-15T07:59:50")
    limiter = new_limiter(config_ttl=WEEK)
    await limiter.set_limits([Limit.per_hour("requests", 1)], schedule=BERLIN)
    assert await limiter.try_acquire("user", "api")
    started = clock()
    async with limiter.acquire("user", "api", timeout=60) as lease:
        assert 10 <= lease.waited <= 11
        assert lease.waited == pytest.approx((clock() - started) / 10**9)
        assert lease.statuses[0].limit == OFFICE[0]


async def test_no_start_is_promised_after_a_change_over(new_limiter: Any, clock: FakeClock) -> None:
    """A caller whose turn would come in a window that admits nothing is refused when that begins."""
    at(clock, "2027-01-15T15:59:50")
    limiter = new_limiter(config_ttl=WEEK)
    await limiter.set_limits([Limit.per_minute("requests", 3, burst=1)], schedule=[("17:00-18:00", "Europe/Berlin", BLOCKED)])
    assert await limiter.try_acquire("user", "api")
    with pytest.raises(Blocked):
        await limiter.acquire("user", "api", timeout=60).__aenter__()
    assert clock() >= datetime(2027, 1, 15, 16, tzinfo=UTC).timestamp() * 10**9
    clock.advance(3_600)
    assert await limiter.try_acquire("user", "api")


async def test_a_turn_before_the_change_over_is_kept(new_limiter: Any, clock: FakeClock) -> None:
    """A caller that can start before its limits change is booked by one write as ever."""
    at(clock, "2027-01-15T15:59:30")
    limiter = new_limiter(config_ttl=WEEK)
    await limiter.set_limits([Limit.per_minute("requests", 3, burst=1)], schedule=[("17:00-18:00", "Europe/Berlin", BLOCKED)])
    assert await limiter.try_acquire("user", "api")
    async with limiter.acquire("user", "api", timeout=60) as lease:
        assert lease.waited == 20


async def test_a_change_over_warns_of_nothing(new_limiter: Any, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """Two rates of one name in one bucket are reported, unless a schedule alternates them."""
    at(clock, "2027-01-15T11:59:59")
    limiter = new_limiter(config_ttl=WEEK)
    short, lunch = [Limit.per_hour("requests", 5)], [Limit.per_hour("requests", 50)]
    await limiter.set_limits(short, "user", schedule=[("12:00-12:10", "UTC", lunch)])
    with caplog.at_level(logging.WARNING, "limiter"):
        assert await admitted(limiter) == 5
        clock.advance(1)
        assert await admitted(limiter, most=50) == 45
        clock.advance(720)
        async with limiter.acquire("user", "api") as lease:
            await lease.adjust(requests=1)
        await limiter.adjust("user", "api", {"requests": 1})
        assert not caplog.records
        assert await limiter.try_acquire("other", "api", limits=short)
        assert await limiter.try_acquire("other", "api", limits=lunch)
        assert await limiter.try_acquire("other", "api", limits=short)
    assert [record.entity_id for record in caplog.records] == ["other"]  # type: ignore[attr-defined] # a field of the limiter's


async def test_a_clock_that_is_set_back_is_followed(new_limiter: Any, clock: FakeClock) -> None:
    """The limits of the earlier time apply again as soon as anything is resolved."""
    at(clock, "2027-01-15T08:00:00")
    limiter = new_limiter(config_ttl=0)
    await limiter.set_limits(PLAIN, schedule=BERLIN)
    assert await limiter.resolve_limits("user", "api") == OFFICE
    clock.advance(-1)
    assert await limiter.resolve_limits("user", "api") == PLAIN
