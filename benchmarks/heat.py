"""One hot key: fleets of real processes on an engine whose key serves 200 writes a second; `python -m benchmarks.heat`.

The engine stands behind the proxy with heat of the tests, 15 to 30 ms away. Every process has 100 tasks. Under a limit of which
there is plenty each task asks again at once. Under the scarce one they pause, so that all processes together ask for twice the
limit; otherwise refusals, most of which take no call, would be all that is measured. The processes, the engine and the proxy
share one machine. Only UpdateItem spends units of the key; other calls are counted by action. Each run is judged by the audit
where the peer is this library, and stops by itself. Other peers are measured with the first number of processes only.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from limiter import Limit, RateLimiter, RateLimitExceeded, Repository
from limiter.audit import judge, record

from .peers import LIMIT, ONE, REGION, RESOURCE
from .plan import Job
from .recording import quantile
from .report import markdown_table, number
from .servers import ROOT, TABLE, Servers

UNITS = 200
LATENCY = (0.015, 0.030)
TASKS = 100
KEY = "hot"
RATES = {"plenty": 100_000, "scarce": 2_000}
DEMANDS = {"plenty": math.inf, "scarce": 4_000.0}
MOST_THROTTLED, MOST_WRITES, LONGEST, MORE = 1.0, 180.0, 300.0, 3.0
"""The goals: throttled calls and writes a second, milliseconds of the 99th percentile, and how many times more decisions with an
allotment where there is plenty."""
OUTPUT = ROOT / "docs" / "benchmarks"


@dataclass(frozen=True, slots=True)
class Variant:
    """A peer with its options; what happens in the first `settle` seconds is not counted."""

    name: str
    peer: str
    options: tuple[tuple[str, float], ...] = ()
    allotment: float | None = None
    settle: float = 0.0


VARIANTS = (
    Variant("writes_per_key=140", "limiter", (("writes_per_key", 140),)),
    Variant("default options", "limiter", settle=5.0),
    Variant("writes_per_key=140, allotment=0.5", "limiter", (("writes_per_key", 140),), 0.5),
    Variant("default options, allotment=0.5", "limiter", allotment=0.5, settle=5.0),
    Variant("zae-limiter", "zae"),
    Variant("boto3", "boto3"),
)


class Kept:
    """A hook that keeps all events, and records them after the end: else half of what is measured would be the record."""

    def __init__(self) -> None:
        self._events: list[Any] = []
        self.note = self._events.append

    def __call__(self, event: Any) -> None:
        """Keep the event of a decision."""
        self._events.append(event)

    def write(self, path: str) -> None:
        """Record the events in a file."""
        recorder = record(path)
        for event in self._events:
            recorder(event)
        recorder.close()


class Ours:
    """This library with its own timeouts, its decisions recorded."""

    def __init__(self, job: dict[str, Any]) -> None:
        limit = Limit.per_second(LIMIT, job["rate"], allotment=job["allotment"])
        repository = Repository(TABLE, namespace=job["prefix"], region=REGION, endpoint_url=job["endpoint_url"])
        self._kept, self._record = Kept(), job["record"]
        self._limiter = RateLimiter(repository, [limit], stored=False, on_decision=self._kept, **job["options"])

    async def open(self) -> None:
        """Open the client."""
        await self._limiter.__aenter__()

    async def acquire(self, key: str) -> bool:
        """One acquire."""
        try:
            async with self._limiter.acquire(key, RESOURCE, ONE):
                return True
        except RateLimitExceeded:
            return False

    async def close(self) -> None:
        """Close the client and the record."""
        await self._limiter.__aexit__(None, None, None)
        self._kept.write(self._record)


class Boto3:
    """A counter of each second that a conditional update increments, in threads."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job

    async def open(self) -> None:
        """Open a client with a connection for each task."""
        import boto3
        from botocore.config import Config

        where = {"region_name": REGION, "endpoint_url": self._job["endpoint_url"]}
        self._client = boto3.client("dynamodb", **where, config=Config(max_pool_connections=TASKS))
        self._names = [each["AttributeName"] for each in self._client.describe_table(TableName=TABLE)["Table"]["KeySchema"]]
        self._threads = ThreadPoolExecutor(TASKS)

    async def acquire(self, key: str) -> bool:
        """One update."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._update, key)

    def _update(self, key: str) -> bool:
        values = (f"{self._job['prefix']}{key}", str(int(time.time())))
        try:
            self._client.update_item(
                TableName=TABLE,
                Key={name: {"S": value} for name, value in zip(self._names, values, strict=True)},
                UpdateExpression="ADD n :one",
                ConditionExpression="attribute_not_exists(n) OR n < :limit",
                ExpressionAttributeValues={":one": {"N": "1"}, ":limit": {"N": str(self._job["rate"])}},
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    async def close(self) -> None:
        """Close the client."""
        self._threads.shutdown()
        self._client.close()


def adapter(job: dict[str, Any]) -> Any:
    """Return the peer of a job."""
    if job["peer"] == "zae":
        from .peers.zae import Zae

        url, rate = job["endpoint_url"], job["rate"]
        return Zae(Job("zae", "heat", "paced", "dynoxide", url, "", TABLE, job["prefix"], TASKS, job["seconds"], rate=rate), {})
    return (Boto3 if job["peer"] == "boto3" else Ours)(job)


async def work(job: dict[str, Any]) -> dict[str, Any]:
    """Open the peer, wait for the order, let the tasks ask; return what became of it."""
    os.nice(10)  # A table has processors of its own. Here the engine and the proxy come before the fleet.
    peer = adapter(job)
    await peer.open()
    gc.disable()  # It would visit the events that are kept for the record again and again.
    print("ready", flush=True)
    sys.stdin.readline()
    outcomes: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    latencies: list[float] = []
    first = time.monotonic() + job["settle"]
    end = first + job["seconds"]
    used = time.process_time()

    async def ask(number: int) -> None:
        await asyncio.sleep(job["pause"] * number / TASKS)
        while (began := time.monotonic()) < end:
            try:
                outcome = "allowed" if await peer.acquire(KEY) else "refused"
            except Exception as error:
                outcome = "failed"
                errors[type(error).__name__] += began >= first
            if began >= first:
                outcomes[outcome] += 1
                latencies.append(1e3 * (time.monotonic() - began))
            await asyncio.sleep(job["pause"])

    await asyncio.gather(*map(ask, range(TASKS)))
    used = time.process_time() - used
    await peer.close()
    return {"outcomes": outcomes, "errors": errors, "latencies": latencies, "cpu": used}


def measure(variant: Variant, limit: str, processes: int, seconds: float, upstream: str) -> dict[str, Any]:
    """Run one fleet; return its figures."""
    from support.heat_proxy import HeatProxy

    with HeatProxy(upstream, units=UNITS, latency=LATENCY) as table, tempfile.TemporaryDirectory() as folder:
        job = asdict(variant) | {
            "options": dict(variant.options),
            "endpoint_url": table.endpoint_url,
            "prefix": f"heat-{os.urandom(4).hex()}",
            "rate": RATES[limit],
            "seconds": seconds,
            "pause": processes * TASKS / DEMANDS[limit],
        }
        workers: list[subprocess.Popen[str]] = []
        try:
            workers.extend(started(job | {"record": f"{folder}/{index}.jsonl"}) for index in range(processes))
            for worker in workers:
                send(worker)
            time.sleep(variant.settle)
            table.counts()
            time.sleep(seconds)
            counts = table.counts()
            found = [json.loads(worker.communicate(timeout=120)[0]) for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        verdict = judge(*map(str, Path(folder).glob("*.jsonl")), clock_error=0.01) if variant.peer == "limiter" else None
    outcomes: Counter[str] = sum((Counter(each["outcomes"]) for each in found), Counter())
    latencies = sorted(round(1e3 * value) for each in found for value in each["latencies"])
    return {
        "variant": variant.name,
        "limit": limit,
        "allotment": variant.allotment,
        "processes": processes,
        **{f"{name}_per_second": outcomes[name] / seconds for name in ("allowed", "refused")},
        "failed": outcomes["failed"],
        "errors": sum((Counter(each["errors"]) for each in found), Counter()),
        "throttled_per_second": counts.throttled / counts.seconds,
        "writes_per_second": counts.written / counts.seconds,
        "calls": counts.calls,
        "p50_ms": quantile(latencies, 0.5) / 1e3,
        "p99_ms": quantile(latencies, 0.99) / 1e3,
        "cpu_share": sum(each["cpu"] for each in found) / (variant.settle + seconds),
        "audit": None if verdict is None else [str(finding) for finding in verdict.findings[:5]],
    }


def started(job: dict[str, Any]) -> subprocess.Popen[str]:
    """Start a process that waits for the order to begin."""
    command = [sys.executable, "-m", "benchmarks.heat", "--worker", json.dumps(job)]
    log = None if job["peer"] == "limiter" else subprocess.DEVNULL  # Others log each throttled call.
    worker = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    assert worker.stdout is not None  # noqa: S101 - a pipe was asked for
    if worker.stdout.readline() != "ready\n":
        worker.kill()
        worker.wait()
        raise RuntimeError(f"{job['name']}: a process did not start")
    return worker


def send(worker: subprocess.Popen[str]) -> None:
    """Order a process to begin."""
    assert worker.stdin is not None  # noqa: S101 - a pipe was asked for
    worker.stdin.write("go\n")
    worker.stdin.flush()


FIGURES = ("allowed_per_second", "refused_per_second", "failed", "throttled_per_second", "writes_per_second", "p50_ms", "p99_ms")
HEADER = ["limit", "processes", "variant", "allowed/s", "refused/s", "failed", "throttled/s", "writes/s", "p50 ms", "p99 ms"]


def missed(run: dict[str, Any], runs: list[dict[str, Any]]) -> str:
    """Return the goals that a run of this library has missed."""
    if run["audit"] is None:
        return "–"
    found = [
        name
        for name, is_missed in (
            ("failed", run["failed"] > 0),
            ("throttled", run["throttled_per_second"] > MOST_THROTTLED),
            ("writes", run["writes_per_second"] > MOST_WRITES),
            ("p99", run["p99_ms"] > LONGEST),
            (f"{MORE:g} × decisions", run["allotment"] and run["limit"] == "plenty" and gain(run, runs) < MORE),
        )
        if is_missed
    ]
    return ", ".join(found) or "none"


def gain(run: dict[str, Any], runs: list[dict[str, Any]]) -> float:
    """Return how many times the decisions of the same fleet without an allotment a run has made; infinite if there is none."""
    name = run["variant"].partition(", allotment")[0]
    plain = [
        each for each in runs if (each["variant"], each["limit"], each["processes"]) == (name, run["limit"], run["processes"])
    ]
    return run["allowed_per_second"] / plain[0]["allowed_per_second"] if plain and plain[0]["allowed_per_second"] else math.inf


def page(runs: list[dict[str, Any]]) -> str:
    """Return the page of one hot key."""
    cells = [
        [
            run["limit"],
            str(run["processes"]),
            run["variant"],
            *(number(run[name]) for name in FIGURES),
            number(run["cpu_share"]),
            missed(run, runs),
            "–" if run["audit"] is None else "broken" if run["audit"] else "kept",
        ]
        for run in runs
    ]
    about = f"Written by `make bench-heat`. A key serves {UNITS} writes a second, 15 to 30 ms away; {TASKS} tasks a process."
    return f"# One hot key\n\n{about}\n\n{markdown_table([*HEADER, 'CPUs', 'goals missed', 'audit'], cells)}"


def main(arguments: list[str]) -> int:
    """Measure all fleets, print the table, write it; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heat", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each fleet, after it has settled")
    parser.add_argument("--processes", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--variants", nargs="+", default=[each.name for each in VARIANTS])
    parser.add_argument("--limits", nargs="+", choices=RATES, default=list(RATES))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        print(json.dumps(asyncio.run(work(json.loads(options.worker)))))
        return 0
    runs = []
    with Servers() as servers:
        upstream = servers.engine("dynoxide")
        for limit, processes, variant in itertools.product(options.limits, options.processes, VARIANTS):
            if variant.name not in options.variants or (variant.peer == "zae" and not find_spec("zae_limiter")):
                continue
            if variant.peer == "limiter" or processes == options.processes[0]:
                runs.append(measure(variant, limit, processes, options.seconds, upstream))
                print(
                    f"{limit}, {processes} processes, {variant.name}: {runs[-1]['allowed_per_second']:,.0f}/s allowed", flush=True
                )
    if not find_spec("zae_limiter"):
        print("ABSENT zae-limiter: `make bench-heat` installs it")
    print(page(runs))
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "heat.json").write_text(json.dumps(runs, indent=1, ensure_ascii=False) + "\n")
    (options.output / "heat.md").write_text(page(runs))
    return 1 if any(run["audit"] for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
