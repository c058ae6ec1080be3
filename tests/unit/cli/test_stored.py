"""Commands on what a stack holds: limits, entities, namespaces, buckets.

The test of `limiter.cli.entity`, `limiter.cli.limits`, `limiter.cli.limits_levels`, `limiter.cli.namespace` and
`limiter.cli.options`.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from limiter import ValidationError
from limiter.cli.output import in_commands
from limiter.core.validation import check_timeout

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.one_server

FILE = """\
version: 1
limits: [requests=100/minute]
resources:
  gpt-4: [tokens=5000/minute]
entities:
  user-42:
    limits: [requests=20/minute]
    resources:
      gpt-4: [tokens=2000/minute burst 4000]
"""
CHANGED = """\
version: 1
limits: [requests=200/minute]
resources:
  gpt-5: [tokens=5000/minute]
"""


def test_a_level_is_set_shown_and_deleted(stack: str, run: Callable[..., Any]) -> None:
    """Every level is by itself; `resolve` shows which of them applies."""
    assert run("limits", "get").code == 1
    assert json.loads(run("limits", "get", "-o", "json").out) == []
    run("limits", "set", "100/minute", "tokens=10000/minute burst 50000")
    run("limits", "set", "5/minute", "--entity", "user-42", "--resource", "gpt-4")
    assert [each["text"] for each in json.loads(run("limits", "get", "-o", "json").out)] == [
        "requests=100/minute",
        "tokens=10000/minute burst 50000",
    ]
    assert run("limits", "resolve", "user-42", "gpt-4", "-o", "text").out == "requests\t5\t60\t5\trequests=5/minute\n"
    assert run("limits", "resolve", "user-42", "other", "-o", "text").out.startswith("requests\t100")
    assert run("limits", "delete", "-e", "user-42", "-r", "gpt-4").code == 2
    assert run("limits", "delete", "-e", "user-42", "-r", "gpt-4", "--yes").code == 0
    assert run("limits", "resolve", "user-42", "gpt-4", "-o", "text").out.startswith("requests\t100")


def test_every_kind_of_limit_is_set_with_a_schedule(stack: str, run: Callable[..., Any]) -> None:
    """Windows of one time belong together; `schedule` shows them, and a level that is set without windows has none."""
    assert run("limits", "schedule").code == 1
    office = ("--window", "mon-fri 09:00-17:00", "Europe/Berlin")
    limits = ("requests=100/minute", "day=5/day in UTC", "visit=5/session of 5 hours", "left=5 in all", "seen=5/second shadow")
    windows = (*office, "requests=500/minute", "-w", "sat", "UTC", "unlimited", *office, "day=9/day in UTC")
    assert run("limits", "set", *limits, *windows).code == 0
    shown = run("limits", "get", "-o", "json")
    assert [each["text"] for each in json.loads(shown.out)] == list(limits)
    assert "`limiter limits schedule` shows it" in shown.err
    assert run("limits", "schedule", "-o", "text").out.splitlines() == [
        "mon-fri 09:00-17:00\tEurope/Berlin\trequests=500/minute, day=9/day in UTC",
        "sat\tUTC\tunlimited",
    ]
    document = json.loads(run("limits", "schedule", "-o", "json").out)
    assert (document[1]["when"], document[1]["zone"], document[1]["limits"]) == ("sat", "UTC", [{"text": "unlimited"}])
    assert json.loads(run("limits", "list", "-o", "json").out)[0]["schedule"] == document
    assert "during mon-fri 09:00-17:00 in Europe/Berlin: day=9/day in UTC and requests=500/minute" in run("limits", "list").out
    assert run("limits", "set", "blocked").code == 0
    assert run("limits", "schedule").code == 1
    assert run("limits", "get", "-o", "json").out == '[\n  {\n    "text": "blocked"\n  }\n]\n'
    wrong = run("limits", "set", "5/s", "-w", "mon", "Mars/Phobos", "6/s")
    assert wrong.code == 2
    assert "zone of the window 'mon' cannot be 'Mars/Phobos'" in wrong.err
    assert run("limits", "get", "-o", "text").out.endswith("blocked\n")


def test_namespaces_are_apart(stack: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """--namespace and LIMITER_NAMESPACE choose the tenant; deleting one leaves the other."""
    run("limits", "set", "1/minute", "--namespace", "tenant-a")
    monkeypatch.setenv("LIMITER_NAMESPACE", "tenant-b")
    run("limits", "set", "2/minute")
    assert run("limits", "get", "-o", "text").out.startswith("requests\t2\t")
    assert json.loads(run("namespace", "list", "-o", "json").out) == ["tenant-a", "tenant-b"]
    assert run("namespace", "delete", "tenant-a").code == 2
    assert "Deleted 1 item." in run("namespace", "delete", "tenant-a", "--yes").err
    again = run("namespace", "delete", "tenant-a", "--yes")
    assert (again.code, again.err) == (0, "Namespace 'tenant-a' is empty; nothing was deleted.\n")
    assert run("namespace", "list", "-o", "text").out == "tenant-b\n"


def test_entities(stack: str, run: Callable[..., Any]) -> None:
    """An entity is created, shown, listed, moved and deleted."""
    assert run("entity", "create", "org").code == 0
    assert run("entity", "create", "team", "--parent", "org", "--name", "Team", "-m", "tier=gold", "--no-cascade").code == 0
    again = run("entity", "create", "org")
    assert again.code == 1
    assert "exists already; move it with `limiter entity move`" in again.err
    shown = json.loads(run("entity", "show", "team", "-o", "json").out)
    assert (shown["parent_id"], shown["cascade"], shown["metadata"]) == ("org", False, {"tier": "gold"})
    assert run("entity", "list", "--parent", "org", "-o", "text").out == "team\tTeam\tno\torg\n"
    run("limits", "set", "5/minute", "-e", "team", "-r", "api")
    assert run("entity", "list", "--resource", "api", "-o", "text").out == "team\n"
    assert json.loads(run("entity", "move", "team", "--root", "-o", "json").out)["parent_id"] is None
    assert run("entity", "move", "team", "--parent", "unknown").code == 1
    assert "`limiter entity create`" in run("entity", "move", "unknown", "--root").err
    assert run("entity", "delete", "team", "--yes").err == "Deleted.\n"
    assert "Entity 'team' was not stored" in run("entity", "delete", "team", "--yes").err
    assert run("entity", "show", "team").code == 1


@pytest.mark.parametrize(
    "arguments",
    [("list", "--parent", "a", "--resource", "b"), ("move", "a"), ("move", "a", "--root", "--parent", "b")],
)
def test_contradictory_options_for_entities(stack: str, run: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    """Options that exclude each other are wrong usage; so is neither of two that one is needed of."""
    assert run("entity", *arguments).code == 2


def test_a_file_is_planned_applied_and_exported(stack: str, run: Callable[..., Any], tmp_path: Path) -> None:
    """Plan shows, apply does, export gives the file back; a second apply changes nothing."""
    file, changed = tmp_path / "limits.yaml", tmp_path / "changed.yaml"
    file.write_text(FILE)
    changed.write_text(CHANGED)
    assert len(json.loads(run("limits", "plan", "-f", str(file), "-o", "json").out)) == 4
    assert run("limits", "get").code == 1
    assert "Applied 4 changes." in run("limits", "apply", "-f", str(file)).err
    assert "Nothing to change." in run("limits", "apply", "-f", str(file)).err
    exported = tmp_path / "exported.yaml"
    exported.write_text(run("limits", "export").out)
    unchanged = run("limits", "plan", "--prune", "-f", str(exported))
    assert (unchanged.code, unchanged.out, unchanged.err) == (0, "", "Nothing to change.\n")
    assert json.loads(run("limits", "export", "-o", "json").out) == yaml.safe_load(exported.read_text())
    lines = run("limits", "plan", "-f", str(changed), "-o", "text").out.splitlines()
    assert lines[0] == "change\t-\t-\trequests=100/minute\trequests=200/minute\tlimits"
    kept = json.loads(run("limits", "plan", "-f", str(changed), "-o", "json").out)
    assert {each["action"] for each in kept} == {"add", "change"}
    asked = run("limits", "apply", "--prune", "-f", str(changed))
    assert asked.code == 2
    assert "- limits of entity user-42, resource gpt-4" in asked.out
    assert run("limits", "plan", "--prune", "-f", str(exported)).out == ""
    assert run("limits", "apply", "--prune", "--yes", "-f", str(changed)).code == 0
    assert run("limits", "plan", "--prune", "-f", str(changed)).out == ""


def test_a_file_from_standard_input(stack: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A dash reads standard input, and errors name it."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(FILE))
    assert run("limits", "apply", "-f", "-").code == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO("version: 3"))
    done = run("limits", "apply", "-f", "-")
    assert done.code == 2
    assert "-:1: the file needs" in done.err


def test_a_file_that_is_not_there(stack: str, run: Callable[..., Any], tmp_path: Path) -> None:
    """It is named; so is one that is no text."""
    assert "No such file" in run("limits", "plan", "-f", str(tmp_path / "none.yaml")).err
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert run("limits", "plan", "-f", str(tmp_path / "binary.yaml")).code == 2


KILLED = """
import os, signal, sys
from limiter.cli import main
from limiter.sync_repository import SyncRepository

