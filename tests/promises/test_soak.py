"""Processes of every runtime share many keys while the table fails at times: limits hold, nothing leaks, all recover.

A short form is a test like others; `make soak` is the long one. `LIMITER_SOAK_SECONDS` says for how long, and
`LIMITER_SOAK_SEED` chooses other faults and turns.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import chain, pairwise
from math import inf
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest
from support import fault_proxy as proxy
from support import soak_play as play
from support.crowd import RUNTIMES, START, Crowd
from support.engines import wait_until
from support.fault_proxy import FaultProxy
from support.presence import need
from support.soak_judge import Sample, faults_of_statistics, faults_of_use, growth
from support.turns import CALLERS, RESOURCE

from limiter import SyncRateLimiter, SyncRepository
from limiter.audit import judge
from limiter.core.limits import gcra
from limiter.core.records import BucketKey
from limiter.core.units import NANOSECONDS
from limiter.testing import create_table

if TYPE_CHECKING:
    from support.engines import Engine
    from support.fault_proxy import Fault

    from limiter import Limit


@dataclass(frozen=True)
class Form:
    """How long and how large a soak is."""

    seconds: float
    processes: int
    """Processes of each runtime."""
    keys: int
    rest: float
    """Seconds that a caller rests between turns, on average."""
    seed: str
    progress: float
    """Seconds between two progress lines."""

    @property
    def calm(self) -> float:
        """Seconds without faults at the beginning, and at the end."""
        return min(60.0, self.seconds * 0.3)


SECONDS = os.environ.get("LIMITER_SOAK_SECONDS")
SEED = os.environ.get("LIMITER_SOAK_SEED", "1")
FORM = Form(float(SECONDS), 2, 1000, 0.25, SEED, 10.0) if SECONDS else Form(20.0, 1, 100, 0.15, SEED, inf)
COLUMNS = (
    *("process", "runtime", "samples", "decisions", "calls", "failures", "MB first/warm/last"),
    *("+blocks", "+decisions", "+keys", "descriptors", "sockets"),
)
"""Columns of the final table; "+" is the growth from the middle third of the samples to the last third."""
ROW = "{:>8} {:8} {:>7} {:>9} {:>7} {:>8} {:>18} {:>7} {:>10} {:>5} {:>11} {:>7}"
RECOVERY = play.DECISION_TIMEOUT + 1.0
"""Seconds after a fault in which decisions that began during it may still fail or be slow."""
CLOCK_ERROR = 0.05
"""Seconds by which the clocks of processes on one machine may differ, with a margin."""
WARM_DESCRIPTORS = 24
"""Open files of a process without connections: files, pipes, an event loop, and those of libraries."""
SLOWER, SLOWER_BY = 5, 0.2
"""How much longer the median decision may take after the faults, as a factor and in seconds; others use this machine too.
"""
FAULTS: dict[str, Fault] = {
    "refuse": proxy.refuse(),
    "black hole": proxy.black_hole(),
    "error 500": proxy.server_error(),
    "error 503": proxy.service_unavailable(),
    "throttle": proxy.throttle(),
    "hot key": proxy.throttle(hot_key=True),
    "trickle": proxy.trickle(0.05),
    "delay": proxy.delay(0.3),
    "cut": proxy.cut(17),
    "cut request": proxy.cut_request(100),
    "reset": proxy.reset(),
}


@dataclass(frozen=True)
class Call:
    """One allowed call: the caller, its end, and the seconds that the decision took."""

    pid: int
    ended: float
    took: float


class Soakers(Crowd):
    """Processes of one runtime, and everything they reported."""

    def __init__(self, runtime: str, module: str, job: dict[str, Any]) -> None:
        self.calls: list[Call] = []
        self.unavailable: list[tuple[float, str]] = []
        self.samples: dict[int, list[Sample]] = defaultdict(list)
        self.admissions: Counter[int] = Counter()
        self.sampled: Counter[int] = Counter()
        super().__init__(runtime, module, job)

    def hear(self, sign: str, first: str, *rest: str) -> None:
        """Record one line of a process."""
        super().hear(sign, first, *rest)
        if sign == "+":
            call, pid = rest[1], int(rest[2])
            began, ended, waited = map(float, rest[3:])
            self.calls.append(Call(pid, ended, ended - began - waited))
            self.admissions[pid] += call == "acquire"
        elif sign == "x":
            self.unavailable.append((float(first), f"{self.runtime}, {' '.join(rest)}"))
        elif sign == "%":
            # A caller may be allowed between the look at the statistics and the line that reports them.
            self.sampled[int(first)] = self.admissions[int(first)] - CALLERS
            self.samples[int(first)].append(Sample(**json.loads(rest[0])))


class Schedule:
    """When which fault strikes. The table works most of the time, and every kind of fault has its turn."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)  # noqa: S311 - no secret
        self.deck: list[str] = []
        self.struck: Counter[str] = Counter()

    def next(self) -> tuple[float, str, float]:
        """Return the seconds without a fault, the fault that follows, and the seconds that it lasts."""
        if not self.deck:
            self.deck = self.random.sample(sorted(FAULTS), len(FAULTS))
        kind = self.deck.pop()
        self.struck[kind] += 1
        return self.random.uniform(1.0, 3.0), kind, self.random.uniform(0.3, 1.5)


