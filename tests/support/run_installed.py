"""Installs what was built into an environment of its own, and runs the quick suite against it, without the sources beside it.

    python tests/support/run_installed.py wheel dist
    python tests/support/run_installed.py sdist dist

The tests are those inside the source distribution. `src/` is removed before they run, so that they meet the installed package.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

INSTALL = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
SUITES = ("tests/async", "tests/sync")
PATTERNS = {"wheel": "*.whl", "sdist": "*.tar.gz"}


def main(kind: str, directory: str) -> int:
    """Run the suite; the exit status is pytest's."""
    (built,) = Path(directory).resolve().glob(PATTERNS[kind])
    (sources,) = Path(directory).resolve().glob(PATTERNS["sdist"])
    with tempfile.TemporaryDirectory() as place:
        tree = unpacked(sources, Path(place))
        python = Path(place, "venv", "bin", "python")
        run(sys.executable, "-m", "venv", str(python.parents[1]))
        run(str(python), *INSTALL, "--upgrade", "pip>=25.1")
        run(str(python), *INSTALL, f"{built}[async,cli,local]")
        run(str(python), *INSTALL, "--group", "test", cwd=tree)
        command = [str(python), "-m", "pytest", "-q", "--engines=memory", *SUITES]
        return subprocess.run(command, cwd=tree, timeout=900, check=False).returncode


def unpacked(archive: Path, place: Path) -> Path:
    """Unpack a source distribution and remove its package, so that only an installed one can be imported."""
    with tarfile.open(archive) as opened:
        opened.extractall(place, filter="data")
    tree = place / archive.name.removesuffix(".tar.gz")
    shutil.rmtree(tree / "src")
    return tree


def run(*command: str, cwd: Path | None = None) -> None:
    """Run a command that has to succeed."""
    subprocess.run(command, cwd=cwd, timeout=900, check=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
