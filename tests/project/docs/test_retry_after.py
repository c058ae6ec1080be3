"""A recipe that tells clients when to come back also says how they do not all come back at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from support.doc_blocks import PAGES, ROOT, blocks

if TYPE_CHECKING:
    from pathlib import Path

SPREAD = re.compile(r"\btimeout=|jitter|#clients-that-come-back-at-once")
TELLS = re.compile(r"Retry-After|status_code=429")


def tells(page: Path) -> bool:
    """Tell whether a program of the page answers with the time of a refusal."""
    return any(TELLS.search(block.text) for block in blocks(page) if block.language == "python")


RECIPES = [page for page in PAGES if tells(page)]


def test_there_are_recipes() -> None:
    """The patterns find what they should."""
    assert {page.name for page in RECIPES} >= {"README.md", "guide-llm-gateway.md", "lambda.md"}


@pytest.mark.parametrize("page", RECIPES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_recipe_spreads_the_clients(page: Path) -> None:
    """It waits for a moment with `timeout=`, adds jitter, or points to the section that does."""
    assert SPREAD.search(page.read_text(encoding="utf-8"))
