"""Install the test engines that pip cannot: dynoxide (npm) and DynamoDB Local (Maven, Java 17).

They go into `.engines/`, which git ignores, or into the directory named by LIMITER_ENGINES. What is there already is
kept. The exit status is 1, and the last line names what is missing, when an engine could not be had.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get("LIMITER_ENGINES") or ROOT / ".engines").resolve()

DYNOXIDE_VERSION = "1.2.1"
DYNOXIDE_PACKAGE = "@dynoxide/linux-x64"
DYNOXIDE_SYSTEM = ("Linux", "x86_64")
# A release can reach the registry before its dependencies do, so known good versions are tried after the newest.
DYNAMODB_LOCAL_VERSIONS = ("[3.0,4.0)", "3.1.0", "3.0.0")
JAVA_NEEDED = 17
STEP_TIMEOUT = 420.0

POM = """<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>engines</groupId>
  <artifactId>engines</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>software.amazon.dynamodb</groupId>
      <artifactId>DynamoDBLocal</artifactId>
      <version>{version}</version>
    </dependency>
  </dependencies>
</project>
"""


class EngineUnavailableError(Exception):
    """An engine cannot be installed here; the message says why and what would help."""


def run(command: Sequence[str], directory: Path) -> None:
    """Run a bounded command without input; `EngineUnavailableError` carries the end of what it printed."""
    try:
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
    except subprocess.TimeoutExpired:
        raise EngineUnavailableError(f"`{command[0]}` did not finish within {STEP_TIMEOUT:.0f} s") from None
    if done.returncode != 0:
        tail = " ".join(done.stdout.split())[:400]
        raise EngineUnavailableError(f"`{command[0]}` ended with status {done.returncode}: {tail}")


def require(program: str, remedy: str) -> str:
    """Return the path of a program, which must be installed."""
    path = shutil.which(program)
    if path is None:
        raise EngineUnavailableError(f"`{program}` is not on PATH; {remedy}")
    return path


def install_dynoxide(target: Path) -> str:
    """Install the static binary from its npm package."""
    system = (platform.system(), platform.machine())
    if system != DYNOXIDE_SYSTEM:
        raise EngineUnavailableError(f"{DYNOXIDE_PACKAGE} does not run on {' '.join(system)}")
    npm = require("npm", "install Node.js with npm")
    flags = ["--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(target)]
    run([npm, "install", *flags, f"{DYNOXIDE_PACKAGE}@{DYNOXIDE_VERSION}"], target)
    if find_dynoxide(target) is None:
        raise EngineUnavailableError(f"package {DYNOXIDE_PACKAGE} holds no executable named dynoxide")
    return DYNOXIDE_VERSION


def find_dynoxide(target: Path) -> Path | None:
    """Return the installed binary, or None."""
    return next((p for p in target.glob("node_modules/@dynoxide/*/dynoxide") if os.access(p, os.X_OK)), None)


def install_dynamodb_local(target: Path) -> str:
    """Copy the newest complete release and its runtime dependencies, native libraries included."""
    check_java(require("java", f"install a Java {JAVA_NEEDED} runtime"))
    maven = require("mvn", "install Maven")
    refusals = []
    for version in DYNAMODB_LOCAL_VERSIONS:
        try:
            copy_dependencies(maven, target, version)
        except EngineUnavailableError as refusal:
            refusals.append(f"{version}: {refusal}")
            continue
        jar = find_dynamodb_local(target)
        if jar is not None:
            return jar.stem.removeprefix("DynamoDBLocal-")
    raise EngineUnavailableError("; ".join(refusals) or "no jar was copied")


def copy_dependencies(maven: str, target: Path, version: str) -> None:
    """Resolve one version and copy it into `target`/lib."""
    (target / "pom.xml").write_text(POM.format(version=version), encoding="utf-8")
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=lib"]
    run([maven, "-q", "-B", "-Dstyle.color=never", *goal], target)


def check_java(java: str) -> None:
    """Refuse a Java that is too old to load the classes."""
    try:
        banner = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    except subprocess.TimeoutExpired:
        raise EngineUnavailableError("`java -version` did not answer") from None
    found = re.search(r'version "(?:1\.)?(\d+)', banner)
    if found is None or int(found[1]) < JAVA_NEEDED:
        raise EngineUnavailableError(f"Java {JAVA_NEEDED} or newer is needed, found {found[1] if found else 'none'}")


def find_dynamodb_local(target: Path) -> Path | None:
    """Return the installed jar, or None."""
    return next(target.glob("lib/DynamoDBLocal-*.jar"), None)


Install = Callable[[Path], str]
Find = Callable[[Path], Path | None]
ENGINES: dict[str, tuple[Install, Find]] = {
    "dynoxide": (install_dynoxide, find_dynoxide),
    "dynamodb-local": (install_dynamodb_local, find_dynamodb_local),
}


def ensure(name: str) -> None:
    """Install one engine beside its place, and move it there when it is complete, so that a failed run leaves no part of it."""
    install, find = ENGINES[name]
    place = CACHE / name
    if (found := find(place)) is not None:
        print(f"{name}: present, {found}")
        return
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=f"{name}.") as scratch:
        staging = Path(scratch) / name
        staging.mkdir()
        version = install(staging)
        shutil.rmtree(place, ignore_errors=True)
        staging.rename(place)
    print(f"{name}: installed {version}, {find(place)}")


def main() -> int:
    """Install every engine; return 1 if one is missing."""
    CACHE.mkdir(parents=True, exist_ok=True)
    missing = []
    for name in ENGINES:
        try:
            ensure(name)
        except EngineUnavailableError as refusal:
            missing.append(name)
            print(f"{name}: NOT AVAILABLE: {refusal}", file=sys.stderr)
    if missing:
        print(f"missing engines: {','.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
