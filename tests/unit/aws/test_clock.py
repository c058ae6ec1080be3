"""The server's time, told from the `Date` of responses, in simulated worlds."""

from __future__ import annotations

import random
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limiter import Limit, SyncMemoryRepository, SyncRateLimiter
from limiter.aws.clock import DRIFT, SLACK, ServerClock
from limiter.core.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

START = 1_800_000_000 * NANOSECONDS
SECONDS = st.floats(0, 100, allow_nan=False)
SKEWS = st.floats(-3_600, 3_600, allow_nan=False)


class World:
    """A server whose time is right by definition, and a machine whose clocks may be wrong."""

    def __init__(self, skew: float = 0.0, *, drift: float = 0.0, phase: float = 0.0) -> None:
        self.now = START + round(phase * NANOSECONDS)
        self.elapsed = 12_345 * NANOSECONDS
        self.skew = round(skew * NANOSECONDS)
        self.drift = drift

    def pass_time(self, seconds: float) -> None:
        """Let time pass. The machine counts it too fast or too slow by `drift` parts per million."""
        nanoseconds = round(seconds * NANOSECONDS)
        self.now += nanoseconds
        self.elapsed += nanoseconds + round(nanoseconds * self.drift / 1_000_000)

    def machine(self) -> ServerClock:
        """Return the clock of a program that starts now."""
        return ServerClock(lambda: self.now + self.skew, lambda: self.elapsed)

    def date(self) -> str:
        """Return the date that a server writes into a response now."""
        return formatdate(self.now // NANOSECONDS, usegmt=True)

    def call(self, clock: ServerClock, there: float = 0.0, back: float = 0.0) -> None:
        """Make one call with the given seconds for the request and for the response."""
        sent = clock.monotonic()
        self.pass_time(there)
        date = self.date()
        self.pass_time(back)
        clock.observe(date, sent, clock.monotonic())

    def trusts(self, clock: ServerClock) -> bool:
        """Whether a clock is trusted now. A function, since mypy assumes that a property does not change."""
        return clock.trusted

    def error(self, clock: ServerClock) -> float:
        """Return the seconds by which a clock is ahead of the server's."""
        return (clock() - self.now) / NANOSECONDS


@given(
    SKEWS,
    st.floats(-DRIFT, DRIFT, allow_nan=False),
    st.floats(0, 1),
    st.lists(st.tuples(SECONDS, st.floats(0, 3), st.floats(0, 3), SECONDS), min_size=1, max_size=30),
)
def test_the_time_told_is_never_further_off_than_stated(
    skew: float, drift: float, phase: float, calls: Sequence[tuple[float, float, float, float]]
) -> None:
    """With any latencies, any clock of the machine, and a drift within bounds, the error is at most the stated one."""
    world = World(skew, drift=drift, phase=phase)
    clock = world.machine()
    for pause, there, back, idle in calls:
        world.pass_time(pause)
        world.call(clock, there, back)
        assert clock.error is not None
        assert abs(world.error(clock)) <= clock.error + 1e-6
        world.pass_time(idle)
        assert abs(world.error(clock)) <= clock.error + 1e-6


@given(st.sampled_from([-1, 1]), st.floats(10, 3_600), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_one_answer_is_enough_for_half_a_second(sign: int, skew: float, phase: float, there: float, back: float) -> None:
    """After one response, a clock that was far off is within half a second, plus half of the call's length and the slack."""
    world = World(sign * skew, phase=phase)
    clock = world.machine()
    assert world.error(clock) == pytest.approx(sign * skew)
    world.call(clock, there, back)
    assert abs(world.error(clock)) <= (1 + there + back) / 2 + 2 * SLACK / NANOSECONDS


@pytest.mark.parametrize("skew", [30.0, -30.0])
def test_many_answers_narrow_it_down(skew: float) -> None:
    """A hundred calls of 5 ms, ten a second, leave an error below a tenth of a second."""
    world, seed = World(skew), random.Random(7)  # noqa: S311 - no secret
    clock = world.machine()
    for _ in range(100):
        world.pass_time(seed.uniform(0, 0.2))
        world.call(clock, 0.002, 0.003)
    assert clock.error is not None
    assert clock.error < 0.1
    assert abs(world.error(clock)) <= clock.error


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1), st.floats(0, 1)), max_size=20))
def test_a_clock_that_is_right_is_believed(calls: Sequence[tuple[float, float, float]]) -> None:
    """A synchronised machine uses its own time, to the nanosecond, because no response excludes it."""
    world = World()
    clock = world.machine()
    for pause, there, back in calls:
        world.pass_time(pause)
        world.call(clock, there, back)
        assert clock() == world.now
        assert clock.skew == 0.0


