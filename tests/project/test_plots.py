"""The published plots can be read without their page: directions, names, numbers and marks."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parents[2] / "docs/benchmarks"
PLOTS = sorted(path.name for path in FOLDER.glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"
LIBRARIES = {"zae-limiter", "limits", "throttled-py"}
"""Peers that are called by their own names."""
FIGURE = re.compile(r"\$?([0-9][0-9.,]*)k?(?: (µs|ms|s|%))?")
WHITE = re.compile(r"fill: (?:none|#ffffff)")


@pytest.fixture(params=PLOTS)
def plot(request: pytest.FixtureRequest) -> ET.Element:
    """One of the published plots."""
    return ET.parse(FOLDER / request.param).getroot()  # noqa: S314 - a file of this repository


def groups(plot: ET.Element, prefix: str) -> list[ET.Element]:
    """Return the groups of a plot whose ids are a word with a number behind it."""
    return [each for each in plot.iter(f"{SVG}g") if re.fullmatch(rf"{prefix}_\d+", each.get("id", ""))]


def texts(plot: ET.Element) -> list[str]:
    """Return every text of a plot."""
    return [(each.text or "").strip() for each in plot.iter(f"{SVG}text")]


def figures(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield the digits and the unit of each figure in a text that consists of figures."""
    found = [FIGURE.fullmatch(each) for each in text.split(", ")]
    yield from ((each[1], each[2]) for each in found if each is not None and all(found))


def test_there_are_plots() -> None:
    """Throughput, latency, processor time, calls, cost and the simulation are drawn."""
    assert {"throughput.svg", "latency.svg", "cpu.svg", "calls.svg", "dollars.svg", "simulation.svg"} <= set(PLOTS)


def test_a_plot_says_which_way_is_better(plot: ET.Element) -> None:
    """The title of a plot, or that of each of its panels, says which way is better."""
    assert any("is better" in text for text in texts(plot))


def test_names_are_in_words(plot: ET.Element) -> None:
    """No text is the id of a scenario, an engine or a peer, apart from libraries that are called by it."""
    document = json.loads((FOLDER / "results.json").read_text())
    ids = {each[kind] for each in document["measurements"] for kind in ("scenario", "engine", "peer")}
    assert (ids | {each["policy"]["name"] for each in document["simulation"]}) & set(texts(plot)) <= LIBRARIES


def test_figures_have_two_significant_digits(plot: ET.Element) -> None:
    """A figure has at most two significant digits, and 1,000 ms are a second."""
    for text in texts(plot):
        for digits, unit in figures(text):
            assert len(re.sub("[.,]", "", digits).strip("0")) <= 2, text
            assert unit not in ("µs", "ms") or float(digits.replace(",", "")) < 1_000, text


def test_medians_are_dots(plot: ET.Element) -> None:
    """On a logarithmic axis the length of a bar means nothing: panels have dots and lines, and no filled areas."""
    for panel in groups(plot, "axes"):
        assert all(WHITE.match(path.get("style", "")) for patch in groups(panel, "patch") for path in patch.iter(f"{SVG}path"))
        assert any(groups(panel, "line2d"))


def test_every_legend_entry_has_a_mark(plot: ET.Element) -> None:
    """Before each text of a legend, apart from its title, stands a line with a mark."""
    (legend,) = groups(plot, "legend")
    kinds = [(each.get("id", "").partition("_")[0], each) for each in legend]
    entries = [(before, mark) for (before, mark), (kind, _) in pairwise(kinds) if kind == "text" and before != "text"]
    assert len(entries) == len(legend.findall(f"{SVG}g/{SVG}text")) - 1 > 0
    for before, mark in entries:
        assert before == "line2d"
        assert next(mark.iter(f"{SVG}use"), None) is not None
