"""One measurement: reads a job, measures, prints the figures as the last line of its output, and ends.

    python -m benchmarks.worker [--gevent] JOB WARM_UP_SECONDS

The patching must stand first, before anything else is imported.
"""

from __future__ import annotations

import sys

if "--gevent" in sys.argv:
    import gevent.monkey

    gevent.monkey.patch_all()

import importlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .metering import METER, dollars_per_million
from .plan import PEERS, Job
from .recording import Record, late, resident_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .metering import Counts

COUNTED = {
    "ours": METER.count_limiter,
    "bare": METER.count_limiter,
    "in_turns": METER.count_limiter,
    "before": METER.count_botocore,
    "zae": METER.count_botocore,
}
"""Where the calls of the adapters of a module are counted; a bare client is counted beside the limiter that makes its request."""
THIS_LIBRARY = ("ours", "before")
"""Modules of adapters whose calls are counted once they are open, so that what counting imports is not part of the first call."""
ACCOUNTED_SECONDS = 0.3
ACCOUNTED_KEYS = 200
PATIENCE = 60.0
SLACK = 0.005
"""Seconds by which two threads may be woken in the other order: Python's own switch interval."""
DEBT = 2
"""Seconds until the first waiting caller is due: longer than all need to arrive."""
KEYS_FOR_MEMORY = 100_000


@dataclass(slots=True)
class Phase:
    """One run of the job's driver: to warm up, to be timed, or to account for the calls."""

    name: str
    seconds: float
    keys: int
    record: Record = field(default_factory=Record)


class OtherTransport(Exception):
    """The limiter did not send its calls as the peer says, so the figures would be those of another peer."""


