"""The rooms of the package: what each may import, where each module's test is, and what stands under tests/. See ADR-170."""

from __future__ import annotations

import ast
import re
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "limiter"
TESTS = ROOT / "tests"

GROUND = {"_version", "exceptions", "models"}
"""Modules that every module may import."""
STORES = {"repository_protocol", "sync_repository_protocol"}
BELOW = {"core", "runtime", "aws", "commit", "outage"}
MAY_IMPORT = {
    "core": {"core"},
    "runtime": {"runtime", "core.validation", "core.units"},
    "aws": {"aws", "core", "runtime"},
    "commit": {"commit", "core", "runtime", "statistics", *STORES},
    "outage": {"outage", "commit", "core", "statistics", *STORES},
    "audit": {"audit", "core"},
    "infra": {"infra", "aws", "core", "runtime"},
    "front": {"front", *BELOW},
    "contents": {"front", "core", "infra"},
    "contrib": {"contrib", "contents", "front", *BELOW},
    "cli": {"cli", "contents", "front", "infra", "audit", *BELOW},
}
"""For each room the rooms and modules that it may import. "front" is the top folder, "contents" its `__init__.py`."""
MODULES_THAT_IMPORT_LESS = {
    "_version": set[str](),
    "models": set[str](),
    "exceptions": {"models"},
    "statistics": set[str](),
    "repository_protocol": {"core"},
    "sync_repository_protocol": {"core"},
}
"""Modules of the top folder that lower rooms import, so that they stand below these rooms."""
ALLOWED: set[tuple[str, str]] = set()
"""Imports that break a rule. Mend the import; do not add it here."""

TESTED_BY = {
    "_version": "tests/project/test_packaging.py",
    "acquirer": "tests/async/test_acquire.py",
    "acquisition": "tests/async/test_acquire.py",
    "administration": "tests/async/test_stored_limits.py",
    "audit.capacity": "tests/unit/audit/test_checker.py",
    "audit.history": "tests/async/test_audit.py",
    "audit.joins": "tests/async/test_audit.py",
    "audit.periods": "tests/unit/audit/test_rules.py",
    "audit.refill": "tests/unit/audit/test_checker.py",
    "audit.refusals": "tests/unit/audit/test_checker.py",
    "audit.spans": "tests/unit/audit/test_checker.py",
    "audit.uses": "tests/unit/audit/test_checker.py",
    "audit.verdict": "tests/unit/audit/test_planted_faults.py",
    "aws.expressions": "tests/unit/aws/test_updates_on_engines.py",
    "aws.call_path": "tests/async/test_transport.py",
    "aws.connections": "tests/async/test_transport.py",
    "aws.queries": "tests/unit/aws/test_schema.py",
    "aws.read_timeout": "tests/faults/test_hostile_answers.py",
    "aws.requests": "tests/unit/aws/test_direct.py",
    "aws.table": "tests/async/test_unavailable.py",
    "cli.__main__": "tests/project/test_packaging.py",
    "cli.amounts": "tests/unit/cli/test_acquire.py",
    "cli.buckets": "tests/unit/cli/test_doctor.py",
    "cli.demo": "tests/unit/cli/test_terminal.py",
    "cli.deploy": "tests/unit/cli/test_stacks.py",
    "cli.documents": "tests/unit/cli/test_stacks.py",
    "cli.entity": "tests/unit/cli/test_stored.py",
    "cli.exit_codes": "tests/unit/cli/test_help.py",
    "cli.findings": "tests/unit/cli/test_doctor.py",
    "cli.gauges": "tests/unit/cli/test_top.py",
    "cli.groups": "tests/unit/cli/test_help.py",
    "cli.limits": "tests/unit/cli/test_stored.py",
    "cli.limits_changes": "tests/unit/cli/test_limits_file.py",
    "cli.limits_export": "tests/unit/cli/test_limits_file.py",
    "cli.limits_levels": "tests/unit/cli/test_stored.py",
    "cli.local": "tests/project/engines/test_local.py",
    "cli.namespace": "tests/unit/cli/test_stored.py",
    "cli.options": "tests/unit/cli/test_stored.py",
    "cli.output": "tests/faults/test_hostile_files.py",
    "cli.probes": "tests/unit/cli/test_doctor.py",
    "cli.scanning": "tests/unit/cli/test_doctor.py",
    "cli.stack": "tests/unit/cli/test_stacks.py",
    "commit.block_orders": "tests/async/test_allotments.py",
    "commit.charge": "tests/async/test_waiting.py",
    "commit.caller_line": "tests/unit/commit/test_slots.py",
    "commit.slot_line": "tests/async/test_slots.py",
    "config_cache": "tests/async/test_stored_limits.py",
    "contrib.addresses": "tests/contrib/test_http.py",
    "contrib.counters": "tests/contrib/test_limits.py",
    "contrib.extras": "tests/contrib/test_mistakes.py",
    "core.call": "tests/async/test_acquire.py",
    "core.forgetting": "tests/async/test_memory.py",
    "core.headroom": "tests/unit/core/test_priorities.py",
    "core.limits.account": "tests/unit/core/test_plan.py",
    "core.limits.accounts": "tests/unit/core/test_plan.py",
    "core.limits.births": "tests/unit/core/test_births.py",
    "core.limits.checks": "tests/unit/core/limits/test_limits.py",
    "core.limits.count": "tests/unit/core/test_counts.py",
    "core.limits.protocol": "tests/unit/core/test_plan.py",
    "core.limits.text": "tests/unit/core/limits/test_limits.py",
    "core.preview": "tests/unit/core/test_plan.py",
    "core.records": "tests/async/test_entities.py",
    "core.refund_policy": "tests/async/test_lease.py",
    "core.request": "tests/unit/core/test_plan.py",
    "core.resetting": "tests/unit/core/test_counts.py",
    "core.slot_ledger": "tests/promises/test_slot_histories.py",
    "core.tenure": "tests/promises/test_slot_histories.py",
    "core.state": "tests/unit/core/test_plan.py",
    "core.trust": "tests/async/test_standing_still.py",
    "core.units": "tests/unit/core/limits/test_gcra.py",
    "core.visible": "tests/async/test_ids.py",
    "exceptions": "tests/unit/test_models.py",
    "infra.change_set": "tests/async/test_stack_manager.py",
    "infra.cloudformation_errors": "tests/async/test_stack_manager.py",
    "infra.drift": "tests/async/test_stack_manager.py",
    "infra.ownership": "tests/async/test_stack_manager.py",
    "infra.stack_client": "tests/async/test_stack_manager.py",
    "infra.stack_operation": "tests/async/test_stack_manager.py",
    "infra.stack_summary": "tests/async/test_stack_manager.py",
    "limiter": "tests/async/test_acquire.py",
    "local": "tests/project/engines/test_local.py",
    "memory_repository": "tests/unit/test_doors.py",
    "outage.fallback": "tests/async/test_outages.py",
    "outage.log": "tests/async/test_outages.py",
    "outage.unreported": "tests/async/test_outages.py",
    "repository": "tests/async/test_entities.py",
    "repository_protocol": "tests/project/typing/api.py",
    "runtime.entering": "tests/unit/test_doors.py",
    "runtime.patching": "tests/runtimes/test_greenlets.py",
    "runtime.retry": "tests/async/test_unavailable.py",
    "trail": "tests/async/test_audit.py",
}
"""The test of each module that no test file is named after. It names the module: in an import, or in its docstring."""
OTHER_FILES = {"README.md", "project/typing/api.py"}
"""Files under tests/ that are neither tests, nor `conftest.py`, nor support. The second is read by type checkers only."""


