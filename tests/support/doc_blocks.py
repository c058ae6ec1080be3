"""The documentation's pages, their fenced blocks, and the marks that say what a block is for.

A comment on the line before a block marks it:

- `<!-- runnable -->`: a program, which must end with status 0;
- `<!-- runnable: NAME -->`: the same, and it is kept as the file NAME for the programs and commands after it;
- `<!-- output -->`: exactly what the program before it prints.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "tests" / "README.md"])
_BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>runnable|output)(?:: (?P<name>[\w.]+))? -->\n)?^```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"(?<!\!)\[[^\]]+\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(?P<title>.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; `line` is that of its first line of text."""

    line: int
    language: str
    mark: str | None
    name: str | None
    text: str


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(text.count("\n", 0, found.start("text")) + 1, found["language"], found["mark"], found["name"], found["text"])
        for found in _BLOCK.finditer(text)
    ]


def links(page: Path) -> list[str]:
    """The targets of a page's links, outside of code."""
    text = re.sub(r"`[^`\n]*`", "", _BLOCK.sub("", page.read_text(encoding="utf-8")))
    return [found["target"] for found in _LINK.finditer(text)]


def anchors(page: Path) -> set[str]:
    """What a link to a place in the page can name, as GitHub makes it from the headings."""
    titles = (found["title"].strip().lower() for found in _HEADING.finditer(_BLOCK.sub("", page.read_text(encoding="utf-8"))))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}
