"""The time of an import over an empty interpreter: wall time of whole processes, which take turns."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .session import spread

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EMPTY = "pass"
BEFORE = "import limiter (before)"
"""The same statement with an earlier version of this library."""
STATEMENTS = {
    EMPTY: "",
    "import limiter": "limiter",
    BEFORE: "limiter",
    "from limiter import SyncRateLimiter": "limiter",
    "from limiter import SyncRateLimiter, SyncRepository, Limit": "limiter",
    "from limiter import RateLimiter, Repository, Limit": "limiter",
    "import asyncio": "asyncio",
    "import boto3": "boto3",
    "import aiobotocore.session": "aiobotocore",
    "import zae_limiter": "zae_limiter",
    "from zae_limiter import SyncRateLimiter": "zae_limiter",
    "import limits": "limits",
    "import throttled": "throttled",
}


@dataclass(slots=True)
class StartUp:
    """The seconds of whole processes, each of which ran one statement."""

    statement: str
    seconds: list[float]
    over_empty: list[float]

    def as_dict(self) -> dict[str, Any]:
        """Return milliseconds, and the ratio to an empty interpreter."""
        over = [1e3 * each for each in self.over_empty]
        ratios = [each / (each - extra) for each, extra in zip(self.seconds, self.over_empty, strict=True)]
        return {
            "statement": self.statement,
            "total_ms": spread([1e3 * each for each in self.seconds]),
            "over_empty_ms": spread(over),
            "ratio": statistics.median(ratios),
        }


def run(repetitions: int, before: Path | None, report: Callable[[str], None]) -> list[StartUp]:
    """Time every statement whose package is there; the first, untimed round fills the caches of files."""
    present = available(before)
    found = {statement: StartUp(statement, [], []) for statement in present}
    for number in range(repetitions + 1):
        taken = {}
        for statement in present:
            taken[statement] = seconds_of(statement, before)
            report(statement)
        if number:
            for statement, seconds in taken.items():
                found[statement].seconds.append(seconds)
                found[statement].over_empty.append(seconds - taken[EMPTY])
    return list(found.values())


def turns(repetitions: int, before: Path | None) -> int:
    """Return how often `run` reports."""
    return (repetitions + 1) * len(available(before))


def available(before: Path | None) -> list[str]:
    """Return the statements whose package is there."""
    found = [each for each, package in STATEMENTS.items() if not package or importlib.util.find_spec(package)]
    return [each for each in found if each != BEFORE or before is not None]


def seconds_of(statement: str, before: Path | None) -> float:
    """Return the wall time of one process."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # An installed package has bytecode.
    if statement == BEFORE:
        environment["PYTHONPATH"] = str(before)
    command = [sys.executable, "-c", statement.partition(" (")[0]]
    began = time.perf_counter()
    subprocess.run(command, check=True, env=environment)
    return time.perf_counter() - began