@pytest.mark.parametrize("step", [3_600.0, -3_600.0, 0.7, -0.7])
@pytest.mark.parametrize("skew", [0.0, 30.0])
def test_a_step_of_the_machines_clock_moves_nothing(skew: float, step: float) -> None:
    """After the first response, setting the machine's clock changes the reported skew and nothing else."""
    world = World(skew, phase=0.5)
    clock = world.machine()
    world.call(clock)
    before = clock()
    world.skew += round(step * NANOSECONDS)
    assert clock() == before
    world.pass_time(5.0)
    assert clock() == before + 5 * NANOSECONDS
    world.call(clock)
    assert clock() == before + 5 * NANOSECONDS
    assert clock.skew == pytest.approx(skew + step, abs=1.1)


@given(SKEWS, st.floats(0, 1), st.lists(st.tuples(SECONDS, st.booleans(), SKEWS), max_size=20))
def test_between_answers_time_goes_on(skew: float, phase: float, steps: Sequence[tuple[float, bool, float]]) -> None:
    """Between responses time never goes back, however the machine's clock is set."""
    world = World(skew, phase=phase)
    clock = world.machine()
    before = clock()
    for pause, answered, step in steps:
        world.skew += round(step * NANOSECONDS)
        world.pass_time(pause)
        assert clock() >= before
        if answered:
            world.call(clock)
        before = clock()


@given(SKEWS, st.floats(0, 1), st.lists(st.floats(0, 10), min_size=2, max_size=20))
def test_an_answer_moves_time_by_no_more_than_was_uncertain(skew: float, phase: float, pauses: Sequence[float]) -> None:
    """A further response moves the time by at most the error that was stated before it."""
    world = World(skew, phase=phase)
    clock = world.machine()
    world.call(clock)
    for pause in pauses:
        world.pass_time(pause)
        before, error = clock(), clock.error
        world.call(clock)
        assert error is not None
        assert abs(clock() - before) / NANOSECONDS <= error + 1e-6


@pytest.mark.parametrize("skew", [0.0, 30.0])
def test_a_suspended_machine_is_right_again_after_one_answer(skew: float) -> None:
    """If monotonic time stood still for an hour, earlier responses no longer count."""
    world = World(skew)
    clock = world.machine()
    for _ in range(20):
        world.pass_time(0.37)
        world.call(clock)
    world.now += 3_600 * NANOSECONDS
    assert world.error(clock) < -3_000
    world.call(clock)
    assert abs(world.error(clock)) <= 0.52


@given(
    st.floats(-2, 2),
    st.floats(-DRIFT, DRIFT, allow_nan=False),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 1_000), st.floats(0, 0.5), st.floats(0, 0.5)), min_size=1, max_size=20),
)
def test_a_machine_that_runs_on_is_trusted(
    skew: float, drift: float, phase: float, calls: Sequence[tuple[float, float, float]]
) -> None:
    """Latency, drift, or a clock that is slightly off never require another call after the first response."""
    world = World(skew, drift=drift, phase=phase)
    clock = world.machine()
    assert world.trusts(clock)
    for pause, there, back in calls:
        for _ in range(10):  # The machine's clock drifts along, so that it is as far off as before.
            world.pass_time(pause / 10)
            world.skew += round(pause / 10 * NANOSECONDS * drift / 1_000_000)
            assert world.trusts(clock)
        world.call(clock, there, back)
        assert world.trusts(clock)


