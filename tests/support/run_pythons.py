"""Runs the suites on memory and the embedded engine, in an environment of its own for each Python that this machine has.

    python tests/support/run_pythons.py [PYTEST ARGUMENT ...]

Looks for Python 3.11 to 3.14 on PATH and below pyenv, or for what LIMITER_PYTHONS names, separated by colons, and leaves
out the one that runs this. An absent one is named at the end, and is an error if LIMITER_PYTHONS names it. The environments stay
in `.venv-pythons`.
"""
# ruff: noqa: T201 - what is printed is the answer to the user

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".venv-pythons"
KNOWN = ("python3.11", "python3.12", "python3.13", "python3.14")
PATIENCE = 1800
SUITES = ("tests/async", "tests/sync")
ENGINES = "--engines=memory,moto"
INSTALL = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")


def main(arguments: list[str]) -> int:
    """Run the suites on every Python; return 1 if one of them fails."""
    named = [name for name in os.environ.get("LIMITER_PYTHONS", "").split(os.pathsep) if name]
    outcomes = {name: outcome(name, arguments) for name in named or KNOWN}
    print("\n== Pythons")
    for name, result in outcomes.items():
        print(f"{name}: {result}")
    bad = [result for result in outcomes.values() if "FAILED" in result or (named and result.startswith("ABSENT"))]
    return 1 if bad else 0


def outcome(name: str, arguments: list[str]) -> str:
    """Return the outcome for one Python, in a few words."""
    known = found(name)
    if known is None:
        return "ABSENT; install it, or name it in LIMITER_PYTHONS"
    program, version = known
    if version == sys.version.split()[0]:
        return f"{version}, the one that `make test` uses"
    print(f"\n== {program} {version}", flush=True)
    python = ENVIRONMENTS / version / "bin" / "python"
    if not python.exists():
        run(program, "-m", "venv", str(python.parents[1]))
        run(str(python), *INSTALL, "--upgrade", "pip>=25.1")
    run(str(python), *INSTALL, "--group", "test", "--editable", ".[async,cli,local,langchain,otel]")
    tests = arguments or SUITES
    patched = [python, "tests/support/run_patched.py", "gevent", "tests/sync", ENGINES, "-q"]
    commands = [[python, "-m", "pytest", ENGINES, "-q", *tests]] + ([] if arguments else [patched])
    failed = [command for command in commands if subprocess.run(command, cwd=ROOT, timeout=PATIENCE, check=False).returncode]
    return f"{version}, FAILED" if failed else f"{version}, passed"


def found(name: str) -> tuple[str, str] | None:
    """Return the program that a name means, and its version; None if there is none that runs."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    for program in (name, *sorted(map(str, pyenv.glob(f"{name.removeprefix('python')}.*/bin/{name}")), reverse=True)):
        # A shim of pyenv is there even for a version that is not selected, and then fails.
        with contextlib.suppress(OSError):
            show = [program, "-c", "import sys; print(sys.version.split()[0])"]
            done = subprocess.run(show, capture_output=True, text=True, timeout=PATIENCE, check=False)
            if done.returncode == 0:
                return program, done.stdout.strip()
    return None


def run(*command: str) -> None:
    """Run a command that has to succeed."""
    subprocess.run(command, cwd=ROOT, timeout=PATIENCE, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
