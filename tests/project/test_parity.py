"""Both twins offer the same names with the same signatures, and so do both sides of a seam."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import limiter

if TYPE_CHECKING:
    from types import ModuleType

PACKAGE = Path(limiter.__file__).parent


def module_of(path: Path) -> str:
    """The dotted name of a source file."""
    return ".".join(["limiter", *path.relative_to(PACKAGE).with_suffix("").parts])


def first_line(path: Path) -> str:
    """The line that says whether a file has a twin, or is a seam."""
    return path.read_text().partition("\n")[0]


def find_twins() -> dict[str, str]:
    """Each asynchronous module, by name, with its twin, as their files' first lines say."""
    found = {path: first_line(path) for path in sorted(PACKAGE.rglob("*.py"))}
    pairs = {path: re.fullmatch(r"# twin: (\S+)", line) for path, line in found.items()}
    return {module_of(path): module_of((path.parent / pair[1]).resolve()) for path, pair in pairs.items() if pair}


TWINS = find_twins()
SEAMS = [module_of(path) for path in sorted(PACKAGE.rglob("*.py")) if first_line(path) == "# seam"]
CLASSES = [
    (source, twin, name)
    for source, twin in TWINS.items()
    for name, value in sorted(vars(import_module(source)).items())
    if inspect.isclass(value) and value.__module__ == source and not name.startswith("_")
]


def own_names(module: ModuleType) -> dict[str, Any]:
    """What a module itself has to offer: no imports and nothing private."""
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not inspect.ismodule(value)
        and getattr(value, "__module__", module.__name__) == module.__name__
        and (callable(value) or name.isupper())
    }


def sync_name(name: str, value: Any) -> str:
    """What the twin calls it."""
    if inspect.isclass(value):
        return f"Sync{name}"
    return f"sync_{name}" if callable(value) else name


def sync_special(name: str) -> str:
    """What the twin calls a method."""
    return re.sub(r"^__a(enter|exit|iter|next)__$", r"__\1__", name)


def shape(function: Any) -> list[tuple[str, Any, Any]]:
    """The parameters of a function: names, kinds and defaults; a default's class is as good as its twin."""
    parameters = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, repr(each.default).replace("Sync", "").replace("sync_", "")) for each in parameters]


def is_asynchronous(value: Any) -> bool:
    """Whether calling it gives something to await or to iterate over asynchronously."""
    return inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value)


def members(cls: type) -> dict[str, Any]:
    """What a class itself defines that is no bookkeeping of the interpreter's or of a decorator's."""
    own = {name: inspect.getattr_static(cls, name) for name in vars(cls)}
    functions = (staticmethod, classmethod, property)
    return {
        name: value
        for name, value in own.items()
        if inspect.isfunction(value) or isinstance(value, functions) or not (name.startswith("_") or callable(value))
    }


def test_there_are_twins_to_compare() -> None:
    """The promised pairs are among those that are compared."""
    promised = {"repository", "memory_repository", "commit.committer", "config_cache", "lease", "limiter", "repository_protocol"}
    assert {f"limiter.{name}" for name in promised} <= set(TWINS)
    assert {"limiter.RateLimiter", "limiter.Repository"} <= {f"limiter.{name}" for _, _, name in CLASSES}
    assert set(SEAMS) >= {"limiter.runtime.concurrency", "limiter.runtime.wakeup", "limiter.aws.client"}


@pytest.mark.parametrize("source", TWINS)
def test_twins_offer_the_same_names(source: str) -> None:
    """Every public name of a module has its counterpart in the twin, and the twin has no others."""
    ours = {sync_name(name, value): value for name, value in own_names(import_module(source)).items()}
    theirs = own_names(import_module(TWINS[source]))
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        assert type(value) is type(theirs[name])
        if inspect.isfunction(value):
            assert shape(value) == shape(theirs[name])
            assert not is_asynchronous(theirs[name])
        elif not callable(value):
            assert repr(value).replace("Sync", "") == repr(theirs[name]).replace("Sync", "")


@pytest.mark.parametrize(("source", "twin", "name"), CLASSES, ids=[f"{source}.{name}" for source, _, name in CLASSES])
def test_twin_classes_have_the_same_methods(source: str, twin: str, name: str) -> None:
    """Every method of a class has a counterpart with the same parameters, kinds and defaults, which is not asynchronous."""
    ours = {sync_special(each): value for each, value in members(getattr(import_module(source), name)).items()}
    theirs = members(getattr(import_module(twin), f"Sync{name}"))
    assert set(ours) == set(theirs)
    for each, value in ours.items():
        assert type(value) is type(theirs[each]), each
        if isinstance(value, staticmethod | classmethod):
            assert shape(value.__func__) == shape(theirs[each].__func__), each
        elif inspect.isfunction(value):
            assert shape(value) == shape(theirs[each]), each
        assert not is_asynchronous(theirs[each]), each


@pytest.mark.parametrize("seam", SEAMS)
def test_seams_hold_pairs_of_equal_signature(seam: str) -> None:
    """What a seam offers to one world it offers to the other, with the same parameters; only one of them may be awaited."""
    own = own_names(import_module(seam))
    pairs = {name: own.get(f"sync_{name}") or own.get(f"Sync{name}") for name in own}
    pairs = {name: twin for name, twin in pairs.items() if twin is not None}
    assert pairs
    alone = set(own) - set(pairs) - {twin.__name__ for twin in pairs.values()}
    assert not [name for name in alone if is_asynchronous(own[name]) or name.lower().startswith("sync")]
    for name, twin in pairs.items():
        assert not is_asynchronous(twin), name
        assert shape(own[name]) == shape(twin), name
        if inspect.isclass(twin):
            ours, theirs = (
                members(own[name]),
                {each: value for cls in reversed(twin.__mro__) for each, value in members(cls).items()},
            )
            public = [each for each in ours if not each.startswith("_") and inspect.isfunction(ours[each])]
            assert [shape(ours[each]) for each in public] == [shape(theirs[each]) for each in public], name


def test_every_public_class_with_a_twin_exports_both() -> None:
    """Whoever can import a class from the package can import its twin from there, and the list of names is sorted."""
    assert limiter.__all__ == sorted(
        limiter.__all__, key=lambda name: (not name.isupper(), name)
    )  # constants first, as ruff sorts
    public = {name for _, _, name in CLASSES if name in limiter.__all__}
    assert {"Lease", "MemoryRepository", "RateLimiter", "Repository", "RepositoryProtocol"} <= public
    for name in public:
        assert f"Sync{name}" in limiter.__all__
        assert getattr(limiter, f"Sync{name}").__name__ == f"Sync{name}"
    assert not [name for name in limiter.__all__ if name.startswith("Sync") and name[4:] not in public]
