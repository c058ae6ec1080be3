"""Refuse to build a distribution whose synchronous twins are not what their sources make them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class TwinCheck(BuildHookInterface[Any]):
    """Checks the twins before a wheel, a source distribution or an editable installation is built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Run the generator's check, and stop the build with what it says when a twin is wrong."""
        script = Path(self.root, "scripts", "generate_sync.py")
        command = [sys.executable, str(script), "--check", "--root", self.root]
        check = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)  # noqa: S603 - our own script
        if check.returncode:
            raise RuntimeError(f"{check.stderr}\n{check.stdout}".strip())