left = int(sys.argv.pop(1))
before = sys.argv.pop(1) == "before"
write = SyncRepository.write_limits

def write_limits(self, key, limits):
    global left
    left -= 1
    if before and left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, key, limits)
    if not before and left < 0:
        os.kill(os.getpid(), signal.SIGKILL)

SyncRepository.write_limits = write_limits
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("writes", range(5))
def test_a_killed_apply_is_finished_by_the_next(
    stack: str, run: Callable[..., Any], tmp_path: Path, writes: int, when: str
) -> None:
    """After `kill -9` around any of its writes, the same command does the rest."""
    file, changed = tmp_path / "limits.yaml", tmp_path / "changed.yaml"
    file.write_text(FILE)
    changed.write_text(CHANGED)
    run("limits", "apply", "-f", str(file))
    arguments = ["limits", "apply", "--prune", "--yes", "-f", str(changed)]
    code = [sys.executable, "-c", KILLED, str(writes), when]
    killed = subprocess.run([*code, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = 5 - writes - (when == "after")
    assert len(json.loads(run("limits", "plan", "--prune", "-f", str(changed), "-o", "json").out)) == left
    assert run(*arguments).code == 0
    assert run("limits", "plan", "--prune", "-f", str(changed)).out == ""


def test_without_a_region(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The option that gives it is named as the command calls it."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    done = run("limits", "get", "--stack", "my-app")
    assert done.code == 1
    assert "pass --region" in done.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("limits", "get", "--endpoint-url", "x"), "--endpoint-url must begin with http"),
        (("deploy", "--adopt", "my-app"), "pass --retain as well"),
    ],
)
def test_errors_name_options(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, arguments: Any, told: str) -> None:
    """What Python calls a parameter is called by its option."""
    monkeypatch.setenv("LIMITER_STACK", "my-app")
    done = run(*arguments)
    assert done.code == 2
    assert told in done.err


def test_a_timeout_is_an_option() -> None:
    """So is that of an acquire, which has no None to offer."""
    with pytest.raises(ValidationError) as caught:
        check_timeout(1e9)
    assert in_commands(str(caught.value)).startswith("--timeout must be a number of seconds")
