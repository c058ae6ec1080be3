"""Nothing is taken twice, nothing is given back twice, and nothing is lost in silence, however callers and processes are killed.

Processes of every runtime take, correct, give back, wait and charge parents while callers are struck at random, processes are
killed and limits change. Each bucket has a limit that never fills: what the table holds of it is compared with what the processes
wrote down, to the unit. `LIMITER_SOAK_SECONDS` says for how long; `LIMITER_SOAK_SEED` chooses other turns.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.conservation import Ledger, faults
from support.engines import plain_client
from support.processes import need

from limiter import SyncRateLimiter, SyncRepository
from limiter.testing import create_table

if TYPE_CHECKING:
    from support.engines import Engine

SECONDS = float(os.environ.get("LIMITER_SOAK_SECONDS", "12"))
SEED = os.environ.get("LIMITER_SOAK_SEED", "1")
RUNTIMES = ("threads", "gevent", "eventlet", "tasks")
WORKER = str(Path(__file__).parents[1] / "support" / "conservation_worker.py")
UNIT = 3_000 * 10**9
"""Nanoseconds that one unit of the slow rate takes to refill."""
ENDS = 60.0
"""Seconds that a process may take to end in good order."""


class Fleet:
    """Processes of every runtime, of which one is killed now and then and replaced."""

    def __init__(self, url: str, table: str, folder: Path) -> None:
        self.job = {"endpoint_url": url, "table": table, "stop": str(folder / "stop")}
        self.folder = folder
        self.numbers = itertools.count(1)
        self.running = {runtime: self.start(runtime) for runtime in RUNTIMES}
        self.killed = 0

    def start(self, runtime: str) -> subprocess.Popen[bytes]:
        """Start one process."""
        number = next(self.numbers)
        job = self.job | {"record": str(self.folder / f"{runtime}-{number}.jsonl"), "seed": f"{SEED} {runtime} {number}"}
        return subprocess.Popen([sys.executable, WORKER, runtime, json.dumps(job)])

    def run(self, seconds: float) -> None:
        """Let them work, and kill one every few seconds."""
        chance = random.Random(SEED)  # noqa: S311 - no secret
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, chance.uniform(2.0, 5.0)))
            runtime = chance.choice(RUNTIMES)
            if end - time.monotonic() > 2:
                self.running[runtime].kill()
                self.running[runtime].wait()
                self.killed += 1
                self.running[runtime] = self.start(runtime)

    def stop(self) -> list[str]:
        """End all in good order, and return which could not."""
        Path(self.job["stop"]).touch()
        wrong = []
        for runtime, process in self.running.items():
            try:
                if process.wait(ENDS):
                    wrong.append(f"{runtime} ended with status {process.returncode}")
            except subprocess.TimeoutExpired:
                wrong.append(f"{runtime} did not end")
            finally:
                process.kill()
                process.wait()
        return wrong


def held(url: str, table: str) -> dict[str, int]:
    """The units of each bucket, as the items say."""
    units = {}
    now = time.time_ns()
    for item in plain_client(url).scan(TableName=table, ConsistentRead=True)["Items"]:
        numbers = {name: int(value["N"]) for name, value in item.items() if "N" in value}
        entity = item["pk"]["S"].partition("#")[2]
        if "t:all|total" in numbers:
            units[entity] = numbers["t:all|total"]
        elif "t:all|1/3000" in numbers:
            units[entity] = max(0, -(-(numbers["t:all|1/3000"] - now) // UNIT))
    return units


@pytest.mark.engines("dynoxide")
@pytest.mark.timeout(SECONDS + 5 * ENDS)
def test_every_unit_is_accounted_for(atomic_engine: Engine, table_name: str, tmp_path: Path) -> None:
    """What a bucket holds is the sum of its history, exactly where no act was cut off, within its bounds where one was."""
    need("gevent", "eventlet")
    url = str(atomic_engine.endpoint_url)
    create_table(table_name, client=plain_client(url))
    prepare(url, table_name)
    fleet = Fleet(url, table_name, tmp_path)
    try:
        fleet.run(SECONDS)
    finally:
        wrong = fleet.stop()
    ledger = Ledger()
    for path in sorted(tmp_path.glob("*.jsonl")):
        ledger.read(path)
    found = held(url, table_name)
    tell(ledger, found, fleet)
    assert [*wrong, *faults(ledger, found)] == []
    assert sum(ledger.ends.values()) > 100 * SECONDS / 10


def prepare(url: str, table: str) -> None:
    """Create the entities that have a parent."""
    with SyncRateLimiter(SyncRepository(table, endpoint_url=url)) as limiter:
        limiter.create_entity("parent-0")
        for number in range(2):
            limiter.create_entity(f"child-{number}", parent_id="parent-0")


def tell(ledger: Ledger, found: dict[str, Any], fleet: Fleet) -> None:
    """Print what has happened; pytest shows it with -s."""
    lines = [f"{fleet.killed} processes were killed; acts: {dict(sorted(ledger.ends.items()))}"]
    for name, bounds in sorted(ledger.bounds.items()):
        span = str(bounds.least) if bounds.least == bounds.most else f"{bounds.least} to {bounds.most}"
        lines.append(f"{name:12} holds {found.get(name, 0):6}, must hold {span}, and {bounds.losses} losses were told")
    exact = Counter(bounds.exact for bounds in ledger.bounds.values())
    print("\n".join([*lines, f"{exact[True]} of {len(ledger.bounds)} buckets are exact"]))  # noqa: T201 - the answer to the user