@pytest.mark.parametrize("skew", [0.0, 30.0, -30.0])
@pytest.mark.parametrize("frozen", [1.5, 60.0, 36_000.0])
def test_a_machine_that_stood_still_is_trusted_after_an_answer(skew: float, frozen: float) -> None:
    """From resuming until the first response, no refusal rests on its time, and the stated error says so."""
    world = World(skew)
    clock = world.machine()
    for _ in range(5):
        world.pass_time(0.37)
        world.call(clock)
    assert world.trusts(clock)
    world.now += round(frozen * NANOSECONDS)
    assert not world.trusts(clock)
    assert clock.error is not None
    assert clock.error >= frozen
    world.call(clock)
    assert world.trusts(clock)
    assert abs(world.error(clock)) <= 0.52


def test_an_answer_from_before_a_freeze_vouches_for_nothing() -> None:
    """If the machine stood still during a call, its response agrees with earlier ones and is as old as they are."""
    world = World()
    clock = world.machine()
    world.call(clock)
    world.pass_time(0.1)
    sent, date = clock.monotonic(), world.date()
    world.now += 600 * NANOSECONDS
    clock.observe(date, sent, clock.monotonic())
    assert not world.trusts(clock)
    clock.observe(date, sent, clock.monotonic())  # Nor does another response that was under way.
    assert not world.trusts(clock)
    world.call(clock)
    assert world.trusts(clock)
    assert abs(world.error(clock)) <= 0.52


@given(st.sampled_from([0.0, 0.2]) | SKEWS, st.floats(0, 0.9), st.floats(1.1, 1.9), st.floats(0, 0.02))
def test_bounds_from_before_a_freeze_do_not_count_after_it(skew: float, phase: float, frozen: float, pause: float) -> None:
    """Once the clock is trusted again, the error is at most the stated one, also where a response agrees with those before."""
    world = World(skew, phase=phase)
    clock = world.machine()
    for _ in range(3):
        world.pass_time(pause)
        world.call(clock, 0.002, 0.003)
    world.now += round(frozen * NANOSECONDS)
    for _ in range(5):
        world.pass_time(0.001)
        world.call(clock, 0.002, 0.003)
        if world.trusts(clock):
            assert clock.error is not None
            assert abs(world.error(clock)) <= clock.error + 1e-6


def test_a_machine_whose_clock_was_set_is_trusted_after_two_answers() -> None:
    """A second response, requested afterwards, that agrees with all before it shows that the machine was not suspended."""
    world = World()
    clock = world.machine()
    world.call(clock)
    world.skew = 3_600 * NANOSECONDS
    for trusted in (False, False, True):
        assert world.trusts(clock) is trusted
        world.pass_time(0.1)
        world.call(clock)
        assert abs(world.error(clock)) <= 0.52


@pytest.mark.parametrize("ahead", [3_600, -3_600, 10, -10])
@pytest.mark.parametrize("first", [True, False])
def test_one_wrong_date_is_not_trusted(first: bool, ahead: int) -> None:
    """A response that moves the time by more than a few seconds counts once the wall clock or a second response agrees."""
    world = World()
    clock = world.machine()
    if not first:
        world.call(clock)
    world.pass_time(0.1)
    world.now += ahead * NANOSECONDS
    world.skew -= ahead * NANOSECONDS
    world.call(clock)
    assert not world.trusts(clock)
    world.now -= ahead * NANOSECONDS
    world.skew += ahead * NANOSECONDS
    world.call(clock)
    assert world.trusts(clock)
    assert abs(world.error(clock)) <= 0.52


@pytest.mark.parametrize("ahead", [3_600, -3_600])
def test_a_server_whose_clock_was_set_is_followed_after_two_answers(ahead: int) -> None:
    """After two responses the new time is used, as in all other processes."""
    world = World()
    clock = world.machine()
    world.call(clock)
    world.now += ahead * NANOSECONDS
    world.skew -= ahead * NANOSECONDS
    world.call(clock)
    assert not world.trusts(clock)
    assert abs(world.error(clock)) >= abs(ahead) - 1
    world.pass_time(0.1)
    world.call(clock)
    assert world.trusts(clock)
    assert abs(world.error(clock)) <= 0.52


def test_without_dates_a_machine_that_stood_still_goes_on_by_its_own_time() -> None:
    """An engine that tells no time leaves the machine's clock, which other machines use as well."""
    world = World(0.2)
    clock = world.machine()
    clock.observe_undated()
    world.now += 36_000 * NANOSECONDS
    assert not world.trusts(clock)
    clock.observe_answer({"ResponseMetadata": {"HTTPHeaders": {}}}, clock.monotonic())
    assert world.trusts(clock)
    assert clock() == world.now + world.skew


