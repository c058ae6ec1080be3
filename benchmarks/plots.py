"""The plots of one run, from its JSON: `python -m benchmarks.plots RESULTS.json DIRECTORY [png]` draws them again."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("agg")
mpl.rcParams.update({"svg.hashsalt": "limiter", "svg.fonttype": "none", "font.size": 10, "axes.titlesize": 11, "figure.dpi": 110})

from matplotlib import pyplot as plt  # noqa: E402 - after the choice of the backend
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator  # noqa: E402

from .plan import BEFORE, SCENARIOS  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "this library": "#0b6e4f",
    "no limiter": "#7d8597",
    "zae-limiter": "#c1440e",
    "on Redis": "#3d5a98",
}
LABELS = {
    "limiter": ("this library", "this library, asyncio"),
    "limiter-threads": ("this library", "this library, threads"),
    "limiter-gevent": ("this library", "this library, gevent"),
    "limiter-botocore": ("this library", "this library, asyncio, by botocore"),
    "limiter-threads-botocore": ("this library", "this library, threads, by botocore"),
    "limiter-unstored": ("this library", "this library, asyncio, stored=False"),
    "limiter-threads-unstored": ("this library", "this library, threads, stored=False"),
    "limiter-allotment": ("this library", "this library, asyncio, allotment 0.1 s"),
    "limiter-threads-allotment": ("this library", "this library, threads, allotment 0.1 s"),
    "limiter-linger": ("this library", "this library, asyncio, linger 20 ms"),
    "aiobotocore": ("no limiter", "aiobotocore call"),
    "boto3": ("no limiter", "boto3 call"),
    "aiobotocore-tuned": ("no limiter", "aiobotocore call, tuned client"),
    "boto3-tuned": ("no limiter", "boto3 call, tuned client"),
    "zae-limiter": ("zae-limiter", "zae-limiter, asyncio"),
    "zae-limiter-threads": ("zae-limiter", "zae-limiter, threads"),
    "unlimited": ("no limiter", "no limiter"),
    "limits": ("on Redis", "limits on Redis"),
    "limits-gevent": ("on Redis", "limits on Redis, gevent"),
    "throttled-py": ("on Redis", "throttled-py on Redis"),
}
"""The family and the name of each peer, in words; a peer that is missing here is drawn under its own name."""
ENGINES = {"dynoxide": "dynoxide, an in-memory DynamoDB", "dynamodb-local": "DynamoDB Local", "moto": "moto"}
POLICIES = {
    "plain": ("without a pace", "#222222", "o"),
    "linger 0.1 s": ("linger=0.1 without a pace", "#c1440e", "s"),
    "paced": ("the library, decision_timeout=32", "#0b6e4f", "v"),
    "paced, allotment": ("the library, with an allotment", "#3d5a98", "^"),
}
HOT = ("single", "hot-50", "hot-500")
LOAD = ("over-demand-25", "over-demand-1000", "cold", "cascade")
WEB = ("web-one-address", "web-addresses")
FAR = ("delayed-single", "delayed-50")
MORE, LESS = "further right is better →", "← further left is better"


def draw(document: dict[str, Any], output: Path, suffix: str = "svg") -> list[Path]:
    """Draw every plot that the document has data for; return the files."""
    plans: dict[str, tuple[Sequence[str], str, str, Callable[[float], str]]] = {
        "throughput": ((*HOT, "distinct-50", *WEB), "per_second", f"Decisions per second: {MORE}", short),
        "cpu": (HOT, "cpu_us", f"CPU time of the client process for each decision: {LESS}", lambda value: duration(value / 1e6)),
        "calls": ((*HOT[1:], *LOAD), "calls_per_decision", f"Calls to the store for each decision: {LESS}", short),
        "dollars": ((*HOT[1:], *LOAD), "dollars_per_million", f"Dollars for a million decisions: {LESS}", dollars),
    }
    figures = {name: dots(document, *plan) for name, plan in plans.items()}
    figures["latency"] = latencies(document, (*HOT, *FAR, *WEB))
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
    """Return each peer's figure in one scenario on the run's first engine, unless it is zero, without earlier versions."""
    engine = document["engines"][0]
    found = []
    for each in document["measurements"]:
        spread = each["figures"].get(figure)
        wanted = (each["engine"], each["scenario"]) == (engine, scenario) and each["peer"] not in BEFORE
        if wanted and spread and spread["median"] > 0:
            found.append((each["peer"], spread))
    return found


def family(peer: str) -> str:
    """Return the family of a peer; peers without a label are variants of this library."""
    return LABELS.get(peer, ("this library", peer))[0]


def label(peer: str) -> str:
    """Return the name of a peer in words."""
    return LABELS.get(peer, ("this library", peer))[1]


def colour(peer: str) -> str:
    """Return the colour of a peer's family."""
    return COLOURS[family(peer)]


