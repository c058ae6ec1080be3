"""The demo, in short form: its numbers agree, it says so when they do not, and it leaves nothing running however it ends."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from limiter import Limit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

DEMO = Path(__file__).parents[2] / "examples" / "demo"
LIMIT = Limit.per_second("requests", 10, burst=50)
MARK = "LIMITER_DEMO_TEST"
SECOND = 10**9

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by /proc")


def load(name: str) -> ModuleType:
    """A module of the demo, which is no package."""
    specification = importlib.util.spec_from_file_location(f"demo_{name}", DEMO / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = sys.modules[specification.name] = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


verdict = load("verdict")


class Demo:
    """One run of the demo, whose processes can be told from all others."""

    def __init__(self, *arguments: str) -> None:
        self.mark = f"{MARK}={uuid.uuid4().hex}"
        environment = {**os.environ, "NO_COLOR": "1", **dict([self.mark.split("=")])}
        self.process = subprocess.Popen(
            [sys.executable, str(DEMO / "run.py"), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def read_until(self, text: str) -> str:
        """What it prints up to the line that holds `text`."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if text in line:
                break
        return "".join(lines)

    def rest(self) -> str:
        """What it prints until its end."""
        output, _ = self.process.communicate(timeout=60)
        return output

    def processes(self) -> list[int]:
        """The processes of this run that are there now."""
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and self._owns(entry)]

    def _owns(self, entry: Path) -> bool:
        try:
            marked = self.mark.encode() in (entry / "environ").read_bytes()
            return marked and (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False


@pytest.fixture
def start() -> Iterator[type[Demo]]:
    """Starts the demo; whatever a failed test left of it is ended."""
    started: list[Demo] = []

    class Started(Demo):
        def __init__(self, *arguments: str) -> None:
            super().__init__(*arguments)
            started.append(self)

    yield Started
    for demo in started:
        for pid in demo.processes():
            os.kill(pid, signal.SIGKILL)
        demo.process.wait()
        assert demo.process.stdout is not None
        demo.process.stdout.close()


@needs_proc
def test_what_is_admitted_is_what_the_limit_allows(start: type[Demo]) -> None:
    """Two gevent workers, an asyncio client and the script together take what one limit allows, and then all are gone."""
    demo = start("--seconds", "3")
    output = demo.rest()
    assert demo.process.returncode == 0, output
    assert "AGREE" in output
    assert output.count("WSGI application, worker ") == 2
    assert "allowed by now" in output
    assert "\x1b" not in output
    assert demo.processes() == []


def left_after_a_while(demo: Demo) -> list[int]:
    """The processes that do not end by themselves."""
    deadline = time.monotonic() + 30
    while demo.processes() and time.monotonic() < deadline:
        time.sleep(0.1)
    return demo.processes()


@needs_proc
def test_an_interruption_leaves_nothing_running(start: type[Demo]) -> None:
    """Ctrl-C under load ends every process with status 130."""
    demo = start("--seconds", "60")
    demo.read_until("allowed by now")
    assert len(demo.processes()) >= 6
    demo.process.send_signal(signal.SIGINT)
    assert "interrupted" in demo.rest()
    assert demo.process.returncode == 130
    assert demo.processes() == []


@needs_proc
def test_an_early_interruption_leaves_nothing_running(start: type[Demo]) -> None:
    """SIGTERM while programs are still starting ends every process; one started at that moment ends by itself."""
    demo = start("--seconds", "60")
    demo.read_until("stored in the table")
    demo.process.send_signal(signal.SIGTERM)
    demo.rest()
    assert demo.process.returncode == 130
    assert left_after_a_while(demo) == []


@needs_proc
def test_even_a_killed_script_leaves_nothing_running(start: type[Demo]) -> None:
    """The programs end by themselves when the script that started them is gone without a word."""
    demo = start("--seconds", "60")
    demo.read_until("allowed by now")
    demo.process.kill()
    demo.process.wait()
    assert left_after_a_while(demo) == []


@needs_proc
def test_a_program_that_fails_fails_the_demo(start: type[Demo]) -> None:
    """When the asyncio client dies the demo says so, with status 1, and ends the others."""
    demo = start("--seconds", "60")
    demo.read_until("allowed by now")
    victims = [pid for pid in demo.processes() if b"client.py" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(victims) == 1
    os.kill(victims[0], signal.SIGKILL)
    assert "the asyncio client ended with status -9" in demo.rest()
    assert demo.process.returncode == 1
    assert demo.processes() == []


def test_a_wrong_number_of_seconds_is_refused() -> None:
    """The message names the value and the bounds."""
    command = [sys.executable, str(DEMO / "run.py"), "--seconds", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "--seconds must be between 1 and 600, not 0.0" in done.stderr


def judge(admitted: int, *, booked: int | None = None, failed: int = 0, seconds: float = 10.0) -> tuple[str, ...]:
    """The complaints about so many admissions within `seconds`."""
    tallies = [verdict.Tally(admitted=admitted, failed=failed, last=round(seconds * SECOND)), verdict.Tally()]
    tat = (admitted if booked is None else booked) * SECOND // 10
    complaints: tuple[str, ...] = verdict.judge(LIMIT, tallies, since=0, tat=tat, ended=round(seconds * SECOND)).complaints
    return complaints


def test_exactly_the_capacity_and_the_refill_agree() -> None:
    """In 10 s, a burst of 50 and 10 per second allow 150."""
    assert judge(150) == ()


def test_one_unit_too_many_is_a_complaint() -> None:
    """The comparison has no tolerance upwards."""
    assert judge(151) == ("151 units were admitted, and the limit allows 150",)


def test_clearly_less_than_possible_is_a_complaint() -> None:
    """A tenth may stay unused, for programs that ask too slowly; no more."""
    assert judge(135) == ()
    assert judge(134) == ("134 units were admitted, and 150 were possible",)


def test_a_count_that_the_table_does_not_share_is_a_complaint() -> None:
    """What the programs count and what the table has booked must be equal."""
    assert judge(150, booked=149) == ("the programs count 150 units, and the table 149",)


def test_a_failed_call_is_a_complaint() -> None:
    """Nothing is proved by a run in which calls failed."""
    assert judge(150, failed=1) == ("1 calls failed",)


@pytest.mark.parametrize(("nanoseconds", "units"), [(0, 50), (SECOND // 10 - 1, 50), (SECOND // 10, 51), (SECOND, 60)])
def test_units_arrive_when_they_are_due_and_not_before(nanoseconds: int, units: int) -> None:
    """A unit every tenth of a second, on top of the capacity."""
    assert verdict.units_within(LIMIT, nanoseconds) == units
