"""The documentation site: Sphinx over the Markdown pages of the repository. `make docs` builds it.

The source directory is the root of the repository, so that links between README.md, docs/ and tests/ work in both places.
"""

from __future__ import annotations

import os
import re
import sys
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "src"))
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # Otherwise importing litellm calls the network.

from django.conf import settings  # noqa: E402

import limiter  # noqa: E402 - found by the line above
import limiter.contrib  # noqa: E402
import limiter.exceptions  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sphinx.application import Sphinx

project = "dynamodb-limiter"
author = "the contributors"
release = version = limiter.__version__
html_title = f"dynamodb-limiter {release}"
html_theme = "furo"
html_show_copyright = False
html_search_scorer = str(ROOT / "docs" / "scorer.js")
html_additional_pages = {"index": "redirect.html"}
templates_path = ["_templates"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinxcontrib.mermaid"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**", "tests/README.md"]
exclude_patterns = ["docs/_templates", "build", ".*", "src", "node_modules", "benchmarks", "examples", "scripts"]

myst_enable_extensions = ["colon_fence"]
myst_fence_as_directive = ["mermaid"]
myst_heading_anchors = 4

linkcheck_ignore = [r"https?://(localhost|127\.0\.0\.1|[\w.-]*example\.(com|org|net))\b"]
linkcheck_anchors = False  # Many sites make theirs by script.
linkcheck_timeout, linkcheck_retries = 20, 2  # seconds
linkcheck_report_timeouts_as_broken = False
linkcheck_allow_unauthorized = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autoclass_content = "both"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"

NAVIGATION = {
    "Getting started": (
        "README",
        "docs/guide-llm-gateway",
        "docs/limits-and-entities",
        "docs/kinds-of-limits",
        "docs/concurrency",
        "docs/schedules",
        "docs/testing",
        "docs/glossary",
    ),
    "Integrations": ("docs/integrations/index", "docs/integrations/*", "docs/proxies", "docs/coming-from"),
    "Operating": (
        "docs/cli",
        "docs/production",
        "docs/regions",
        "docs/threat-model",
        "docs/observability",
        "docs/audit",
        "docs/runtimes",
        "docs/lambda",
    ),
    "Understanding": ("docs/how-it-works", "docs/guarantees", "docs/why-native-sync", "docs/benchmarks/*"),
    "Reference": ("docs/api/index", "docs/api/limiter", "docs/api/limits", "docs/api/stores", "docs/api/*"),
    "Project": ("CHANGELOG", "CONTRIBUTING", "SECURITY", "tests/README"),
    "Decisions": ("docs/adr/*",),
}
"""The sidebar: the pages under each caption. A page that is missing here fails the build."""

SHARED = {"counters", "extras"}
"""Modules of `limiter.contrib` that only adapters use."""
_CODE = re.compile(r"(``.+?``|`[^`\n]+`)")
_ITEM = re.compile(r"(-|\d+\.) ")
_ROLE = re.compile(r":[\w:]+:$")
_ERRORS = {name for name, value in vars(limiter.exceptions).items() if isinstance(value, type)}


def add_navigation(app: Sphinx, docname: str, source: list[str]) -> None:
    """Append the sidebar to the front page, so that the Markdown in the repository needs no directives."""
    if docname != root_doc:
        return
    for caption, pages in NAVIGATION.items():
        present = [page for page in pages if any(fnmatch(found, page) for found in app.env.found_docs)]
        lines = "\n".join(f"/{page}" for page in present)
        source[0] += f"\n\n```{{toctree}}\n:hidden:\n:glob:\n:caption: {caption}\n\n{lines}\n```\n"


def add_adapters(app: Sphinx, docname: str, source: list[str]) -> None:
    """Append every module of `limiter.contrib` to the page of adapters."""
    if docname != "docs/api/contrib":
        return
    for module in sorted({each.name for each in iter_modules(limiter.contrib.__path__)} - SHARED):
        name = f"limiter.contrib.{module}"
        late_members = dict(late_classes(name))
        source[0] += f"\n\n{name}\n{'-' * len(name)}\n\n.. automodule:: {name}\n   :members:\n   :show-inheritance:\n"
        source[0] += f"   :exclude-members: {', '.join(late_members)}\n" if late_members else ""
        for late, members in late_members.items():
            source[0] += f"\n.. autoclass:: {name}.{late}\n   :members: {', '.join(members)}\n   :undoc-members:\n"


def late_classes(module_name: str) -> Iterator[tuple[str, list[str]]]:
    """The classes of an adapter that are made on first use, and their members from this package; only what is installed."""
    if module_name.endswith(".drf") and not settings.configured:
        settings.configure()
    module = import_module(module_name)
    for name in sorted(set(getattr(module, "__all__", ())) - set(vars(module))):
        try:
            bases = [each for each in getattr(module, name).__mro__[1:] if each.__module__.startswith("limiter")]
        except limiter.ConfigurationError:
            continue
        yield name, sorted({member for base in bases for member in vars(base) if not member.startswith("_")})


def translate_docstring(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Turn the docstrings' Markdown into reStructuredText: code in backticks, lists, and programs that are indented."""
    found: list[str] = []
    for block in re.split(r"\n\s*\n", "\n".join(lines)):
        rows = block.strip("\n").split("\n")
        if all(row.startswith("    ") for row in rows):
            found += ["::", "", *rows, ""]
            continue
        for before, row in zip(["", *rows], rows, strict=False):
            is_item, is_beside_item = bool(_ITEM.match(row)), bool(_ITEM.match(before)) or before.startswith("  ")
            if before and (is_item or not row.startswith(" ")) and is_item != is_beside_item:
                found.append("")
            found.append(_translate_line(row))
        found.append("")
    lines[:] = found


def _translate_line(line: str) -> str:
    parts = _CODE.split(line)
    for place, part in enumerate(parts):
        if place % 2 == 0:
            parts[place] = re.sub(r"([*|\\])|(?<=\w)_(?!\w)", lambda found: "\\" + found[0], part)
        elif not _ROLE.search(parts[place - 1]):
            code = part.strip("`")
            parts[place] = f":py:obj:`~{_full_name(code)}`" if code in limiter.__all__ else f"``{code}``"
            if re.match(r"\w", parts[place + 1]):
                parts[place] += "\\ "
    return "".join(parts)


def _full_name(name: str) -> str:
    return f"limiter.exceptions.{name}" if name in _ERRORS else f"limiter.{name}"


def setup(app: Sphinx) -> None:
    """Register the handlers above."""
    app.connect("source-read", add_navigation)
    app.connect("source-read", add_adapters)
    app.connect("autodoc-process-docstring", translate_docstring)
