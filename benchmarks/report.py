"""The tables: on the terminal, and as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from .plan import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .goals import Goal
    from .session import Series
    from .start_up import StartUp

COLUMNS = {
    "per_second": "per second",
    "cpu_us": "CPU µs",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "calls_per_decision": "calls",
    "write_units_per_decision": "WU",
    "read_units_per_decision": "RU",
    "dollars_per_million": "$/10⁶",
}
"""The figures in the tables, per decision unless stated; WU and RU are DynamoDB's write and read units."""
EXTRA = {
    "first_ms": "first ms",
    "mib_per_100k_keys": "MiB/100k",
    "writes_per_run": "writes",
    "out_of_order": "late",
    "cpu_over_bare": "CPU / bare",
    "cpu_over_tuned": "CPU / tuned",
}
"""Figures that only some scenarios have: the time to the first decision of a process, memory by keys seen, writes in all,
callers who started after a later one, and the CPU time of this library over that of a bare client with its own settings, and
with this library's."""


def rows(series: Sequence[Series]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the cells for one scenario's peers."""
    extra = [name for name in EXTRA if any(each.median(name) is not None for each in series)]
    names = [*COLUMNS, *extra]
    header = ["peer", "transport", *COLUMNS.values(), *(EXTRA[name] for name in extra), "spread"]
    return header, [
        [each.peer, each.transport or "–", *(cell(each, name) for name in names), spread_cell(each)] for each in series
    ]


def cell(series: Series, name: str) -> str:
    """Format one figure, or the first failure."""
    if not series.runs:
        return "failed" if name == "per_second" else ""
    if name in ("dollars_per_million", "write_units_per_decision", "read_units_per_decision") and series.median("redis_commands"):
        return "–"
    value = series.median(name)
    return "" if value is None else number(value)


def spread_cell(series: Series) -> str:
    """Format the spread of the repetitions' rates, as shares of their median."""
    values, middle = series.values("per_second"), series.median("per_second")
    if not values or not middle:
        return ""
    return f"−{100 * (1 - min(values) / middle):.0f} +{100 * (max(values) / middle - 1):.0f} % ({len(values)})"


def number(value: float) -> str:
    """Format a figure with about three digits."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def scenario_title(engine: str, name: str) -> str:
    """Return the heading of one scenario's table."""
    return f"{name}: {SCENARIOS[name].title} ({engine})"


def scenario_table(engine: str, name: str, series: Sequence[Series]) -> Table:
    """Make the table of one scenario for the terminal."""
    header, cells = rows(series)
    table = Table(title=scenario_title(engine, name), title_justify="left", title_style="bold")
    for column in header:
        table.add_column(column, justify="left" if column in ("peer", "transport") else "right", no_wrap=True)
    for row in cells:
        table.add_row(*row, style="bold" if row[0].startswith("limiter") else "")
    return table


def goal_rows(goals: Iterable[Goal]) -> list[list[str]]:
    """Return rows of goals: what, the goal, the result, and whether it was reached."""
    found = []
    for goal in goals:
        measured = "not measured" if goal.measured is None else f"{number(goal.measured)}{goal.unit}"
        verdict = {None: "–", True: "reached", False: "NOT reached"}[goal.reached]
        found.append(
            [goal.about, f"{'≤' if goal.at_most else '≥'} {number(goal.bound)}{goal.unit}", measured, verdict, goal.note]
        )
    return found


def goal_table(goals: Iterable[Goal]) -> Table:
    """Make the table of goals for the terminal."""
    table = Table("goal", "to reach", "measured", "", "note", title="goals", title_justify="left", title_style="bold")
    colours = {"reached": "green", "NOT reached": "red"}
    for row in goal_rows(goals):
        table.add_row(*row, style=colours.get(row[3], "dim"))
    return table


def start_up_rows(start_ups: Iterable[StartUp]) -> list[list[str]]:
    """Return rows of imports: what, over an empty interpreter, in all, and the ratio."""
    found = []
    for each in (start_up.as_dict() for start_up in start_ups):
        over, total = each["over_empty_ms"], each["total_ms"]
        extremes = f"{number(over['low'])} to {number(over['high'])}"
        found.append([each["statement"], number(over["median"]), extremes, number(total["median"]), f"{each['ratio']:.2f}"])
    return found


START_UP_HEADER = ["statement", "ms over empty", "lowest to highest", "ms in all", "ratio"]


def start_up_table(start_ups: Iterable[StartUp]) -> Table:
    """Make the table of import times for the terminal."""
    table = Table(*START_UP_HEADER, title="start-up", title_justify="left", title_style="bold")
    for row in start_up_rows(start_ups):
        table.add_row(*row)
    return table


def markdown(document: dict[str, Any], groups: dict[tuple[str, str], list[Series]], goals: list[Goal], ups: list[StartUp]) -> str:
    """Return the page of figures."""
    machine = document["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in document["versions"].items())
    parts = [
        "# Figures of one run\n",
        f"Written by `make bench`, {document['profile']} run, {document['started']}, on {', '.join(document['engines'])}.\n",
        f"{machine['processors']} × {machine['processor']}, load average {machine['load']}, CPython {machine['python']}.\n",
        f"{versions}.\n",
        *(f"**Absent:** {name} ({why}).\n" for name, why in document["absent"].items()),
        "## Goals\n",
        markdown_table(["goal", "to reach", "measured", "", "note"], goal_rows(goals)),
    ]
    for (engine, name), series in groups.items():
        parts += [f"## {scenario_title(engine, name)}\n", markdown_table(*rows(series))]
        parts += [f"{each.peer}: {len(each.failures)} failed: `{each.failures[-1]}`\n" for each in series if each.failures]
    if ups:
        parts += ["## Start-up\n", markdown_table(START_UP_HEADER, start_up_rows(ups))]
    return "\n".join(parts)


def markdown_table(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


SIMULATED = (100, 300, 1_000)
"""The sizes of the fleets in the page of the simulation."""


def simulation_page(runs: Sequence[dict[str, Any]]) -> str:
    """Return the page with the simulated fleets of some hundred processes."""
    figures = ("admitted", "failed", "writes", "throttled", "overtaken")
    header = ["processes", "policy", *(f"{name}/s" for name in figures), "p50 ms", "p99 ms", "excess"]
    parts = [
        "# Fleets on one key, simulated",
        "Written by `make bench`, or `python -m benchmarks --simulate`. Time is simulated.",
    ]
    for name in dict.fromkeys(run["fleet"]["name"] for run in runs):
        chosen = [run for run in runs if run["fleet"]["name"] == name and run["processes"] in SIMULATED]
        if not chosen:
            continue
        fleet = chosen[0]["fleet"]
        parts.append(f"## {name[0].upper()}{name[1:]}\n\nCapacity of {fleet['window']:g} s, allotment {fleet['allotment']:g} s.")
        cells = [
            [
                f"{run['processes']:,}",
                run["policy"]["name"],
                *(f"{run[f'{figure}_per_second']:,.0f}" for figure in figures),
                f"{run['p50_ms']:,.0f}",
                f"{run['p99_ms']:,.0f}",
                f"{run['excess']:.0f}",
            ]
            for run in sorted(chosen, key=lambda run: run["processes"])
        ]
        parts.append(markdown_table(header, cells).rstrip())
    return "\n\n".join(parts) + "\n"