class Soak:
    """One soak while it runs."""

    def __init__(self, form: Form, engine_url: str, table: str, faulty: FaultProxy, record: Path) -> None:
        self.form = form
        self.schedule = Schedule(form.seed)
        self.faulty = faulty
        self.engine_url = engine_url
        self.record = record
        self.table = table
        self.shown = 0.0
        self.crowds: list[Soakers] = []

    def start(self) -> None:
        """Start all processes, and wait until all are warm."""
        job = {"endpoint_url": self.faulty.endpoint_url, "table": self.table, "record": str(self.record)}
        for runtime in RUNTIMES:
            self.crowds.append(Soakers(runtime, "support.soak_play", job))
            for number in range(self.form.processes):
                self.crowds[-1].start(f"{self.form.seed}-{runtime}-{number} {self.form.keys} {self.form.rest}")
        working = wait_until(lambda: all(len(crowd.admissions) == self.form.processes for crowd in self.crowds), START)
        assert working, [crowd.complaints for crowd in self.crowds]
        self.began = self.shown = time.monotonic()

    def run(self) -> None:
        """Let them work: first without faults, then with faults, then without."""
        self.wait_until(self.began + self.form.calm, "calm")
        self.first_fault = self.last_fault = time.monotonic()
        while (left := self.began + self.form.seconds - self.form.calm - time.monotonic()) > 0:
            well, kind, ill = self.schedule.next()
            self.wait_until(time.monotonic() + min(left, well), "calm")
            self.faulty.inject(FAULTS[kind])
            self.wait_until(time.monotonic() + ill, kind)
            self.faulty.heal()
            self.last_fault = time.monotonic()
        self.wait_until(self.last_fault + self.form.calm, "calm")
        self.ended = time.monotonic()

    def stop(self) -> None:
        """Stop all processes, and read the rest of their output."""
        for crowd in self.crowds:
            crowd.stop()

    def wait_until(self, moment: float, what: str) -> None:
        """Wait, and print progress."""
        while (left := moment - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
            if time.monotonic() - self.shown >= self.form.progress:
                self.shown = time.monotonic()
                latest = [samples[-1] for samples in self.samples.values()]
                show(
                    f"{self.shown - self.began:5.0f} s  {sum(len(crowd.calls) for crowd in self.crowds):7} admitted"
                    f"  {len(self.unavailable):5} unavailable  {sum(each.rss for each in latest) / 1e6:6.1f} MB"
                    f"  {sum(each.descriptors for each in latest):4} descriptors"
                    f"  {sum(each.sockets for each in latest):4} sockets  {sum(each.blocks for each in latest):9} blocks  {what}"
                )

    @property
    def samples(self) -> dict[int, list[Sample]]:
        """Return the resources that each process used."""
        return {pid: samples for crowd in self.crowds for pid, samples in crowd.samples.items()}

    @property
    def unavailable(self) -> list[tuple[float, str]]:
        """The times at which the table could not be reached, and the messages of those times."""
        return sorted(chain.from_iterable(crowd.unavailable for crowd in self.crowds))

    def stall(self, moment: float) -> float:
        """Return the seconds around `moment` in which some process did nothing at all: the machine was busy."""
        near = (moment - play.DECISION_TIMEOUT - 1.0, moment + 1.0)
        pairs = [pair for samples in self.samples.values() for pair in pairwise(samples)]
        return max((late.at - early.at - 1.0 for early, late in pairs if near[0] <= late.at <= near[1]), default=0.0)

    def calls(self, begin: float, end: float) -> list[Call]:
        """Return the allowed calls of an interval."""
        return [call for crowd in self.crowds for call in crowd.calls if begin <= call.ended < end]


def show(line: str) -> None:
    """Print a line; pytest shows it with -s."""
    print(line, flush=True)  # noqa: T201 - the answer to the user


def limit_of(entity: str) -> Limit:
    """Return the limits of a key."""
    kind = play.kind_of(entity)
    return {"parent": play.PARENT, "quota": play.QUOTA, "advance": play.ADVANCE}.get(kind, play.RATE)


def broken_promises(soak: Soak) -> list[str]:
    """Return what the audit finds in the recorded history."""
    # Refusals are not judged: a killed process had consumed units that it was still about to record.
    verdict = judge(*sorted(soak.record.iterdir()), clock_error=CLOCK_ERROR, skip=["refusals"])
    show(f"{verdict.decisions} decisions of {verdict.limits} limits recorded; worst span: {verdict.worst}")
    return [str(each) for each in verdict.findings]


def inconsistencies(soak: Soak) -> list[str]:
    """Return the buckets whose stored state makes no sense, or that count less than was consumed, or much more."""
    wrong = []
    net: Counter[str] = Counter()
    for crowd in soak.crowds:
        net.update(crowd.reported)
    callers = len(soak.samples) * CALLERS
    with SyncRepository(soak.table, endpoint_url=soak.engine_url, read_timeout=START) as repository:
        now = repository.clock()
        for entity in [*net, *{play.parent_of(each) for each in net} - {None}]:
            limit = limit_of(str(entity))
            state = repository.read_bucket(BucketKey("default", str(entity), RESOURCE))
            level = state.level(limit.identity)
            # Every caller may have made a last correction that put the bucket into debt, and wait.
            latest = now + limit.window + gcra.cost(limit, callers * play.MOST_UNITS) + int(play.WAIT * NANOSECONDS)
            if state.unreadable or not 0 <= level.since <= level.tat <= latest or state.ttl < level.tat // NANOSECONDS:
                wrong.append(f"{entity}: {state}")
        lost, quotas = 0, [entity for entity in net if play.kind_of(entity) == "quota"]
        for entity in quotas:
            tat = repository.read_bucket(BucketKey("default", entity, RESOURCE)).level(play.QUOTA.identity).tat
            missing = -(-(tat - repository.clock()) // gcra.cost(play.QUOTA, 1))
            lost += missing - net[entity]
            if missing < net[entity]:
                wrong.append(f"{entity}: {net[entity]} units were taken, of which the table knows {missing}")
    failures = sum(int(samples[-1].statistics["failures"] or 0) for samples in soak.samples.values())
    if lost > (failures + callers) * play.MOST_UNITS:
        wrong.append(f"{lost} units were lost by {failures} failed calls")
    taken = sum(net[each] for each in quotas)
    show(f"{len(quotas)} keys without refill: {taken} units taken, {lost} lost in {failures} failed calls")
    return wrong


def failures_to_recover(soak: Soak) -> list[str]:
    """Return what does not work after the faults as it did before."""
    before = soak.calls(soak.first_fault - soak.form.calm / 2, soak.first_fault)
    after = soak.calls(soak.last_fault + RECOVERY, soak.ended)
    wrong = [f"process {pid} admits nothing after the faults" for pid in soak.samples.keys() - {call.pid for call in after}]
    late = [(moment - soak.last_fault, what) for moment, what in soak.unavailable if moment > soak.last_fault + RECOVERY]
    if len(late) > len(after) / 100:
        wrong.append(f"{len(late)} decisions found the table out of reach after the faults, beside {len(after)} admissions")
    for seconds, what in late[:10]:
        stall = soak.stall(soak.last_fault + seconds)
        show(f"{seconds:.1f} s after the last fault, when a process paused for {stall:.1f} s: {what}")
    medians = [median(call.took for call in calls) if calls else inf for calls in (before, after)]
    if medians[1] > SLOWER * medians[0] + SLOWER_BY:
        wrong.append(f"a decision took {medians[0]:.3f} s before the faults and {medians[1]:.3f} s after them")
    took = " and ".join(f"{each * 1000:.1f} ms" for each in medians)
    show(f"median decision before the faults and after them: {took}; {len(late)} failed after them")
    return wrong


def overuses(soak: Soak) -> list[str]:
    """Return the resources that processes used too much of, and the statistics that make no sense."""
    wrong = []
    show(ROW.format(*COLUMNS))
    for crowd in soak.crowds:
        for pid, samples in crowd.samples.items():
            if len(samples) < soak.form.seconds / 2:
                wrong.append(f"{crowd.runtime} {pid}: told what it uses {len(samples)} times only")
                continue
            statistics, grown = samples[-1].statistics, growth(samples)
            counts = [statistics[name] for name in ("decisions", "calls", "failures")]
            memory = "/".join(f"{samples[at].rss / 1e6:.1f}" for at in (0, len(samples) // 2, -1))
            more = [f"{each:.0f}" for each in (grown.blocks, grown.decisions, grown.keys)]
            most = [max(each) for each in zip(*((each.descriptors, each.sockets) for each in samples), strict=True)]
            show(ROW.format(pid, crowd.runtime, len(samples), *counts, memory, *more, *most))
            found = faults_of_use(samples, play.MAX_CONNECTIONS, WARM_DESCRIPTORS)
            found += faults_of_statistics(statistics, crowd.sampled[pid])
            wrong += [f"{crowd.runtime} {pid}: {each}" for each in found]
    connections, allowed = soak.faulty.counts().open, len(soak.samples) * play.MAX_CONNECTIONS
    if connections > allowed:
        wrong.append(f"{connections} connections are open, of {allowed}")
    return wrong


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="what a process uses is read from /proc")
@pytest.mark.engines("dynoxide")
@pytest.mark.timeout(FORM.seconds + 5 * START)
def test_a_table_that_fails_now_and_then_costs_neither_limits_nor_memory(
    atomic_engine: Engine, table_name: str, tmp_path: Path
) -> None:
    """No limit is exceeded in any interval, processes do not grow, and all continue when the table is back."""
    need("gevent", "eventlet")
    url = atomic_engine.endpoint_url or ""
    create_table(table_name, endpoint_url=url)
    with SyncRateLimiter(SyncRepository(table_name, endpoint_url=url, read_timeout=START), decision_timeout=START) as limiter:
        for number in range(play.PARENTS):
            limiter.create_entity(f"parent-{number}")
            limiter.set_limits([play.PARENT], f"parent-{number}")
        for entity in filter(play.parent_of, map(play.entity_of, range(FORM.keys))):
            limiter.create_entity(entity, parent_id=play.parent_of(entity))
        limiter.set_limits([play.RATE])
    with FaultProxy(url) as faulty:
        soak = Soak(FORM, url, table_name, faulty, tmp_path)
        try:
            soak.start()
            soak.run()
            wrong = overuses(soak)
        finally:
            soak.stop()
    wrong += [f"{crowd.runtime}: {complaint}" for crowd in soak.crowds for complaint in crowd.complaints]
    wrong += failures_to_recover(soak) + inconsistencies(soak) + broken_promises(soak)
    admissions, struck = len(soak.calls(0, inf)), dict(soak.schedule.struck)
    show(f"{admissions} admissions, {len(soak.unavailable)} decisions without the table; seed {FORM.seed}, {struck}")
    assert not wrong
    assert soak.unavailable
    assert admissions > 10 * len(soak.samples)
