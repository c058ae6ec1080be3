"""The command: `python -m benchmarks [--short | --long | --tiny] [--minutes …] [--before …]`; `--help` names all options."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import goals, report, session, simulation, start_up
from .plan import PEERS, PROFILES, SCENARIOS, Profile
from .servers import ROOT, Servers, engine_absence

SCHEMA = 1
ENGINES = ("dynoxide", "dynamodb-local")
PLAIN_WIDTH = 140
"""Columns where there is no terminal."""
OUTPUT = ROOT / "docs" / "benchmarks"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    for name, help_text in (("short", "some minutes (default)"), ("long", "for publication"), ("tiny", "only whether it runs")):
        size.add_argument(f"--{name}", dest="profile", action="store_const", const=name, help=help_text)
    parser.set_defaults(profile="short")
    parser.add_argument("--engines", type=names, default=ENGINES, help="the first takes every scenario, the others the core ones")
    parser.add_argument("--scenarios", type=names, default=tuple(SCENARIOS))
    parser.add_argument("--peers", type=names, default=tuple(PEERS))
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--rounds", type=int, help="how often each peer is measured on the first engine")
    parser.add_argument("--minutes", type=float, default=math.inf, help="time after which no further round of a scenario begins")
    parser.add_argument("--before", type=Path, metavar="PATH", help="the src directory of an earlier version, to compare with")
    parser.add_argument("--without", type=names, default=(), help="of start-up, simulation, plots")
    parser.add_argument("--simulate", action="store_true", help="only simulate fleets, in place of those in the last results")
    options = parser.parse_args(arguments)
    for chosen, known in ((options.engines, ENGINES), (options.scenarios, SCENARIOS), (options.peers, PEERS)):
        if unknown := [name for name in chosen if name not in known]:
            parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    return options


def names(text: str) -> tuple[str, ...]:
    """Split a list at its commas."""
    return tuple(name for name in text.split(",") if name)


def main(arguments: list[str]) -> int:
    """Measure, print, write; return the exit status."""
    options = parse(arguments)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    if options.simulate:
        return simulate_again(console, options)
    absent = absences(options)
    for name, why in absent.items():
        console.print(f"[yellow]ABSENT[/] {name}: {why}")
    engines = tuple(name for name in options.engines if name not in absent)
    if not engines:
        console.print("[red]there is no engine to measure on; run `make engines`[/]")
        return 2
    selection = selected(options, engines, absent)
    document: dict[str, Any] = heading(options.profile) | {"engines": list(engines), "absent": absent}
    results = measure(console, selection)
    groups: dict[tuple[str, str], list[session.Series]] = {}
    for series in results:
        groups.setdefault((series.engine, series.scenario), []).append(series)
    ups = time_imports(console, selection) if "start-up" not in options.without else []
    judged = goals.judge(results, engines[0], ups)
    console.print(report.goal_table(judged))
    document["measurements"] = [series.as_dict() for series in results]
    document["start_up"] = [each.as_dict() for each in ups]
    document["goals"] = [goal.as_dict() for goal in judged]
    if "simulation" not in options.without:
        document["simulation"] = simulate(console, PROFILES[options.profile])
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "results.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    (options.output / "results.md").write_text(report.markdown(document, groups, judged, ups))
    if "simulation" in document:
        (options.output / "simulation.md").write_text(report.simulation_page(document["simulation"]))
    if "plots" not in options.without:
        draw(console, document, options.output)
    console.print(f"written to {options.output}")
    return 1 if any(series.failures for series in results) else 0


def selected(options: argparse.Namespace, engines: tuple[str, ...], absent: dict[str, str]) -> session.Selection:
    """Return what to measure: what was chosen and is there."""
    profile = PROFILES[options.profile]
    if options.rounds:
        profile = replace(profile, repetitions=options.rounds)
    scenarios, peers = (tuple(name for name in chosen if name not in absent) for chosen in (options.scenarios, options.peers))
    return session.Selection(profile, engines, scenarios, peers, options.before and options.before.resolve(), options.minutes)


def absences(options: argparse.Namespace) -> dict[str, str]:
    """Return the selected engines, scenarios and peers that are not available, with the reason."""
    engines = {name: engine_absence(name) for name in options.engines}
    scenarios = {name: session.absence(SCENARIOS[name], None) for name in options.scenarios}
    peers = {name: session.absence(PEERS[name], options.before) for name in options.peers}
    return {name: why for name, why in (engines | scenarios | peers).items() if why is not None}


def measure(console: Console, selection: session.Selection) -> session.Results:
    """Run everything with progress; each scenario's table is printed when it is complete, or at the end."""
    left: dict[tuple[str, str], int] = {}
    for engine, scenario, peers in selection.rounds():
        left[engine, scenario.name] = left.get((engine, scenario.name), 0) + len(peers)
    complete: dict[tuple[str, str], list[session.Series]] = {}
    with progress(console) as bar, Servers() as servers:
        task = bar.add_task("measuring", total=sum(left.values()))

        def done(series: session.Series) -> None:
            group = series.engine, series.scenario
            members = complete.setdefault(group, [])
            if series not in members:
                members.append(series)
            left[group] -= 1
            rate = series.median("per_second")
            shown = f"{report.number(rate)}/s" if rate else "failed"
            bar.update(task, advance=1, description=f"{series.engine} {series.scenario} {series.peer}: {shown}")
            if series.failures and len(series.failures) > len(series.runs):
                console.print(f"[red]{series.engine} {series.scenario} {series.peer}[/]: {series.failures[-1]}", markup=True)
            if not left[group]:
                console.print(report.scenario_table(*group, members))

        results = session.run(selection, servers, done)
        for group, members in complete.items():
            if left[group]:
                console.print(report.scenario_table(*group, members))
        return results


