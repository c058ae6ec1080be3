"""The plots of one run, from its JSON: `python -m benchmarks.plots RESULTS.json DIRECTORY [png]` draws them again."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("agg")
mpl.rcParams.update({"svg.hashsalt": "limiter", "svg.fonttype": "none", "font.size": 9, "axes.titlesize": 10, "figure.dpi": 110})

from matplotlib import pyplot as plt  # noqa: E402 - after the choice of the backend
from matplotlib.ticker import FuncFormatter  # noqa: E402

from .plan import PEERS, SCENARIOS  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, BARE, OTHER, REDIS = "#0b6e4f", "#7d8597", "#c1440e", "#3d5a98"
FAMILIES = {"this library": OURS, "bare client": BARE, "zae-limiter": OTHER, "on Redis": REDIS}
POLICY_STYLES = ("#222222", "#c1440e", "#e0a458", "#3d5a98", "#0b6e4f")
HOT = ("single", "hot-50", "hot-500")
LOAD = ("over-demand-25", "over-demand-1000", "cold", "cascade")
FAR = ("delayed-single", "delayed-50")


def draw(document: dict[str, Any], output: Path, suffix: str = "svg") -> list[Path]:
    """Draw everything that the document holds; return the files."""
    plans = {
        "throughput": (HOT, "per_second", "decisions per second (log scale)"),
        "cpu": (HOT, "cpu_us", "CPU of the client process, µs per decision (log scale)"),
        "calls": ((*HOT[1:], *LOAD), "calls_per_decision", "calls to the store per decision (log scale)"),
        "dollars": ((*HOT[1:], *LOAD), "dollars_per_million", "dollars per million decisions (log scale)"),
    }
    figures = {name: bars(document, *plan) for name, plan in plans.items()}
    figures["latency"] = latencies(document, (*HOT, *FAR))
    if document.get("simulation"):
        figures["simulation"] = simulation(document["simulation"])
    paths = []
    for name, figure in figures.items():
        if figure is not None:
            paths.append(output / f"{name}.{suffix}")
            figure.savefig(paths[-1], bbox_inches="tight", metadata={"Date": None} if suffix == "svg" else None)
            plt.close(figure)
    return paths


def measured(document: dict[str, Any], scenario: str, figure: str) -> list[tuple[str, dict[str, float]]]:
    """Each peer's figure in one scenario on the run's first engine, where it is not zero."""
    engine = document["engines"][0]
    found = []
    for each in document["measurements"]:
        spread = each["figures"].get(figure)
        if (each["engine"], each["scenario"]) == (engine, scenario) and spread and spread["median"] > 0:
            found.append((each["peer"], spread))
    return found


def family(peer: str) -> str:
    """The colour of a peer."""
    if peer.startswith("limiter"):
        return OURS
    if peer.startswith("zae"):
        return OTHER
    return REDIS if PEERS[peer].store == "redis" else BARE


def grid(document: dict[str, Any], scenarios: Sequence[str], figure: str) -> tuple[Figure, list[tuple[str, Axes]]] | None:
    """A figure with a panel for each scenario that was measured, in columns of two or three."""
    present = [name for name in scenarios if measured(document, name, figure)]
    if not present:
        return None
    columns = 3 if len(present) in (3, 5, 6) else min(2, len(present))
    rows = -(-len(present) // columns)
    tallest = max(len(measured(document, name, figure)) for name in present)
    plot, axes = plt.subplots(
        rows, columns, figsize=(4.7 * columns, rows * (1.2 + 0.27 * tallest)), squeeze=False, layout="constrained"
    )
    flat = list(axes.flat)
    for spare in flat[len(present) :]:
        spare.set_visible(False)
    return plot, list(zip(present, flat, strict=False))


def bars(document: dict[str, Any], scenarios: Sequence[str], figure: str, label: str) -> Figure | None:
    """One figure of every peer as bars, the median with its extremes."""
    made = grid(document, scenarios, figure)
    if made is None:
        return None
    plot, panels = made
    for name, axes in panels:
        found = measured(document, name, figure)
        values = [spread["median"] for _, spread in found]
        errors = [[s["median"] - s["low"] for _, s in found], [s["high"] - s["median"] for _, s in found]]
        places = range(len(found))
        axes.barh(places, values, xerr=errors, color=[family(peer) for peer, _ in found], height=0.7, ecolor="#555555", log=True)
        axes.set_yticks(places, [peer for peer, _ in found])
        axes.invert_yaxis()
        axes.set_title(f"{name}\n{SCENARIOS[name].title}", loc="left")
        axes.set_xlim(min(values) / 2, max(values) * 8)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axes.spines[["top", "right"]].set_visible(False)
        for place, (_, spread) in zip(places, found, strict=True):
            axes.text(spread["high"] * 1.15, place, short(spread["median"]), va="center", fontsize=8)
    finish(document, plot, label)
    return plot


def latencies(document: dict[str, Any], scenarios: Sequence[str]) -> Figure | None:
    """The median and the 99th percentile of every peer."""
    made = grid(document, scenarios, "p50_ms")
    if made is None:
        return None
    plot, panels = made
    for name, axes in panels:
        halves, tails = measured(document, name, "p50_ms"), dict(measured(document, name, "p99_ms"))
        for place, (peer, spread) in enumerate(halves):
            low, high = spread["median"], tails[peer]["median"]
            axes.plot([low, high], [place, place], color=family(peer), linewidth=2.5, solid_capstyle="round")
            axes.plot([low], [place], "o", color=family(peer), markersize=6)
            axes.plot([high], [place], "|", color=family(peer), markersize=11, markeredgewidth=2.5)
            axes.text(high * 1.2, place, f"{short(low)} · {short(high)}", va="center", fontsize=8)
        axes.set_xscale("log")
        axes.set_xlim(right=axes.get_xlim()[1] * 6)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axes.set_yticks(range(len(halves)), [peer for peer, _ in halves])
        axes.set_ylim(len(halves) - 0.4, -0.6)
        axes.set_title(f"{name}\n{SCENARIOS[name].title}", loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    finish(document, plot, "ms for a decision (log scale): ● median, | 99th percentile")
    return plot


def finish(document: dict[str, Any], plot: Figure, label: str) -> None:
    """The legend, the common label, and where it was measured."""
    handles = [plt.Rectangle((0, 0), 1, 1, color=colour) for colour in FAMILIES.values()]
    plot.legend(handles, list(FAMILIES), loc="outside upper center", ncols=len(FAMILIES), frameon=False)
    machine = document["machine"]
    plot.supxlabel(
        f"{label}; {document['engines'][0]}, {machine['processors']} processors, {document['profile']} run", fontsize=9
    )


def simulation(runs: Sequence[dict[str, Any]]) -> Figure:
    """The fleets over their size: a row for each fleet, a column for each figure, a line for each policy."""
    fleets = {run["fleet"]["name"]: run["fleet"] for run in runs}
    policies = list(dict.fromkeys(run["policy"]["name"] for run in runs))
    columns = {
        "decisions_per_second": "decisions/s",
        "admitted_per_second": "admitted/s",
        "p99_ms": "p99 of a decision, ms",
        "throttled_per_second": "throttled writes/s",
        "failed_per_second": "failed (no decision)/s",
    }
    plot, axes = plt.subplots(
        len(fleets), len(columns), figsize=(3.3 * len(columns), 3.1 * len(fleets)), squeeze=False, layout="constrained"
    )
    for row, (fleet, about) in zip(axes, fleets.items(), strict=True):
        for panel, (figure, title) in zip(row, columns.items(), strict=True):
            for policy, colour in zip(policies, POLICY_STYLES, strict=False):
                points = [
                    (r["processes"], r[figure]) for r in runs if r["fleet"]["name"] == fleet and r["policy"]["name"] == policy
                ]
                panel.plot(*zip(*points, strict=True), "o-", color=colour, markersize=3, linewidth=1.3, label=policy)
            decorate(panel, figure, title, about, [r for r in runs if r["fleet"]["name"] == fleet])
        row[0].set_ylabel(fleet.replace(", ", ",\n"), fontsize=9)
    handles, labels = axes[0][0].get_legend_handles_labels()
    labels = [f"{label} (a proposal)" if label.startswith("adaptive") else label for label in labels]
    plot.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    plot.supxlabel("processes (log scale); simulated, see the page for what the model assumes", fontsize=9)
    return plot


def decorate(panel: Axes, figure: str, title: str, fleet: dict[str, Any], runs: Sequence[dict[str, Any]]) -> None:
    """Scales, the line of what is asked and the line of the limit."""
    panel.set_xscale("log")
    panel.set_title(title, loc="left")
    panel.set_yscale("symlog", linthresh=1.0)
    panel.set_ylim(0, max(10.0, 2 * max(run[figure] for run in runs)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    panel.grid(visible=True, color="#e5e5e5", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    if figure == "decisions_per_second":
        asked = sorted({(run["processes"], run["asked_per_second"]) for run in runs})
        panel.plot(*zip(*asked, strict=True), ":", color="#888888", label="asked")
    if figure == "admitted_per_second":
        panel.axhline(fleet["limit"], color="#888888", linestyle=":")
        panel.text(1, fleet["limit"] * 1.3, "limit", fontsize=8, color="#666666", clip_on=True)
        panel.set_ylim(top=3 * max(fleet["limit"], *(run["admitted_per_second"] for run in runs)))


def short(value: float) -> str:
    """A figure with few digits."""
    if value >= 9_950:
        return f"{value / 1_000:,.0f}k"
    if value >= 1_000:
        return f"{value / 1_000:.3g}k"
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


if __name__ == "__main__":
    source, target, *kind = sys.argv[1:]
    for path in draw(json.loads(Path(source).read_text()), Path(target), *kind):
        print(path)
