"""`typing/api.py` uses every public name, and every public method of both sides; `make check` has it read by type checkers."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

import limiter

API = Path(__file__).parent / "typing" / "api.py"
TREE = ast.parse(API.read_text(encoding="utf-8"))
PAIRS = [("RateLimiter", "SyncRateLimiter"), ("Lease", "SyncLease"), ("Repository", "SyncRepository")]
PAIRS += [("MemoryRepository", "SyncMemoryRepository"), ("StackManager", "SyncStackManager")]
OF_STORES = set(dir(limiter.RepositoryProtocol)) - {"open", "close", "namespace"}
"""Methods of repositories that stores have and users do not call; the test of parity covers them."""
CALLED_BY_BLOCKS = {"Lease": {"close"}, "MemoryRepository": {"open", "close"}}


def _used_in(function: ast.AST) -> set[str]:
    return {node.attr for node in ast.walk(function) if isinstance(node, ast.Attribute)}


def _functions(*, sync: bool) -> list[ast.AST]:
    named = [node for node in TREE.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [node for node in named if "sync_" in node.name] if sync else [node for node in named if "sync_" not in node.name]


def test_every_public_name_is_used() -> None:
    """What `limiter` exports is imported and used, beyond the import."""
    used = Counter(node.id for node in ast.walk(TREE) if isinstance(node, ast.Name))
    assert set(limiter.__all__) - set(used) == set()


@pytest.mark.parametrize(("asynchronous", "synchronous"), PAIRS)
def test_every_public_method_is_used_on_both_sides(asynchronous: str, synchronous: str) -> None:
    """Methods and properties appear in a function of their own side."""
    for name, sync in ((asynchronous, False), (synchronous, True)):
        public = {each for each in dir(getattr(limiter, name)) if not each.startswith("_")}
        used = {each for function in _functions(sync=sync) for each in _used_in(function)}
        assert public - used - OF_STORES - CALLED_BY_BLOCKS.get(asynchronous, set()) == set()