def grid(document: dict[str, Any], scenarios: Sequence[str], figure: str) -> tuple[Figure, list[tuple[str, Axes]]] | None:
    """Make a figure with a panel for each scenario that was measured, two in a row."""
    present = [name for name in scenarios if measured(document, name, figure)]
    if not present:
        return None
    columns = min(2, len(present))
    rows = [present[first : first + columns] for first in range(0, len(present), columns)]
    heights = [max(len(measured(document, name, figure)) for name in row) + 2.5 for row in rows]
    plot, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(6.4 * columns, 0.3 * sum(heights) + 0.8),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    flat = list(axes.flat)
    for spare in flat[len(present) :]:
        spare.set_visible(False)
    return plot, list(zip(present, flat, strict=False))


def dots(
    document: dict[str, Any], scenarios: Sequence[str], figure: str, title: str, shown: Callable[[float], str]
) -> Figure | None:
    """Draw one figure of every peer: a dot for the median on a line from the lowest to the highest."""
    made = grid(document, scenarios, figure)
    if made is None:
        return None
    plot, panels = made
    for name, axes in panels:
        found = measured(document, name, figure)
        for place, (peer, spread) in enumerate(found):
            axes.plot([spread["low"], spread["high"]], [place, place], color=colour(peer), linewidth=1.5, alpha=0.6)
            axes.plot([spread["median"]], [place], "o", color=colour(peer), markersize=7)
            axes.annotate(shown(spread["median"]), (spread["high"], place), (9, 0), textcoords="offset points", va="center")
        frame(axes, name, [peer for peer, _ in found], [spread[end] for _, spread in found for end in ("low", "high")], shown)
    marks = [Line2D([], [], color="#555555", marker="o", linewidth=1.5, label="median, lowest to highest")]
    finish(document, plot, title, [peer for name, _ in panels for peer, _ in measured(document, name, figure)], marks)
    return plot


def latencies(document: dict[str, Any], scenarios: Sequence[str]) -> Figure | None:
    """Draw the median and the 99th percentile of every peer."""
    made = grid(document, scenarios, "p50_ms")
    if made is None:
        return None
    plot, panels = made
    for name, axes in panels:
        halves, tails = measured(document, name, "p50_ms"), dict(measured(document, name, "p99_ms"))
        ends = []
        for place, (peer, spread) in enumerate(halves):
            low, high = spread["median"] / 1e3, tails[peer]["median"] / 1e3
            axes.plot([low, high], [place, place], color=colour(peer), linewidth=1.5, alpha=0.6)
            axes.plot([low], [place], "o", color=colour(peer), markersize=7)
            axes.plot([high], [place], "|", color=colour(peer), markersize=11, markeredgewidth=2.5)
            text = f"{duration(low)}, {duration(high)}"
            axes.annotate(text, (high, place), (9, 0), textcoords="offset points", va="center")
            ends += [low, high]
        frame(axes, name, [peer for peer, _ in halves], ends, duration)
    marks = [
        Line2D([], [], color="#555555", marker="o", linewidth=0, label="median"),
        Line2D([], [], color="#555555", marker="|", linewidth=0, markersize=11, markeredgewidth=2.5, label="99 % are faster"),
    ]
    peers = [peer for name, _ in panels for peer, _ in measured(document, name, "p50_ms")]
    finish(document, plot, f"Time that a caller waits for a decision: {LESS}", peers, marks)
    return plot


def frame(axes: Axes, scenario: str, peers: Sequence[str], values: Sequence[float], shown: Callable[[float], str]) -> None:
    """Style a panel: the logarithmic axis with few marks, the names of the peers, and the situation in words."""
    title = SCENARIOS[scenario].title
    axes.set_title(title[0].upper() + title[1:], loc="left")
    axes.set_xscale("log")
    low, high = math.log10(min(values)), math.log10(max(values))
    space = max(high - low, 0.5)
    axes.set_xlim(10 ** (low - 0.08 * space), 10 ** (high + 0.35 * space))
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if space > 1 else (1.0, 3.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))
    axes.set_yticks(range(len(peers)), [label(peer) for peer in peers])
    axes.set_ylim(len(peers) - 0.4, -0.6)
    axes.grid(visible=True, axis="x", color="#e5e5e5", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)


def finish(document: dict[str, Any], plot: Figure, title: str, peers: Sequence[str], marks: Sequence[Line2D]) -> None:
    """Add the title, the legend, and where it was measured."""
    families = list(dict.fromkeys(family(peer) for peer in peers))
    handles = [Line2D([], [], color=COLOURS[name], marker="o", linewidth=0, markersize=7, label=name) for name in families]
    legend(plot, title, [*handles, *marks])
    machine, engine = document["machine"], document["engines"][0]
    where = f"{ENGINES.get(engine, engine)}, on the same machine with {machine['processors']} processors"
    plot.supxlabel(f"Logarithmic scale. Measured on {where}; {document['profile']} run.", fontsize=9)


def legend(plot: Figure, title: str, marks: Sequence[Line2D]) -> None:
    """Add the title of the figure with its legend below."""
    font = {"size": 14, "weight": "bold"}
    place = "outside upper center"
    plot.legend(handles=marks, loc=place, ncols=len(marks), frameon=False, title=title, title_fontproperties=font)


