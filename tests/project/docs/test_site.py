"""The documentation site is built without a warning, and its search finds every public name."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import pkgutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from sphinx.search.en import SearchEnglish
from support.doc_blocks import ROOT

import limiter
import limiter.contrib

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)
"""The site is built once, which takes half a minute of a processor."""

MODULES = ("limiter.audit", "limiter.exceptions", "limiter.local", "limiter.repository_protocol", "limiter.testing")


def module_at(path: Path) -> Any:
    """Import a file that is in no package."""
    specification = importlib.util.spec_from_file_location(f"site_{path.stem}", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


check_site = module_at(ROOT / "scripts" / "check_site.py")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site: what `make docs` builds."""
    output = tmp_path_factory.mktemp("site")
    options = ["--conf-dir", "docs", "--builder", "html", "--fail-on-warning", "--keep-going", "--quiet"]
    command = [sys.executable, "-m", "sphinx", *options, "--doctree-dir", str(output / "doctrees"), ".", str(output / "html")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert built.returncode == 0, built.stderr
    return output / "html"


@pytest.fixture(scope="module")
def index(site: Path) -> dict[str, Any]:
    """What the site's search looks words up in."""
    text = (site / "searchindex.js").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    return found


def found_by_search(index: dict[str, Any], word: str) -> bool:
    """Whether the search has a result for a word: the name of an object, or a word of a page."""
    objects = {each[4].lower() for members in index["objects"].values() for each in members}
    stem = SearchEnglish({}).stem(word.lower())
    return word.lower() in objects or stem in index["terms"] or stem in index["titleterms"]


def public_values() -> Iterator[tuple[str, Any]]:
    """Every public name, and what it stands for."""
    yield from ((name, getattr(limiter, name)) for name in limiter.__all__)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "support.django_project")  # the adapter to REST framework asks for some
    names = {each.name for each in pkgutil.iter_modules(limiter.contrib.__path__)} - {"counters", "extras"}
    adapters = [f"limiter.contrib.{name}" for name in sorted(names)]
    for module in map(importlib.import_module, (*MODULES, *adapters)):
        yield module.__name__.rpartition(".")[2], module
        names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
        own = [(name, getattr(module, name)) for name in names]
        yield from ((name, value) for name, value in own if str(getattr(value, "__module__", None)).startswith(module.__name__))


def names_of(name: str, value: Any) -> Iterator[str]:
    """A public name, the parameters it takes, and, of a class, the methods and fields that this package gives it."""
    yield name
    members = {name: value}
    if inspect.isclass(value):
        own = [each for each in value.__mro__ if each.__module__.startswith("limiter")]
        members |= {name: member for each in own for name, member in vars(each).items() if not name.startswith("_")}
        members |= {name: None for each in own for name in vars(each).get("__annotations__", ()) if not name.startswith("_")}
        yield from members
    for member in members.values():
        if inspect.isfunction(member):
            yield from (each for each in inspect.signature(member).parameters if each not in ("self", "args", "kwargs"))


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("`Limit`s, *args and a_", ":py:obj:`~limiter.Limit`\\ s, \\*args and a\\_"),
        ("See `LimiterError`, `a_b`.", "See :py:obj:`~limiter.exceptions.LimiterError`, ``a_b``."),
        ("Text:\n- one\n  more\n- two\nEnd.", "Text:\n\n- one\n  more\n- two\n\nEnd."),
        ("Text.\n\n    code(*args)\n\nEnd.", "Text.\n\n::\n\n    code(*args)\n\nEnd."),
    ],
)
def test_docstrings_become_restructuredtext(docstring: str, expected: str) -> None:
    """Code, names, lists and indented programs are shown as what they are."""
    configuration = module_at(ROOT / "docs" / "conf.py")
    lines = docstring.split("\n")
    configuration.translate_docstring(None, "function", "name", None, None, lines)
    assert "\n".join(lines).rstrip() == expected


def test_every_link_within_the_site_leads_somewhere(site: Path) -> None:
    """Every link of every built page leads to a file of the site, and to an anchor of that page: `make docs` checks the same."""
    assert list(check_site.broken_links(site)) == []


@pytest.mark.parametrize("link", ["other.html", "#no-such-anchor", "docs/page.html#nowhere", "missing/"])
def test_a_link_that_leads_nowhere_is_found(link: str, tmp_path: Path) -> None:
    """The check itself can fail, and names the page and the link."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.html").write_text('<h1 id="here">', encoding="utf-8")
    good = '<a href="docs/page.html#here"><a href="https://example.org/x"><a href="mailto:a@example.org"><a id="top" href="#top">'
    (tmp_path / "index.html").write_text(f'{good}<a href="{link}">', encoding="utf-8")
    assert [each.split()[0] + each.split()[-1] for each in check_site.broken_links(tmp_path)] == [f"index.html:{link}"]


def test_the_site_has_a_front_page(site: Path) -> None:
    """The root of the site leads to the overview."""
    assert 'url=docs/index.html"' in (site / "index.html").read_text(encoding="utf-8")
    assert (site / "docs" / "index.html").is_file()


@pytest.mark.parametrize("word", ["limited", "linger", "allotment", "config_ttl", "create_table", "denial_ttl", "RateLimiter"])
def test_words_that_users_look_up_are_found(index: dict[str, Any], word: str) -> None:
    """A method, parameters, a class and a function have results."""
    assert found_by_search(index, word)


def test_a_word_that_is_nowhere_is_not_found(index: dict[str, Any]) -> None:
    """The check itself can fail."""
    assert not found_by_search(index, "no_such_parameter")


def test_every_public_name_is_found(index: dict[str, Any]) -> None:
    """Names without a result are missing from the pages of docs/api: add them there."""
    names = {each for name, value in public_values() for each in names_of(name, value)}
    assert len(names) > 150
    missing = sorted(name for name in names if not found_by_search(index, name))
    assert not missing, f"not found by the search of the site: {', '.join(missing)}"


def test_every_class_and_function_has_an_entry_of_its_own(index: dict[str, Any]) -> None:
    """A mention in passing is no reference: each public name is an object with a signature."""
    objects = {each[4] for members in index["objects"].values() for each in members}
    assert sorted({name for name, _ in public_values()} - objects - {"contrib"}) == []
