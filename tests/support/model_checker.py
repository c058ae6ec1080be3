"""Runs the model checker spin on the models beside this file."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support.presence import program

if TYPE_CHECKING:
    from collections.abc import Sequence

MODELS = Path(__file__).parent
NEEDED = ("spin", "gcc")
DEPTH = 10_000
MEMORY_MB = 1_800
STEP_TIMEOUT = 110
DECISION = MODELS.parents[1] / "docs" / "adr" / "ADR-163-model-checked-protocol.md"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a search: every state was `visited` and none is wrong, or the assertion that one violates."""

    visited: bool
    states: int
    violated: str | None
    report: str


def require() -> None:
    """Require the model checker and the compiler that it needs."""
    for each in NEEDED:
        program(each, "install it with `make checker`", excuse="spin")


def stated_states(world: str) -> int:
    """Return the number of states that the page of the decision states for a world, in the last column of its table."""
    row = re.search(rf"^\| {re.escape(world)} \|.*\| ([\d,]+) \|$", DECISION.read_text(encoding="utf-8"), re.MULTILINE)
    assert row is not None, f"{DECISION.name} has no row for {world!r}"
    return int(row[1].replace(",", ""))


def check_size(world: str, verdict: Verdict) -> None:
    """Check that a search was as large as the page says, within a tenth, since versions of spin differ."""
    expected = stated_states(world)
    assert abs(verdict.states - expected) <= expected / 10, f"{verdict.states:,} states, and {DECISION.name} says {expected:,}"


def build(model: str, directory: Path, defines: Sequence[str] = (), compiler: Sequence[str] = ()) -> Path:
    """Compile a model's verifier in `directory`."""
    for source in MODELS.glob("*.pml"):
        shutil.copy(source, directory)
    _run(["spin", "-a", *(f"-D{define}" for define in defines), model], directory)
    # Assertions and deadlocks only; they need no search for cycles.
    flags = ["-w", "-DSAFETY", f"-DMEMLIM={MEMORY_MB}", *compiler]
    _run(["gcc", *flags, "-o", "pan", "pan.c"], directory)
    return directory / "pan"


def verify(directory: Path, defines: Sequence[str] = (), compiler: Sequence[str] = (), *, model: str = "protocol.pml") -> Verdict:
    """Search all states of a model."""
    build(model, directory, defines, compiler)
    # Nothing is approximated: -b makes it an error when a path is longer than -m allows.
    report = _run(["./pan", f"-m{DEPTH}", "-b", "-n", "-w22"], directory, status=(0, 1))
    violated = re.search(r"^pan:\d+: (.*?)(?: \(at depth \d+\))?$", report, re.MULTILINE)
    states = re.search(r"^\s*(\d+) states, stored", report, re.MULTILINE)
    incomplete = re.search(r"Search not completed|too small|out of memory|memory exceeded|truncated", report)
    full = "Full statespace search" in report and "errors: 0" in report and incomplete is None
    return Verdict(full, int(states[1]) if states else 0, violated[1] if violated else None, report)


def _run(command: Sequence[str], directory: Path, status: Sequence[int] = (0,)) -> str:
    done = subprocess.run(
        command,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=STEP_TIMEOUT,
        check=False,
    )
    assert done.returncode in status, f"{command} ended with {done.returncode}: {done.stdout[-2000:]}"
    return done.stdout