def time_imports(console: Console, selection: session.Selection) -> list[start_up.StartUp]:
    """Time imports with progress, and print them."""
    with progress(console) as bar:
        task = bar.add_task("start-up", total=start_up.turns(selection.profile.start_ups, selection.before))
        found = start_up.run(
            selection.profile.start_ups, selection.before, lambda each: bar.update(task, advance=1, description=each)
        )
    console.print(report.start_up_table(found))
    return found


def simulate_again(console: Console, options: argparse.Namespace) -> int:
    """Simulate fleets anew in the last results, which is the same on every machine; return the exit status."""
    results = options.output / "results.json"
    document = json.loads(results.read_text())
    document["simulation"] = simulate(console, PROFILES[options.profile])
    results.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    (options.output / "simulation.md").write_text(report.simulation_page(document["simulation"]))
    if "plots" not in options.without:
        draw(console, document, options.output)
    return 0


def simulate(console: Console, profile: Profile) -> list[dict[str, Any]]:
    """Simulate fleets with progress."""
    with progress(console) as bar:
        task = bar.add_task("simulation", total=simulation.turns(profile.fleet))
        return simulation.run(
            profile.fleet,
            profile.simulated_seconds,
            lambda about: bar.update(task, advance=1, description=about),
        )


def draw(console: Console, document: dict[str, Any], output: Path) -> None:
    """Draw the plots if matplotlib is installed."""
    if importlib.util.find_spec("matplotlib") is None:
        console.print("[yellow]ABSENT[/] matplotlib: no plots; `make bench` installs it")
        return
    from . import plots

    plots.draw(document, output)


def progress(console: Console) -> Progress:
    """Show progress, and remove it at the end."""
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    return Progress(*columns, console=console, transient=True)


def heading(profile: str) -> dict[str, Any]:
    """Return when, where and with what this was measured."""
    packages = sorted({"dynamodb-limiter", "botocore", *(peer.package for peer in PEERS.values() if peer.package)})
    return {
        "schema": SCHEMA,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "profile": profile,
        "machine": {
            "processor": processor(),
            "processors": os.cpu_count(),
            "platform": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "load": round(os.getloadavg()[0], 2),
        },
        "versions": {name: version for name in packages if (version := installed(name))},
    }


def processor() -> str:
    """Return the processor's name as the system reports it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def installed(package: str) -> str | None:
    """Return the version of a package, if it is installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
