"""The generator with all the rules that these tests speak of, and a tree to run it in."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest
from support.generator_project import DOTTED, KEYWORDS, SCRIPT, UNWRAPPED, WORDS, Project

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType


@pytest.fixture(scope="session")
def loaded() -> ModuleType:
    """The generator, as the project has it."""
    sys.path.insert(0, str(SCRIPT.parent))  # as it is when Python runs the script
    return importlib.import_module(SCRIPT.stem)


@pytest.fixture
def generator(loaded: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The generator, with all the rules that these tests speak of."""
    monkeypatch.setattr(loaded, "KEYWORDS", KEYWORDS)
    for table, rules in ((loaded.WORDS, WORDS), (loaded.DOTTED, DOTTED), (loaded.UNWRAPPED, UNWRAPPED)):
        for rule, replacement in rules.items():
            monkeypatch.setitem(table, rule, replacement)
    return loaded


@pytest.fixture
def project(tmp_path: Path, generator: ModuleType, capsys: pytest.CaptureFixture[str]) -> Project:
    """A tree with one source, which uses every rule, and its twin."""
    return Project(tmp_path, generator, capsys)