class Measurement:
    """The phases of one job and the figures that they leave."""

    def __init__(self, job: Job, warm_up: float, meter: Counts = METER) -> None:
        self.job = job
        self.warm_up = warm_up
        self.meter = meter
        self.figures: dict[str, Any] = {}

    def phases(self) -> Iterator[Phase]:
        """Yield each phase in turn; the caller runs it before it asks for the next."""
        warm = Phase("warm", self.warm_up, min(self.job.keys, 2 * self.job.callers))
        yield warm
        self._note_first(warm.record)
        self.meter.reset()
        if self.job.driver == "waiters":
            self.meter.accounting = True
        resident, asked_of_redis = resident_bytes(), self._redis_counts()
        timed = Phase("hot", self.job.seconds, self.job.keys)
        yield timed
        self.figures |= timed.record.figures() | self.meter.summary()
        self.figures["redis_commands"] = self._redis_commands(asked_of_redis)
        self._note_memory(resident_bytes() - resident)
        self._note_order(timed.record)
        self._note_turns(timed.record)
        if not self.meter.accounting:
            self.meter.reset()
            self.meter.accounting = True
            timed = Phase("accounted", min(ACCOUNTED_SECONDS, self.job.seconds), min(ACCOUNTED_KEYS, self.job.keys))
            yield timed
        self._note_price(timed.record)

    def check_transport(self, peer: Any) -> None:
        """Record how this library sent the phase's calls; raises `OtherTransport` if not as the peer says."""
        expected = PEERS[self.job.peer].transport
        if expected is None:
            return
        statistics = peer.statistics()
        if statistics.transport != expected:
            why = statistics.transport_reason
            raise OtherTransport(f"{self.job.peer} was sent by {statistics.transport}, not by {expected}: {why}")
        self.figures["transport"] = expected

    def note_opened(self, seconds: float) -> None:
        """Record the seconds for importing and opening the peer, and count its calls from here if not done before."""
        self.opened = seconds
        if PEERS[self.job.peer].module in THIS_LIBRARY:
            count_calls(self.job)

    def _note_first(self, record: Record) -> None:
        """Record the time from the import to the first decision of a caller who is alone."""
        if PEERS[self.job.peer].module in THIS_LIBRARY and self.job.driver == "closed" and self.job.callers == 1:
            self.figures["first_ms"] = 1e3 * self.opened + record.latencies[0] / 1e6

    def _note_memory(self, grown: int) -> None:
        if self.job.driver == "cold":
            self.figures["mib_per_100k_keys"] = grown * KEYS_FOR_MEMORY / self.job.keys / 2**20

    def _note_order(self, record: Record) -> None:
        if record.order:
            self.figures["writes_per_run"] = self.figures["calls"].get("UpdateItem", 0)
            self.figures["out_of_order"] = late(record.order, record.starts, SLACK)
            self.figures["start_rate"] = len(record.starts) / max(1e-9, max(record.starts) - min(record.starts))

    def _note_turns(self, record: Record) -> None:
        if record.turns:
            self.figures |= {f"cpu_over_{other}": record.ratio("limiter", other) for other in ("bare", "tuned")}

    def _note_price(self, record: Record) -> None:
        """Record what a decision consumes of DynamoDB: timed calls, and units from the accounting phase."""
        units, decisions = self.meter.summary(), max(1, len(record.latencies))
        timed = max(1, self.figures["decisions"])
        self.figures["calls_per_decision"] = (sum(self.figures["calls"].values()) + self.figures["redis_commands"]) / timed
        self.figures["write_units_per_decision"] = units["write_units"] / decisions
        self.figures["read_units_per_decision"] = units["read_units"] / decisions
        self.figures["dollars_per_million"] = dollars_per_million(
            self.figures["write_units_per_decision"], self.figures["read_units_per_decision"]
        )

    def _redis_commands(self, before: list[int]) -> int:
        """Return how many commands a peer has sent: scripts, or increments. What a script calls is no round trip."""
        scripts, increments = (now - then for now, then in zip(self._redis_counts(), before, strict=True))
        return scripts or increments

    def _redis_counts(self) -> list[int]:
        if PEERS[self.job.peer].store != "redis":
            return [0, 0]
        from redis import Redis

        with Redis.from_url(self.job.redis_url) as client:
            statistics: Any = client.info("commandstats")
        counts = {name: statistics.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha", "fcall", "incrby")}
        increments = counts.pop("incrby")
        return [sum(counts.values()), increments]


def drive(drivers: Any, peer: Any, job: Job, phase: Phase) -> Any:
    """Start the driver of the job: an awaitable of asyncio's drivers, a record of the others."""
    key = f"{job.prefix}hot"
    if job.driver == "waiters":
        if phase.name == "warm" and job.chain != "cold":
            return drivers.owe(peer, key, DEBT * job.rate)
        asked = key if job.chain != "cold" else f"{job.prefix}{phase.name}"
        return drivers.waiters(peer, asked, job.callers if phase.name == "hot" else 1, PATIENCE)
    if job.driver == "cold":
        keys = (f"{job.prefix}{phase.name}-{number}" for number in range(phase.keys))
        return drivers.cold(peer, keys, job.callers)
    if job.driver == "turns":
        return drivers.turns(peer, key, phase.seconds)
    if job.driver == "paced":
        return drivers.paced(peer, key, job.callers, phase.seconds, job.demand)
    keys = [f"{key}-{number}" for number in range(job.callers)] if job.driver == "distinct" else [key] * job.callers
    return drivers.closed(peer, keys, phase.seconds)


async def measure(measurement: Measurement, peer: Any, began: float) -> None:
    """Run every phase with tasks."""
    from . import async_drivers

    await peer.open()
    measurement.note_opened(time.perf_counter() - began)
    for phase in measurement.phases():
        phase.record = await drive(async_drivers, peer, measurement.job, phase)
        measurement.check_transport(peer)
    await peer.close()


def measure_threads(measurement: Measurement, peer: Any, began: float) -> None:
    """Run every phase with threads or greenlets."""
    from . import thread_drivers

    peer.open()
    measurement.note_opened(time.perf_counter() - began)
    for phase in measurement.phases():
        phase.record = drive(thread_drivers, peer, measurement.job, phase)
        measurement.check_transport(peer)
    peer.close()


def count_calls(job: Job) -> None:
    """Count the calls of a job's peer, unless it has none."""
    if (module := PEERS[job.peer].module) in COUNTED:
        COUNTED[module]()


def adapter_of(job: Job) -> Any:
    """Return the adapter of a job's peer."""
    about = PEERS[job.peer]
    adapter = getattr(importlib.import_module(f"benchmarks.peers.{about.module}"), about.adapter.partition(":")[2])
    return adapter(job, dict(about.options))


def main(arguments: list[str]) -> int:
    """Measure one job; return the exit status."""
    text, warm_up = [argument for argument in arguments if argument != "--gevent"]
    measurement = Measurement(Job(**json.loads(text)), float(warm_up))
    about = PEERS[measurement.job.peer]
    if about.module not in THIS_LIBRARY:
        count_calls(measurement.job)
    began = time.perf_counter()
    peer = adapter_of(measurement.job)
    if about.runtime == "asyncio":
        import asyncio

        asyncio.run(measure(measurement, peer, began))
    else:
        measure_threads(measurement, peer, began)
    print(json.dumps(measurement.figures))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
