"""The limiter in a Jupyter kernel, whose event loop runs all the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.presence import need
from support.processes import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.processes import Script

NOTEBOOK = FOLDER.parent.parent / "examples" / "notebook.ipynb"


def test_the_notebook_runs_in_a_kernel(run_script: Callable[..., Script], tmp_path: Path) -> None:
    """In a cell the synchronous limiter works, without a warning, and so does the asynchronous one with top-level await."""
    need("nbclient", "nbformat", "ipykernel", "moto", "aiobotocore")
    own = {"IPYTHONDIR": str(tmp_path), "JUPYTER_RUNTIME_DIR": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path)}

    result = run_script("run_notebook.py", str(NOTEBOOK), timeout=110, **own).result

    assert result == [
        "",
        "{'requests': 1, 'tokens': 250}",
        "{'requests': 3, 'tokens': 650}",
        "3",
        "(['requests'], True)",
        "",
    ]
