"""Docstrings, comments and messages of the package, its template and its tests, and its pages, are in plain English.

The words below make a sentence hard to read for people whose first language is another one: they leave its subject open.
"""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__)
ROOT = HERE.parents[2]
FOLDERS = (
    *("src/**/*.py", "scripts/*.py", "benchmarks/**/*.py", "examples/**/*.py", "tests/**/*.py", "tests/**/*.pml"),
    *("src/**/*.yaml", "examples/**/*.tf", ".*.yaml", ".github/**/*.yml", "pyproject.toml", "Makefile", ".ci/run"),
    *("docs/**/*.md", "tests/*.md", "*.md"),
)
BANNED = re.compile(r"\b(?:whoever|whomever|nobody|somebody|lest|whatever|meanwhile|of its own accord)\b", re.IGNORECASE)


def test_no_sentence_leaves_its_subject_open() -> None:
    """The subject is the object or the caller: "no caller", "another process", "a client that"."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for pattern in FOLDERS
        for path in sorted(ROOT.glob(pattern))
        if path != HERE and path.name != "CHANGELOG.md"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if BANNED.search(line)
    ]
    assert found == []
