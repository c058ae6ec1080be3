"""Every promise names tests that exist."""

from __future__ import annotations

import ast
import re

from support.doc_blocks import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def functions(path: str) -> set[str]:
    """The names of all functions of a file."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_is_named_exists() -> None:
    """Every test that the page names exists."""
    missing = [f"{path}::{name}" for path, name in TEST.findall(PAGE) if name not in functions(path)]
    assert missing == []


def test_every_promise_names_a_test() -> None:
    """No row of a table is without."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| what is promised")]
    assert len(rows) > 20
    assert [row for row in rows if not TEST.search(row)] == []
