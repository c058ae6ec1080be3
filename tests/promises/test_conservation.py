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
from support.engines import plain_client, wait_until
from support.presence import need

from limiter import SyncRateLimiter, SyncRepository
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from support.engines import Engine

SECONDS = float(os.environ.get("LIMITER_SOAK_SECONDS", "10"))
SEED = os.environ.get("LIMITER_SOAK_SEED", "1")
RUNTIMES = ("threads", "gevent", "eventlet", "tasks")
WORKER = str(Path(__file__).parents[1] / "support" / "conservation_worker.py")
NEVER_FULL = ("t:all|total", "t:all|session 1000000")
"""The attributes of limits that never fill; each bucket has one of them."""
STRUCK = max(4.0, SECONDS / len(RUNTIMES))
"""Seconds for which the callers of one runtime are struck, and no process is killed."""
BEGUN = 2_000
"""Bytes that a process has written when its callers are at work."""
ENDS = 60.0
"""Seconds that a process may take to end in good order."""


class Fleet:
    """Processes, one of each of some runtimes."""

    def __init__(self, url: str, table: str, folder: Path, runtimes: Sequence[str] = RUNTIMES) -> None:
        self.job = {"endpoint_url": url, "table": table, "stop": str(folder / "stop")}
        self.folder = folder
        self.numbers = itertools.count(1)
        self.running = {runtime: self.start(runtime) for runtime in runtimes}
        self.killed = 0

    def start(self, runtime: str) -> subprocess.Popen[bytes]:
        """Start one process."""
        number = next(self.numbers)
        job = self.job | {"record": str(self.folder / f"{runtime}-{number}.jsonl"), "seed": f"{SEED} {runtime} {number}"}
        return subprocess.Popen([sys.executable, WORKER, runtime, json.dumps(job)])

    def written(self, runtime: str) -> Iterator[Path]:
        """The files of those processes of a runtime that have done something."""
        return (path for path in self.folder.glob(f"{runtime}-*.jsonl") if path.stat().st_size > BEGUN)

    def begin(self) -> None:
        """Wait until every runtime has written something down."""
        assert wait_until(lambda: all(any(self.written(runtime)) for runtime in self.running)), "a runtime does not begin"

    def run_and_kill(self, seconds: float) -> None:
        """Let them work, kill one every few seconds, and replace it."""
        self.begin()
        chance = random.Random(SEED)  # noqa: S311 - no secret
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, chance.uniform(2.0, 5.0)))
            runtime = chance.choice(list(self.running))
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
    for item in plain_client(url).scan(TableName=table, ConsistentRead=True)["Items"]:
        numbers = {name: int(value["N"]) for name, value in item.items() if "N" in value}
        for name in NEVER_FULL:
            if name in numbers:
                units[item["pk"]["S"].partition("#")[2]] = numbers[name]
    return units


