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

EMPTY = "pass"
STATEMENTS = {
    EMPTY: "",
    "import limiter": "limiter",
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


def run(repetitions: int, report: Callable[[str], None]) -> list[StartUp]:
    """Time every statement whose package is installed; the first, untimed round fills the caches of files."""
    present = [each for each, package in STATEMENTS.items() if not package or importlib.util.find_spec(package)]
    found = {statement: StartUp(statement, [], []) for statement in present}
    for number in range(repetitions + 1):
        taken = {}
        for statement in present:
            taken[statement] = seconds_of(statement)
            report(statement)
        if number:
            for statement, seconds in taken.items():
                found[statement].seconds.append(seconds)
                found[statement].over_empty.append(seconds - taken[EMPTY])
    return list(found.values())


def turns(repetitions: int) -> int:
    """Return how often `run` reports."""
    present = [package for package in STATEMENTS.values() if not package or importlib.util.find_spec(package)]
    return (repetitions + 1) * len(present)


def seconds_of(statement: str) -> float:
    """Return the wall time of one process."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    return time.perf_counter() - began