def test_without_an_answer_it_is_the_machines_own_time() -> None:
    """Before any response nothing is claimed, and invalid dates are ignored."""
    world = World(30.0)
    clock = world.machine()
    for date in (
        "",
        "yesterday",
        "Sat, 99 Nov 2026 14:48:50 GMT",
        "Sat, 21 Nov 2026 14:48:50",
        "Sat, 21 Nov 2026 14:48:50 -0000",
    ):
        clock.observe(date, clock.monotonic(), clock.monotonic())
    assert clock() == world.now + world.skew
    assert clock.error is None
    assert clock.skew is None


class Remote:
    """A store behind a network that tells its time with every response, as one machine sees it."""

    namespace = "default"

    def __init__(self, world: World, store: SyncMemoryRepository, latency: float, *, anchored: bool) -> None:
        self.world, self.store, self.latency, self.anchored = world, store, latency, anchored
        self.clock = world.machine()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def read_bucket(self, *arguments: Any) -> Any:
        return self.call(self.store.read_bucket, *arguments)

    def write_bucket(self, *arguments: Any) -> Any:
        return self.call(self.store.write_bucket, *arguments)

    def read_records(self, *arguments: Any) -> Any:
        return self.call(self.store.read_records, *arguments)

    def call(self, method: Any, *arguments: Any) -> Any:
        sent = self.clock.monotonic()
        self.world.pass_time(self.latency)
        answer, date = method(*arguments), self.world.date()
        self.world.pass_time(self.latency)
        if self.anchored:
            self.clock.observe(date, sent, self.clock.monotonic())
        return answer


LIMIT = Limit("requests", 600, 10, 1.0)
UNITS = 10
SPAN = 60.0


def share(skews: Sequence[float], seed: int, *, anchored: bool) -> list[int]:
    """Return the units of one limit that each machine gets: the first machine first, then in shifts, all asking for too much."""
    worlds = [World(skew) for skew in skews]
    store, chance = SyncMemoryRepository(), random.Random(seed)  # noqa: S311 - no secret
    remotes: list[Any] = [Remote(world, store, 0.002, anchored=anchored) for world in worlds]
    limiters = [SyncRateLimiter(remote, [LIMIT], config_ttl=1e6) for remote in remotes]
    admitted, place = [0] * len(skews), 0
    while (now := worlds[place].now) < START + SPAN * NANOSECONDS:
        end = now + round(chance.uniform(1.0, 3.0) * NANOSECONDS)
        while worlds[place].now < end:
            admitted[place] += UNITS * limiters[place].try_acquire("user", "api", {"requests": UNITS}).allowed
            worlds[place].pass_time(chance.uniform(0, 0.02))
        passed = (worlds[place].now - now) / NANOSECONDS
        for world in worlds:
            world.pass_time(passed if world is not worlds[place] else 0.0)
        place = chance.randrange(len(skews))
    return admitted


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("skews", [(-30, 30), (-30, 30, 0), (-3_600, 3_600, 0, 0)], ids=str)
def test_machines_with_wrong_clocks_share_a_limit(skews: tuple[float, ...], seed: int) -> None:
    """Together they get what the limit gives in that time plus at most half a second's worth; no machine is locked out."""
    admitted = share(skews, seed, anchored=True)
    due = LIMIT.capacity + LIMIT.refill_amount * SPAN
    assert sum(admitted) <= due + LIMIT.refill_amount * (3.0 + 0.52) + 1
    assert sum(admitted) >= due - LIMIT.refill_amount * 1.5 - UNITS
    assert min(admitted) > 0


def test_without_the_servers_time_wrong_clocks_do_harm() -> None:
    """The planted fault exists: one machine gets a whole extra capacity, and the other is then locked out."""
    slow, fast = share((-30, 30), 0, anchored=False)
    assert slow <= LIMIT.capacity + LIMIT.refill_amount * 3
    assert slow + fast >= 2 * LIMIT.capacity + LIMIT.refill_amount * (SPAN - 5)
