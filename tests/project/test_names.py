"""No name comes back that was replaced by the field's word; ADR-170 has the table."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
CLASSES = {
    *("Alarm", "Claim", "Credit", "Decider", "Degradation", "Holding", "Home", "Lane", "Needs", "Owed"),
    *("Purse", "Question", "Repetition", "Signal", "Ticket", "Unsent"),
}
"""Classes of the package that have another name now."""
ONLY_IN_TESTS = {"Caller", "Demand", "Verdict"}
"""Names that tests and benchmarks, and the audit, give to other things."""
WORDS = {
    *(
        "aboard",
        "alike",
        "board",
        "compat",
        "credit",
        "credited",
        "decider",
        "deposit",
        "degradation",
        "demands",
        "disclaim",
        "flight",
        "grounded",
        "heir",
    ),
    *(
        "holding",
        "holdings",
        "lane",
        "lanes",
        "owed",
        "purse",
        "purses",
        "repetition",
        "repetitions",
        "ticket",
        "tickets",
        "trouble",
    ),
}
"""Words that no name in the package and its tests holds; `in_flight` is another word."""
PHRASES = re.compile(
    r"\b(?:lanes?|purses?|heirs?|aboard|GROUNDED|note_lost|server_clock|_compat|_signals|Decider|the holding)\b"
    r"|\bbucket\.(?:py|plan)\b"
)
"""What no comment, docstring or page says, in any case of its first letter."""
CODE = ("src/**/*.py", "tests/**/*.py", "scripts/*.py")
OTHER_CODE = ("tests/**/*.pml", "src/**/*.yaml", ".*.yaml", ".github/**/*.yml", "pyproject.toml", "Makefile", ".ci/run")
"""Models, templates and settings, whose identifiers are any words. AWS has alarms, so no name of a class counts here."""
HERE = {"tests/project/test_names.py", "docs/adr/ADR-170-rooms.md"}
_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def _files(*patterns: str) -> list[Path]:
    found = [path for pattern in patterns for path in ROOT.glob(pattern)]
    return sorted(path for path in found if path.relative_to(ROOT).as_posix() not in HERE)


def _names(path: Path) -> Iterator[tuple[int, str]]:
    """Every identifier of a file, and the line that it stands in."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text(encoding="utf-8")).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string


def _has_old_word(name: str) -> bool:
    return any(part.lower() in WORDS for part in _PART.findall(re.sub("(?i)in_?flight", "", name)))


def _is_old(name: str) -> bool:
    return name.removeprefix("_").removeprefix("Sync") in CLASSES or _has_old_word(name)


def _place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


@pytest.mark.parametrize("name", ["Lane", "SyncTicket", "lane_of", "_Flight", "heir", "LocalOwed", "BUG_CREDIT_AGAIN"])
def test_an_old_name_is_found(name: str) -> None:
    """Whole names are found, and names that hold an old word."""
    assert _is_old(name)


@pytest.mark.parametrize("name", ["in_flight", "NOT_IN_FLIGHT", "InFlight", "alarms", "homepage", "waiter", "airplane"])
def test_other_names_are_not(name: str) -> None:
    """The field's words are no old names, nor are words that only hold the letters of one."""
    assert not _is_old(name)


def test_no_name_in_code_is_an_old_one() -> None:
    """The package, its tests and its scripts use the words of ADR-170 in their identifiers."""
    found = [
        f"{_place(path, line)}: {name}"
        for path in _files(*CODE)
        for line, name in _names(path)
        if _is_old(name)
        or (name.removeprefix("Sync") in ONLY_IN_TESTS and path.is_relative_to(ROOT / "src") and "audit" not in path.as_posix())
    ]
    assert found == []


def test_no_model_or_setting_has_an_old_name() -> None:
    """Models, the template, workflows and settings use the words of ADR-170, in their comments too."""
    files = _files(*OTHER_CODE)
    assert {path.suffix for path in files} == {".pml", ".yaml", ".yml", ".toml", ""}
    found = [
        f"{_place(path, number)}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if any(map(_has_old_word, re.findall(r"\w+", line)))
    ]
    assert found == []


def test_no_text_has_an_old_name() -> None:
    """Comments, docstrings and pages use the words of ADR-170."""
    found = [
        f"{_place(path, number)}: {line.strip()}"
        for path in _files(*CODE, *OTHER_CODE, "docs/**/*.md", "*.md")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if PHRASES.search(line) or PHRASES.search(line[:1].lower() + line.lower()[1:])
    ]
    assert found == []
