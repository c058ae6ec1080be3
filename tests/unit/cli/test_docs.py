"""The pages that are written from the source are what the source makes them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from limiter.cli import COMMANDS

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "scripts/generate_docs.py"


def test_generated_pages_are_fresh() -> None:
    """Run `python scripts/generate_docs.py` when this fails."""
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_commands_in_the_guide_exist() -> None:
    """Each `limiter COMMAND --option` that the guide names is one."""
    reference = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    guide = (ROOT / "docs/production.md").read_text(encoding="utf-8")
    named = [line for pair in re.findall(r"`(limiter [^`]*)`|^(limiter (?!=).*)$", guide, re.MULTILINE) for line in pair if line]
    assert len(named) > 10
    for line in named:
        assert line.split()[1] in COMMANDS, line
        for option in re.findall(r"--[a-z-]+", line):
            assert option in reference, line


def test_a_commands_own_options_are_in_the_reference() -> None:
    """What only shares its name with an option of every command is listed with its command."""
    reference = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    section = reference.partition("\n## limiter local\n")[2].partition("\n## ")[0]
    assert "`--region TEXT`" in section
    assert "`--profile" not in section