class Import(NamedTuple):
    """One import of a module of the package, at a line of `path`."""

    importer: str
    imported: str
    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports limiter.{self.imported}"


@cache
def _modules() -> dict[str, Path]:
    """Every module by its name without `limiter.`; the package itself is "__init__"."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and parts[1:] else parts)] = path
    return found


def _at_import(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements outside functions, those for type checkers included."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _at_import(child)


def _named(statement: ast.Import | ast.ImportFrom, path: Path) -> Iterator[str]:
    """The full names that a statement may import: modules, or names in modules."""
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    package = ("limiter", *path.relative_to(PACKAGE).parts[:-1])
    base = [*package[: len(package) - statement.level + 1]] if statement.level else []
    whole = ".".join([*base, *filter(None, [statement.module])])
    yield from (f"{whole}.{alias.name}" for alias in statement.names)


def _module_of(name: str) -> str | None:
    """The module of the package that a full name belongs to."""
    if name.partition(".")[0] != "limiter":
        return None
    inside = name.partition(".")[2]
    while inside and inside not in _modules():
        inside = inside.rpartition(".")[0]
    return inside or "__init__"


@cache
def _imports() -> tuple[Import, ...]:
    found = []
    for importer, path in _modules().items():
        for statement in _at_import(ast.parse(path.read_text())):
            imported = {_module_of(name) for name in _named(statement, path)} - {None, importer}
            found += [Import(importer, str(each), path, statement.lineno) for each in sorted(imported, key=str)]
    return tuple(found)


def _room(module: str) -> str:
    first = module.partition(".")[0]
    return "contents" if module == "__init__" else first if (PACKAGE / first).is_dir() else "front"


def _may(importer: str, imported: str) -> bool:
    if importer in MODULES_THAT_IMPORT_LESS:
        return imported in GROUND or bool({_room(imported), imported} & MODULES_THAT_IMPORT_LESS[importer])
    return imported in GROUND or bool({_room(imported), imported} & MAY_IMPORT[_room(importer)])


def test_the_imports_are_found() -> None:
    """The walk finds imports of each form: of a module, of a name, from a package, and for type checkers only."""
    pairs = {(each.importer, each.imported) for each in _imports()}
    assert {
        ("commit.batch", "core.preview"),
        ("core.limits.rate", "core.limits.gcra"),
        ("limiter", "repository_protocol"),
        ("contrib.langchain", "__init__"),
        ("__init__", "infra.discovery"),
    } <= pairs


def test_no_room_imports_what_its_rule_forbids() -> None:
    """Every import is one that the room's rule allows."""
    broken = [each for each in _imports() if not _may(each.importer, each.imported)]
    assert not [str(each) for each in broken if (each.importer, each.imported) not in ALLOWED]
    assert {(each.importer, each.imported) for each in broken} == ALLOWED


