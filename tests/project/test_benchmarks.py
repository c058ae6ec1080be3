"""The benchmark harness runs, in its smallest form, and writes what it says it writes. What it measures is asserted nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.engines import RECIPES
from support.presence import absent

from benchmarks.regions import FLEETS, POLICIES, Regions
from benchmarks.simulation import Fleet, Model, Policy, figures

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).resolve().parents[2]
ENGINE = "dynoxide"
TRANSPORTS = {
    "limiter": "direct",
    "limiter-gevent": "direct",
    "limiter-botocore": "botocore",
    "limiter-and-boto3": "direct",
}
OTHERS = ("limiter-threads-before", "unlimited", "aiobotocore", "boto3")
FIGURES = {
    "decisions",
    "admitted",
    "per_second",
    "cpu_us",
    "p50_ms",
    "p99_ms",
    "calls_per_decision",
    "write_units_per_decision",
    "read_units_per_decision",
    "dollars_per_million",
}


PATCH = """
from botocore.client import BaseClient
original = BaseClient._make_api_call
BaseClient._make_api_call = lambda *arguments: original(*arguments)
"""
"""A tracer, for every process that finds this as its `sitecustomize`."""


def skip_if_absent() -> None:
    """Skip a test without its engine."""
    if (why := RECIPES[ENGINE].absence()) is not None:
        absent(ENGINE, f"engine {ENGINE}: {why}")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """What one tiny run has written, and what it has printed."""
    skip_if_absent()
    output = tmp_path_factory.mktemp("benchmarks")
    choice = ["--engines", ENGINE, "--scenarios", "single,overhead,cold,delayed-single,waiters,over-demand-25,web-addresses"]
    peers = ["--peers", ",".join((*TRANSPORTS, *OTHERS)), "--before", str(ROOT / "src")]
    command = [sys.executable, "-m", "benchmarks", "--tiny", *choice, *peers, "--output", str(output), "--without", "plots"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return output, ended.stdout


@pytest.fixture(scope="module")
def document(run: tuple[Path, str]) -> dict[str, Any]:
    """The JSON of the run."""
    text: dict[str, Any] = json.loads((run[0] / "results.json").read_text())
    return text


def test_every_measurement_has_every_figure(document: dict[str, Any]) -> None:
    """Each peer is measured in each scenario, with a median between two extremes for every figure."""
    assert document["schema"] == 1
    assert document["engines"] == [ENGINE]
    assert len(document["measurements"]) == 21
    for each in document["measurements"]:
        assert each["failures"] == []
        assert each.keys() == {"engine", "scenario", "peer", "transport", "repetitions", "failures", "calls", "figures"}
        assert each["figures"].keys() >= FIGURES, each["scenario"]
        assert all(spread["low"] <= spread["median"] <= spread["high"] for spread in each["figures"].values())


def test_one_call_is_counted_for_a_bare_one(document: dict[str, Any]) -> None:
    """A bare update is one call and one write unit, and costs what a million write units cost."""
    bare = [each["figures"] for each in document["measurements"] if each["peer"] in ("aiobotocore", "boto3")]
    assert bare
    for each in bare:
        found = [each[name]["median"] for name in ("calls_per_decision", "write_units_per_decision", "dollars_per_million")]
        assert found == pytest.approx([1.0, 1.0, 0.625])


def test_every_measurement_says_how_this_library_sent_its_calls(document: dict[str, Any]) -> None:
    """Peers of this library send directly unless they say otherwise; nothing is said of other peers."""
    for each in document["measurements"]:
        assert each["transport"] == TRANSPORTS.get(each["peer"]), each["peer"]


def test_calls_and_units_are_counted_by_either_transport(document: dict[str, Any]) -> None:
    """A warm acquire of a single caller is one call and one write unit, sent directly or by botocore."""
    single = [each for each in document["measurements"] if each["scenario"] == "single" and each["transport"]]
    assert {each["transport"] for each in single} == {"direct", "botocore"}
    for each in single:
        found = [each["figures"][name]["median"] for name in ("calls_per_decision", "write_units_per_decision")]
        assert found == pytest.approx([1.0, 1.0], rel=0.1), each["peer"]


def test_calls_that_were_sent_in_another_way_fail_the_measurement(tmp_path: Path) -> None:
    """Where botocore is patched, a peer that sends directly fails with the reason, and one that uses botocore is measured."""
    skip_if_absent()
    (tmp_path / "sitecustomize.py").write_text(PATCH)
    choice = ["--tiny", "--engines", ENGINE, "--scenarios", "single", "--peers", "limiter-threads,limiter-threads-botocore"]
    command = [sys.executable, "-m", "benchmarks", *choice, "--output", str(tmp_path), "--without", "plots,start-up,simulation"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    failed, measured = json.loads((tmp_path / "results.json").read_text())["measurements"]
    assert failed["figures"] == {}
    assert "by botocore, not by direct" in failed["failures"][0]
    assert "_make_api_call is patched" in failed["failures"][0]
    assert (measured["failures"], measured["transport"]) == ([], "botocore")


def test_a_fleet_on_a_key_with_heat_is_measured_and_audited(tmp_path: Path) -> None:
    """A process with an allotment decides, and its record keeps every promise."""
    skip_if_absent()
    choice = ["--seconds", "0.5", "--processes", "1", "--limits", "scarce", "--variants", "writes_per_key=140, allotment=0.5"]
    command = [sys.executable, "-m", "benchmarks.heat", *choice, "--output", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    (run,) = json.loads((tmp_path / "heat.json").read_text())
    assert run["allowed_per_second"] > 0
    assert run["audit"] == []
    assert "| kept |" in (tmp_path / "heat.md").read_text()


def test_an_unlimited_web_worker_makes_no_calls(document: dict[str, Any]) -> None:
    """A web worker is measured with a limiter, which calls the table, and without one."""
    web = {each["peer"]: each["figures"] for each in document["measurements"] if each["scenario"] == "web-addresses"}
    assert web["limiter-gevent"]["calls_per_decision"]["median"] > 0
    assert web["unlimited"]["calls_per_decision"]["median"] == 0
    assert web["unlimited"]["admitted"] == web["unlimited"]["decisions"]


def test_no_round_begins_after_the_last_minute(tmp_path: Path) -> None:
    """Where the time has passed before the first round, nothing is measured, and every goal says so."""
    skip_if_absent()
    choice = ["--tiny", "--engines", ENGINE, "--scenarios", "single", "--peers", "limiter", "--minutes", "0"]
    command = [sys.executable, "-m", "benchmarks", *choice, "--output", str(tmp_path), "--without", "plots,start-up,simulation"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["measurements"] == []
    assert {goal["reached"] for goal in document["goals"]} == {None}


def test_goals_say_whether_they_were_reached(document: dict[str, Any]) -> None:
    """A goal has a verdict if it was measured, and none otherwise."""
    for goal in document["goals"]:
        assert goal["reached"] in ((None,) if goal["measured"] is None else (True, False))
    assert any(goal["reached"] is None for goal in document["goals"])


def test_start_up_and_simulation_are_written(document: dict[str, Any]) -> None:
    """Imports are timed, and fleets are simulated at each size under each policy."""
    assert {"pass", "import limiter"} <= {each["statement"] for each in document["start_up"]}
    sizes = {each["processes"] for each in document["simulation"]}
    assert len(document["simulation"]) == len(sizes) * len(
        {(e["fleet"]["name"], e["policy"]["name"]) for e in document["simulation"]}
    )


@pytest.mark.parametrize(("window", "allotment", "processes"), [(1.0, 0.5, 100), (60.0, 5.0, 300)])
def test_a_simulated_fleet_that_is_asked_for_twice_its_limit(window: float, allotment: float, processes: int) -> None:
    """With an allotment all of the limit is admitted, nothing fails, most decisions take no call, and no span has more."""
    fleet = Fleet("saturated", 10_000.0, in_all=20_000.0, window=window, empty=window > 1, allotment=allotment)
    policy = Policy("paced, allotment", allotted=True, paced=True)
    found = figures(fleet, policy, processes, 6.0, Model(fleet, policy, processes, 6.0, 6.0).run())
    assert found["admitted_per_second"] >= 9_800
    assert found["failed_per_second"] == 0
    assert found["writes_per_second"] <= 900
    assert found["p50_ms"] <= 20
    assert found["p99_ms"] <= 600
    assert found["excess"] < 1e-6


def test_the_tables_are_printed_and_written(run: tuple[Path, str]) -> None:
    """The terminal and the page show the goals and every scenario."""
    output, printed = run
    page = (output / "results.md").read_text()
    for text in ("single", "over-demand-25", "waiters", "reached", "not measured"):
        assert text in printed
        assert text in page


def test_what_is_absent_is_named(tmp_path: Path) -> None:
    """A run without any engine says which is absent and why, writes nothing, and fails."""
    choice = ["--tiny", "--engines", ENGINE, "--peers", "limiter", "--output", str(tmp_path)]
    environment = {**os.environ, "LIMITER_ENGINES": str(tmp_path)}
    command = [sys.executable, "-m", "benchmarks", *choice]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2, ended.stderr
    assert f"ABSENT {ENGINE}" in ended.stdout
    assert not list(tmp_path.iterdir())


def test_a_region_far_away_is_fast_with_an_allotment_and_never_exceeds_the_limit() -> None:
    """At most of the limit, half of the far decisions wait for nothing; without an allotment they wait for a round trip."""
    none, with_units = (Regions(FLEETS[1], policy, 8, 2.0, 2.0) for policy in POLICIES)
    assert none.run().excess == with_units.run().excess == 0
    assert none.far.quantile(0.5) >= 80
    assert with_units.far.quantile(0.5) == 0
    assert with_units.far.admitted == pytest.approx(with_units.home.admitted, rel=0.2)
