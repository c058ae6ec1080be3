"""Runs a notebook in a Jupyter kernel of this Python, as a front end does; prints, as JSON, what each code cell shows.

    python tests/support/run_notebook.py NOTEBOOK

It fails when a cell does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import nbclient
import nbformat

PATIENCE = 60
"""Seconds that a cell may take."""


def main(path: Path) -> None:
    """Run the notebook."""
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3").execute()
    shown = ["".join(map(text, cell.outputs)) for cell in notebook.cells if cell.cell_type == "code"]
    print(json.dumps(shown))  # noqa: T201 - the answer to the test


def text(output: nbformat.NotebookNode) -> str:
    """Return what one output shows: what was printed, warnings included, or the value of the last line."""
    value: str = output["text"] if output.output_type == "stream" else output["data"]["text/plain"]
    return value


if __name__ == "__main__":
    main(Path(sys.argv[1]))
