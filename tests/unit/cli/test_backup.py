"""An export is a backup: applied to an empty namespace it gives the same export and the same decisions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.one_server
QUESTIONS = [("user-1", "api"), ("user-2", "api"), ("user-2", "search"), ("team", "api"), ("stranger", "api"), ("orphan", "api")]
QUESTIONS += [("guest", "api"), ("guest", "search")]


def fill(run: Callable[..., Any]) -> None:
    """Store a hierarchy with names and metadata, and limits on every level, also of what is no stored entity."""
    run("entity", "create", "acme", "--name", "Acme: Ltd. ☃", "-m", "plan=gold", "-m", "a=", "-m", "note=1 # 2")
    run("entity", "create", "team", "--parent", "acme")
    run("entity", "create", "user-1", "--parent", "team")
    run("entity", "create", "user-2", "--parent", "team", "--no-cascade", "-m", "tier=0")
    run("entity", "create", "gone")
    run("entity", "create", "orphan", "--parent", "gone")
    run("entity", "delete", "gone", "--yes")
    run("limits", "set", "100/minute")
    run("limits", "set", "50/minute", "-r", "search")
    run("limits", "set", "20/minute", "tokens=5/minute burst 9", "-e", "acme")
    run("limits", "set", "10/minute", "-e", "user-1", "-r", "api")
    run("limits", "set", "30/minute", "-e", "stranger")
    always = ("-w", "00:00-24:00", "UTC")
    run("limits", "set", "unlimited", "-e", "guest", *always, "left=5 in all", *always, "9/s")
    run("limits", "set", "day=5/day in UTC shadow", "7/session of 5 hours", "-e", "guest", "-r", "search")
    run("limits", "set", "blocked", "-r", "closed", "-w", "sat,sun", "Europe/Berlin", "unlimited")


def decisions(run: Callable[..., Any]) -> list[Any]:
    """The decisions on some questions."""
    return [json.loads(run("check", *question, "-o", "json").out) for question in QUESTIONS]


def test_a_copy_decides_and_exports_the_same(
    stack: str, run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hierarchy, names and metadata are in the file; its copy is equal byte by byte."""
    fill(run)
    file = tmp_path / "backup.yaml"
    file.write_text(run("limits", "export").out, encoding="utf-8")
    assert run("limits", "plan", "--prune", "-f", str(file)).code == 0
    before, entities = decisions(run), json.loads(run("entity", "list", "-o", "json").out)
    assert len({len(each["statuses"]) for each in before}) > 1
    monkeypatch.setenv("LIMITER_NAMESPACE", "copy")
    assert run("limits", "plan", "-f", str(file)).code == 5
    assert run("limits", "apply", "-f", str(file)).code == 0
    assert run("limits", "plan", "--prune", "-f", str(file)).code == 0
    assert run("limits", "export").out == file.read_text(encoding="utf-8")
    assert decisions(run) == before
    copied = json.loads(run("entity", "list", "-o", "json").out)
    for each in (*entities, *copied):
        each["parent_id"] = None if each["entity_id"] == "orphan" else each["parent_id"]
    assert copied == entities


def test_entities_are_changed_and_pruned(stack: str, run: Callable[..., Any], tmp_path: Path) -> None:
    """An entity becomes what the file says; one that is not in the file is deleted with --prune only, after a question."""
    fill(run)
    file = tmp_path / "limits.yaml"
    file.write_text("version: 1\nentities:\n  acme: {}\n  user-1: {parent: acme, name: One, cascade: false}\n", encoding="utf-8")
    plan = run("limits", "plan", "-f", str(file))
    assert plan.code == 5
    assert plan.out.splitlines()[:6] == [
        "~ entity acme",
        "    - name=Acme: Ltd. ☃",
        "    - metadata a=",
        "    - metadata note=1 # 2",
        "    - metadata plan=gold",
        "~ entity user-1",
    ]
    assert run("limits", "apply", "-f", str(file)).code == 2
    assert run("limits", "apply", "-f", str(file), "--yes").code == 0
    shown = json.loads(run("entity", "show", "user-1", "-o", "json").out)
    assert (shown["parent_id"], shown["name"], shown["cascade"], shown["limits"]) == ("acme", "One", False, [])
    assert run("entity", "show", "team").code == 0
    assert run("limits", "apply", "-f", str(file), "--yes", "--prune").code == 0
    assert run("entity", "show", "team").code == 1
    assert [each["entity_id"] for each in json.loads(run("entity", "list", "-o", "json").out)] == ["acme", "user-1"]


def test_a_parent_that_is_nowhere(stack: str, run: Callable[..., Any], tmp_path: Path) -> None:
    """The file is refused as a whole, with its name and the parent's, and nothing is changed."""
    file = tmp_path / "limits.yaml"
    file.write_text("version: 1\nlimits: [1/s]\nentities: {a: {parent: b}}\n", encoding="utf-8")
    done = run("limits", "apply", "-f", str(file))
    assert done.code == 2
    assert f"{file}: parent 'b' of entity 'a' is not an entity" in done.err
    assert run("limits", "get").code == 1


def test_lists(stack: str, run: Callable[..., Any]) -> None:
    """`entity list` and `limits list` show everything that is stored in the namespace."""
    assert "No entities are stored" in run("entity", "list").err
    assert "No limits are stored" in run("limits", "list").err
    fill(run)
    assert run("entity", "list", "-o", "text").out.splitlines() == [
        "acme\tAcme: Ltd. ☃\tyes\t-",
        "orphan\t-\tyes\tgone",
        "team\t-\tyes\tacme",
        "user-1\t-\tyes\tteam",
        "user-2\t-\tno\tteam",
    ]
    assert run("limits", "list", "-o", "text").out.splitlines() == [
        "-\t-\trequests=100/minute",
        "-\tclosed\tblocked, during sat,sun in Europe/Berlin: unlimited",
        "-\tsearch\trequests=50/minute",
        "acme\t-\trequests=20/minute, tokens=5/minute burst 9",
        "guest\t-\tunlimited, during 00:00-24:00 in UTC: left=5 in all and requests=9/second",
        "guest\tsearch\tday=5/day in UTC shadow, requests=7/session of 5 hours",
        "stranger\t-\trequests=30/minute",
        "user-1\tapi\trequests=10/minute",
    ]
    assert json.loads(run("limits", "list", "-o", "json").out)[0]["limits"][0]["text"] == "requests=100/minute"


KILLED = """
import os, signal, sys
from limiter.cli import main
from limiter.sync_repository import SyncRepository

left = int(sys.argv.pop(1))

def counted(method):
    def call(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*arguments, **options)
    return call

for name in ("write_limits", "link_entity", "delete_entity"):
    setattr(SyncRepository, name, counted(getattr(SyncRepository, name)))
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL on Windows")
def test_a_killed_restore_is_finished_by_the_next(stack: str, run: Callable[..., Any], tmp_path: Path) -> None:
    """After `kill -9` before any of its writes, the same command makes the remaining changes."""
    fill(run)
    file = tmp_path / "backup.yaml"
    file.write_text(run("limits", "export").out, encoding="utf-8")
    for writes in (0, 1, 3, 6, 9):
        namespace = f"copy-{writes}"
        arguments = ["limits", "apply", "-f", str(file), "--namespace", namespace]
        killed = subprocess.run([sys.executable, "-c", KILLED, str(writes), *arguments], timeout=60, check=False)
        assert killed.returncode == -signal.SIGKILL
        assert run(*arguments, "--yes").code == 0
        assert run("limits", "export", "--namespace", namespace).out == file.read_text(encoding="utf-8")