def simulation(runs: Sequence[dict[str, Any]]) -> Figure:
    """Draw the fleets over their size: a column for each fleet, a row for each question, a line for each policy."""
    fleets = {run["fleet"]["name"]: run["fleet"] for run in runs}
    policies = [name for name in POLICIES if any(run["policy"]["name"] == name for run in runs)]
    rows: tuple[tuple[str, Callable[[dict[str, Any]], float], Callable[[Axes, dict[str, Any]], None]], ...] = (
        ("Requests that fail without a decision (less is better)", failed_share, style_share),
        ("Allowed requests per second (closer to the dotted line is better)", lambda run: run["admitted_per_second"], style_rate),
        ("99 % of decisions are faster than (less is better)", lambda run: run["p99_ms"] / 1e3, style_latency),
    )
    plot, axes = plt.subplots(
        len(rows), len(fleets), figsize=(7.0 * len(fleets), 4.2 * len(rows)), squeeze=False, layout="constrained"
    )
    for row, (title, figure, style) in zip(axes, rows, strict=True):
        for panel, (name, fleet) in zip(row, fleets.items(), strict=True):
            chosen = [run for run in runs if run["fleet"]["name"] == name]
            for policy in policies:
                points = [(run["processes"], figure(run)) for run in chosen if run["policy"]["name"] == policy]
                _, tint, mark = POLICIES[policy]
                panel.plot(*zip(*points, strict=True), color=tint, marker=mark, markersize=5, linewidth=1.6)
            panel.set_title(f"{fleet_in_words(fleet)}\n{title}", loc="left")
            decorate(panel, chosen)
            style(panel, fleet)
    marks = [Line2D([], [], color=POLICIES[name][1], marker=POLICIES[name][2], label=POLICIES[name][0]) for name in policies]
    legend(plot, "One key and a growing fleet, simulated", marks)
    plot.supxlabel("Processes (logarithmic scale)", fontsize=10)
    return plot


def fleet_in_words(fleet: dict[str, Any]) -> str:
    """Describe a fleet's requests and its limit."""
    asks = f"Each process asks {fleet['per_process']:,.0f} times a second"
    if not fleet["per_process"]:
        asks = f"All processes together ask {fleet['in_all']:,.0f} times a second"
    window = "" if fleet["window"] == 1 else f", capacity of {fleet['window']:.0f} s"
    return f"{asks}\nLimit {fleet['limit']:,.0f} a second{window}, allotment {fleet['allotment']:g} s"


def failed_share(run: dict[str, Any]) -> float:
    """Return failed requests as a part of those that have ended."""
    ended = run["failed_per_second"] + run["decisions_per_second"]
    return float(run["failed_per_second"] / ended) if ended else 0.0


def decorate(panel: Axes, runs: Sequence[dict[str, Any]]) -> None:
    """Style the axis of processes."""
    panel.set_xscale("log")
    panel.set_xticks(sorted({run["processes"] for run in runs}))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.grid(visible=True, color="#e5e5e5", linewidth=0.7)
    panel.spines[["top", "right"]].set_visible(False)


def style_share(panel: Axes, fleet: dict[str, Any]) -> None:
    """Style an axis from 0 to 100 %."""
    panel.set_ylim(-0.03, 1.03)
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))


def style_rate(panel: Axes, fleet: dict[str, Any]) -> None:
    """Add the line of the requested rate, at most the limit."""
    processes = [10 ** (place / 50) for place in range(151)]
    best = [min(fleet["limit"], fleet["per_process"] * each or fleet["in_all"]) for each in processes]
    panel.plot(processes, best, color="#666666", linestyle=":", linewidth=2)
    text = "what is asked, at most the limit"
    panel.annotate(text, (1_000, fleet["limit"]), (0, 6), textcoords="offset points", color="#444444", ha="right")
    panel.set_ylim(0, 1.6 * fleet["limit"])
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def style_latency(panel: Axes, fleet: dict[str, Any]) -> None:
    """Style an axis from milliseconds to seconds."""
    panel.set_yscale("log")
    panel.set_ylim(0.005, 20)
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))


def short(value: float) -> str:
    """Format a figure with two significant digits, thousands as k."""
    rounded = two_digits(value)
    return f"{rounded / 1_000:g}k" if rounded >= 1_000 else f"{rounded:g}"


def duration(seconds: float) -> str:
    """Format seconds with two significant digits, in the unit that fits: µs, ms or s."""
    rounded = two_digits(seconds)
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if rounded * factor >= 1:
            return f"{two_digits(rounded * factor):g} {unit}"
    return f"{two_digits(rounded * 1e6):g} µs"


def two_digits(value: float) -> float:
    """Round a value to two significant digits, halves upwards."""
    return float(f"{value * (1 + 1e-9):.2g}")


def dollars(value: float) -> str:
    """Format dollars with two significant digits."""
    return f"${short(value)}"


if __name__ == "__main__":
    source, target, *kind = sys.argv[1:]
    for path in draw(json.loads(Path(source).read_text()), Path(target), *kind):
        print(path)
