"""Runs the plan: every measurement in a fresh process, peers taking turns, each several times."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .plan import PEERS, SCENARIOS, Job, Peer
from .servers import ROOT, TABLE, redis_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from .plan import Profile, Scenario
    from .servers import Servers

LIMIT_SECONDS = 300.0
"""Seconds after which a measurement counts as failed."""
COMPARED = ("per_second", "cpu_us", "p50_ms", "p99_ms", "calls_per_decision")
"""Figures whose ratios between peers are kept for each repetition."""


@dataclass(slots=True)
class Series:
    """All repetitions of one peer in one scenario on one engine."""

    engine: str
    scenario: str
    peer: str
    runs: list[dict[str, Any]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def values(self, name: str) -> list[float]:
        """Return one figure of every repetition."""
        return [float(run[name]) for run in self.runs if isinstance(run.get(name), int | float)]

    def median(self, name: str) -> float | None:
        """Return the median of one figure."""
        return statistics.median(values) if (values := self.values(name)) else None

    @property
    def transport(self) -> str | None:
        """How this library sent its calls; None for other libraries, and if no run has ended."""
        return self.runs[-1].get("transport") if self.runs else None

    def as_dict(self) -> dict[str, Any]:
        """Return median, lowest and highest of every figure, in JSON's types."""
        names = sorted({name for run in self.runs for name, value in run.items() if isinstance(value, int | float)})
        return {
            "engine": self.engine,
            "scenario": self.scenario,
            "peer": self.peer,
            "transport": self.transport,
            "repetitions": len(self.runs),
            "failures": self.failures,
            "calls": self.runs[-1]["calls"] if self.runs else {},
            "figures": {name: spread(self.values(name)) for name in names},
        }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the extremes."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


class Results:
    """Every series, by engine, scenario and peer."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str, str], Series] = {}

    def __iter__(self) -> Iterator[Series]:
        return iter(self._series.values())

    def of(self, engine: str, scenario: str, peer: str) -> Series:
        """Return one series, empty at first."""
        key = engine, scenario, peer
        return self._series.setdefault(key, Series(*key))

    def median(self, engine: str, scenario: str, peer: str, name: str) -> float | None:
        """Return the median of one figure; None if it was not measured."""
        series = self._series.get((engine, scenario, peer))
        return series.median(name) if series else None

    def ratio(self, engine: str, scenario: str, ours: str, theirs: str, name: str) -> float | None:
        """Return the median of one figure's ratio, computed within each repetition, in which both ran one after the other."""
        pairs = [self._series.get((engine, scenario, peer)) for peer in (ours, theirs)]
        if None in pairs:
            return None
        mine, others = (each.values(name) for each in pairs if each is not None)
        ratios = [a / b for a, b in zip(mine, others, strict=False) if b]
        return statistics.median(ratios) if ratios else None


@dataclass(frozen=True, slots=True)
class Selection:
    """The user's selection of measurements."""

    profile: Profile
    engines: tuple[str, ...]
    scenarios: tuple[str, ...]
    peers: tuple[str, ...]
    before: Path | None = None
    minutes: float = math.inf

    def rounds(self) -> Iterator[tuple[str, Scenario, list[str]]]:
        """Yield each round of each scenario with its peers: all first rounds, then all second ones, and so on."""
        engines, scenarios = list(enumerate(self.engines)), [SCENARIOS[name] for name in self.scenarios]
        repetitions = [self.profile.lesser_repetitions if place else self.profile.repetitions for place, _ in engines]
        for number, (place, engine), scenario in itertools.product(range(max(repetitions)), engines, scenarios):
            if number < (1 if scenario.once else repetitions[place]) and (scenario.core or not place):
                chosen = [each for each in scenario.peers if each in self.peers]
                yield engine, scenario, [each for each in chosen if not (place and on_one_engine(PEERS[each]))]


def on_one_engine(peer: Peer) -> bool:
    """Tell whether a peer is measured once: Redis does not depend on the engine, and the earlier version is compared on one."""
    return peer.store == "redis" or peer.module == "before"


def absence(peer: Peer | Scenario, before: Path | None) -> str | None:
    """Return why a peer or a scenario cannot be measured, or None."""
    missing = [name for name in peer.needs if importlib.util.find_spec(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed"
    if isinstance(peer, Peer) and peer.module == "before" and before is None:
        return "no --before PATH"
    if isinstance(peer, Peer) and peer.store == "redis" and redis_binary() is None:
        return "no redis-server on PATH"
    return None


def run(selection: Selection, servers: Servers, report: Callable[[Series], None]) -> Results:
    """Measure everything that was selected; after the selection's minutes, no further round begins."""
    results = Results()
    counts: dict[str, int] = defaultdict(int)
    end = time.monotonic() + 60 * selection.minutes
    rounds = itertools.takewhile(lambda _: time.monotonic() < end, selection.rounds())
    for engine, scenario, peer in ((engine, scenario, peer) for engine, scenario, peers in rounds for peer in peers):
        counts[peer] += 1
        job = job_for(selection.profile, servers, engine, scenario, PEERS[peer], f"{peer}-{counts[peer]}-")
        series = results.of(engine, scenario.name, peer)
        try:
            series.runs.append(measure(job, selection.profile.warm_up, selection.before))
        except MeasurementFailed as error:
            series.failures.append(str(error))
        report(series)
    return results


def job_for(profile: Profile, servers: Servers, engine: str, scenario: Scenario, peer: Peer, prefix: str) -> Job:
    """Return the job of one turn."""
    return Job(
        peer=peer.name,
        scenario=scenario.name,
        driver=scenario.driver,
        engine=engine,
        endpoint_url=servers.engine(engine, scenario.delay, scenario.tls),
        redis_url=servers.redis() if peer.store == "redis" else "",
        table=TABLE,
        prefix=prefix,
        callers=min(scenario.callers, profile.waiters) if scenario.driver == "waiters" else scenario.callers,
        seconds=profile.seconds * scenario.stretch,
        keys=profile.keys.get(scenario.name, 0) if scenario.keys else 0,
        rate=scenario.rate,
        burst=scenario.burst,
        demand=scenario.demand,
        chain=scenario.chain,
        authority=servers.authority() if scenario.tls else "",
    )


def program(job: Job) -> list[str]:
    """Return the module that measures a job, with its flags."""
    if job.driver == "web":
        return ["benchmarks.web_worker"]
    return ["benchmarks.worker", *(["--gevent"] if PEERS[job.peer].runtime == "gevent" else [])]


class MeasurementFailed(Exception):
    """A measurement did not end with figures."""


def measure(job: Job, warm_up: float, before: Path | None) -> dict[str, Any]:
    """Run one job in a separate process."""
    warm_up = max(warm_up, 0.3) if job.driver == "paced" else warm_up
    command = [sys.executable, "-m", *program(job), json.dumps(job.as_dict()), str(warm_up)]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # An installed package has bytecode.
    if job.authority:
        environment["AWS_CA_BUNDLE"] = job.authority
    if PEERS[job.peer].module == "before":
        environment["PYTHONPATH"] = str(before)
    try:
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise MeasurementFailed(f"no end after {LIMIT_SECONDS:.0f} s") from None
    lines = ended.stdout.strip().splitlines()
    if ended.returncode or not lines:
        raise MeasurementFailed((ended.stderr.strip().splitlines() or ["no output"])[-1][:300])
    figures: dict[str, Any] = json.loads(lines[-1])
    return figures
