"""A recipe that tells clients when to come back also says how they do not all come back at once."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest
from support.doc_blocks import PAGES, ROOT, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

SPREAD = re.compile(r"(acquire|refused|limit|Middleware)\([^)]*\btimeout=|`timeout=`|jitter|#clients-that-come-back-at-once")
TELLS = re.compile(r"Retry-After|status_code=429|Retry\(")
HEADING = re.compile(r"^#+ ", re.MULTILINE)
SHOWN = re.compile(r"^\s*(?:>>> |```)", re.MULTILINE)
"""Begins a program in a docstring."""


def recipes() -> Iterator[tuple[str, str]]:
    """The programs that tell when to come back, each with the text that its readers see with it: a section, or a whole file."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        starts = [0, *(text.count("\n", 0, found.start()) + 1 for found in HEADING.finditer(text)), text.count("\n") + 1]
        lines = text.splitlines()
        for block in blocks(page):
            if block.language == "python" and TELLS.search(block.text):
                begin, end = max(each for each in starts if each < block.line), min(each for each in starts if each > block.line)
                yield f"{page.relative_to(ROOT).as_posix()}:{block.line}", "\n".join(lines[begin - 1 : end - 1])
    for path in sorted((ROOT / "examples").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if TELLS.search(text):
            yield path.relative_to(ROOT).as_posix(), text
    for path in sorted((ROOT / "src").rglob("*.py")):
        for docstring in docstrings(path.read_text(encoding="utf-8")):
            if SHOWN.search(docstring) and TELLS.search(docstring):
                yield path.relative_to(ROOT).as_posix(), docstring


def docstrings(text: str) -> Iterator[str]:
    """The docstrings of a module, its classes and its functions."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


RECIPES = list(recipes())


def test_there_are_recipes() -> None:
    """The patterns find what they should, on pages and in examples."""
    found = {name.partition(":")[0] for name, _ in RECIPES}
    assert found >= {
        "README.md",
        "docs/guide-llm-gateway.md",
        "docs/lambda.md",
        "examples/demo/app.py",
        "examples/adapters/with_rq.py",
    }


@pytest.mark.parametrize(("name", "text"), RECIPES, ids=[name for name, _ in RECIPES])
def test_a_recipe_spreads_the_clients(name: str, text: str) -> None:
    """It waits for a moment with `timeout=`, adds jitter, or points to the section that does."""
    assert SPREAD.search(text)