@pytest.mark.engines("dynoxide")
@pytest.mark.timeout(SECONDS + 5 * ENDS)
def test_every_unit_is_accounted_for(atomic_engine: Engine, table_name: str, tmp_path: Path) -> None:
    """What a bucket holds is the sum of its history, exactly where no act was cut off, within its bounds where one was.

    A killed process cuts off an act of each of its callers, whose units may be held or not. Units that it took in advance, and
    had not spent, are held: of those buckets only the least is known.
    """
    need("gevent", "eventlet")
    url = str(atomic_engine.endpoint_url)
    create_table(table_name, client=plain_client(url))
    prepare(url, table_name)
    fleet = Fleet(url, table_name, tmp_path)
    try:
        fleet.run_and_kill(SECONDS)
    finally:
        wrong = fleet.stop()
    ledger = Ledger()
    for path in sorted(tmp_path.glob("*.jsonl")):
        ledger.read(path)
    found = held(url, table_name)
    tell(ledger, found, fleet)
    assert [*wrong, *faults(ledger, found)] == []
    assert fleet.killed > 0


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.engines("dynoxide")
@pytest.mark.timeout(STRUCK + 5 * ENDS)
def test_struck_callers_lose_what_is_told_and_no_more(
    atomic_engine: Engine, table_name: str, tmp_path: Path, runtime: str
) -> None:
    """However callers are struck, a bucket holds to the unit what its history says, and on top only losses that were told of it.

    No process is killed, so that the end of every lease is known. Each loss is told with its bucket and units, and counted; of
    tasks there are none. Units that were taken in advance, and not spent, have gone back.
    """
    need("gevent", "eventlet")
    url = str(atomic_engine.endpoint_url)
    create_table(table_name, client=plain_client(url))
    prepare(url, table_name)
    fleet = Fleet(url, table_name, tmp_path, [runtime])
    try:
        fleet.begin()
        time.sleep(STRUCK)
    finally:
        wrong = fleet.stop()
    ledger = Ledger()
    ledger.read(next(tmp_path.glob("*.jsonl")))
    found = held(url, table_name)
    tell(ledger, found, fleet)
    assert [*wrong, *faults(ledger, found)] == []
    assert {name: bounds for name, bounds in ledger.bounds.items() if bounds.least != bounds.most} == {}
    assert sum(count for end, count in ledger.ends.items() if end.endswith("interrupted")) > 0
    assert runtime != "tasks" or all(bounds.exact for bounds in ledger.bounds.values())


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
        lines.append(f"{name:12} holds {found.get(name, 0):6}, must hold {span}, and {sum(bounds.told)} were told as lost")
    exact = Counter(bounds.exact for bounds in ledger.bounds.values())
    print("\n".join([*lines, f"{exact[True]} of {len(ledger.bounds)} buckets are exact"]))  # noqa: T201 - the answer to the user


def written(folder: Path, *lines: dict[str, Any]) -> Ledger:
    """The ledger of one process that has written these lines."""
    path = folder / "1.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"lease": 9, "e', encoding="utf-8")
    ledger = Ledger()
    ledger.read(path)
    return ledger


ACQUIRE = {"lease": 1, "act": "acquire", "buckets": ["a"], "units": 4}
RELEASE = {"lease": 1, "act": "release", "units": -3}
LEAVE = {"lease": 1, "act": "leave", "fails": True}
DONE, UNKNOWN, INTERRUPTED = ({"lease": 1, "end": how} for how in ("done", "unknown", "interrupted"))
OVER, LOST = {"over": 0}, {"lost": "a", "units": 3}
LATER = [{"lease": 2, "act": "acquire", "buckets": ["a"], "units": 1}, {"lease": 2, "end": "done"}]


@pytest.mark.parametrize(
    ("lines", "least", "most"),
    [
        ([ACQUIRE, DONE, RELEASE, DONE, OVER], 1, 1),
        ([ACQUIRE, DONE, LEAVE, DONE, OVER], 0, 0),
        ([ACQUIRE], 0, 4),
        ([ACQUIRE, DONE, RELEASE], 1, 4),
        ([ACQUIRE, DONE, LEAVE], 0, 4),
        ([ACQUIRE, UNKNOWN, OVER], 0, 8),
        ([ACQUIRE, DONE, INTERRUPTED, OVER], 0, 0),
        ([ACQUIRE, DONE, INTERRUPTED], 0, 4),
        ([ACQUIRE, DONE, INTERRUPTED, *LATER], 1, 1),
    ],
)
def test_an_act_that_was_cut_off_has_bounds(tmp_path: Path, lines: list[dict[str, Any]], least: int, most: int) -> None:
    """What ended in good order counts exactly, and what was cut off between nothing and all of it."""
    ledger = written(tmp_path, *lines)
    assert [units for units in range(-5, 30) if not list(faults(ledger, {"a": units}))] == list(range(least, most + 1))


def test_a_loss_that_was_told_came_about_wholly_or_not_at_all(tmp_path: Path) -> None:
    """It is held on top of what the history says, and its process has counted it."""
    ledger = written(tmp_path, ACQUIRE, DONE, INTERRUPTED, LOST, LOST, {"over": 2})
    assert [units for units in range(-5, 30) if not list(faults(ledger, {"a": units}))] == [0, 3, 6]
    assert list(faults(written(tmp_path, LOST, {"over": 2}), {})) != []