def test_no_modules_import_each_other_in_a_circle() -> None:
    """The modules can be put in an order in which each imports only earlier ones, type checking included."""
    graph: dict[str, set[str]] = {name: set() for name in _modules()}
    for each in _imports():
        graph[each.importer].add(each.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"these modules import each other in a circle: {error.args[1]}")


def test_no_rooms_import_each_other_in_a_circle() -> None:
    """No import runs back up: the rooms can be put in an order in which each imports only lower ones."""
    graph: dict[str, set[str]] = {}
    for each in _imports():
        upper, lower = (name if name in MODULES_THAT_IMPORT_LESS else _room(name) for name in (each.importer, each.imported))
        if upper != lower:
            graph.setdefault(upper, set()).add(lower)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"these rooms import each other in a circle: {error.args[1]}")


def _own_tests(module: str) -> list[Path]:
    """The files that may be named after a module."""
    *folders, name = module.split(".")
    mirror = TESTS.joinpath("unit", *folders)
    return [mirror / f"test_{name}.py", mirror / name / f"test_{name}.py", TESTS / "async" / f"test_{name}.py"] + [
        TESTS / "contrib" / f"test_{name}.py" for folder in folders if folder == "contrib"
    ]


def test_every_module_has_a_test_that_can_be_found() -> None:
    """A module is named by a file in tests/unit, tests/async or tests/contrib, or stands in `TESTED_BY`."""
    modules = {name for name, path in _modules().items() if not path.name.startswith("sync_")}
    packages = {name for name in modules if _modules()[name].name == "__init__.py"}
    named = {name for name in modules if any(path.exists() for path in _own_tests(name))}
    assert modules - packages - named - set(TESTED_BY) == set(), "name a test after these modules, or add them to TESTED_BY"
    assert set(TESTED_BY) - (modules - named) == set(), "these have a test of their own, or do not exist: remove them"
    assert [test for test in TESTED_BY.values() if not (ROOT / test).exists()] == []


def _names_module(text: str, module: str) -> bool:
    """Tell whether a test names a module: in full, or as imported from its room."""
    room, _, name = f"limiter.{module}".rpartition(".")
    imported = rf"from {re.escape(room)} import (?:\([^)]*|[^\n(]*)\b{name}\b"
    return re.search(rf"\blimiter\.{re.escape(module)}\b(?!\.[a-z])|{imported}", text) is not None


def test_every_listed_test_names_its_module() -> None:
    """A search for the name of a module finds the file that tests it."""
    listed = ((module, ROOT / test) for module, test in TESTED_BY.items())
    assert [
        f"{test.relative_to(ROOT)} does not name limiter.{module}"
        for module, test in listed
        if not _names_module(test.read_text(encoding="utf-8"), module)
    ] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from limiter.core.records import BucketKey", True),
        ("from limiter.core import plan, records", True),
        ("from limiter.core import (\n    plan,\n    records,\n)", True),
        ('"""The test of `limiter.core.records`."""', True),
        ("from limiter.core.record import records", False),
        ("from limiter.core import plan\nrecords = []", False),
        ("from limiter.core.records_of import x", False),
    ],
)
def test_a_name_of_a_module_is_recognised(text: str, expected: bool) -> None:
    """Imports and mentions in full count, and other uses of the word do not."""
    assert _names_module(text, "core.records") == expected


def test_every_file_under_tests_says_what_it_is() -> None:
    """A file is `test_*.py`, `conftest.py` or under support/."""
    files = [path.relative_to(TESTS) for path in TESTS.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    kept = [path for path in files if not any(part.startswith((".", "__pycache__")) for part in path.parts)]
    others = [path for path in kept if path.parts[0] != "support" and path.name != "conftest.py"]
    strange = {path.as_posix() for path in others if not (path.name.startswith("test_") and path.suffix == ".py")}
    assert strange - OTHER_FILES == set()
