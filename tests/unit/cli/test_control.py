"""`limiter adjust`, `reset`, `pause`, `block` and `unblock`."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.one_server

KINDS = (
    "requests=100/hour",
    "tokens=1000/day in UTC",
    "messages=50/session of 5 hours",
    "credits=500 in all",
    "watched=2/hour shadow",
)


def left(run: Callable[..., Any], *options: str, entity: str = "user") -> dict[str, int]:
    """What is available now, by limit."""
    names = [part for text in KINDS for part in ("-c", f"{text.partition('=')[0]}=0")] if not options else []
    document = json.loads(run("check", entity, "api", *names, *options, "-o", "json").out)
    return {status["limit"]["name"]: status["available"] for status in document["statuses"]}


def test_every_kind_is_adjusted_and_reset(stack: str, run: Callable[..., Any]) -> None:
    """Positive units are charged, into debt if need be; negative ones are given back up to the capacity; a reset forgets all."""
    run("limits", "set", *KINDS)
    done = run("adjust", "user", "api", "requests=+5", "tokens=1200", "messages=10", "credits=20", "watched=1", "-o", "json")
    assert done.code == 0
    document = json.loads(done.out)
    assert (document["entity_id"], document["resource"], document["paused_for"]) == ("user", "api", None)
    assert [status["available"] for status in document["statuses"]] == [95, -200, 40, 480, 1]
    assert run("adjust", "user", "api", "tokens=-200", "credits=-1000", "messages=+0").code == 0
    assert left(run) == {"requests": 95, "tokens": 0, "messages": 40, "credits": 500, "watched": 1}
    assert run("reset", "user", "api", "tokens", "messages", "--yes").code == 0
    assert left(run) == {"requests": 95, "tokens": 1000, "messages": 50, "credits": 500, "watched": 1}
    assert run("reset", "user", "api", "-y").code == 0
    assert left(run) == {"requests": 100, "tokens": 1000, "messages": 50, "credits": 500, "watched": 2}


def test_a_reset_asks(stack: str, run: Callable[..., Any]) -> None:
    """Outside a terminal it needs --yes, and names what it would forget; nothing is changed."""
    run("limits", "set", "10/hour")
    run("adjust", "user", "api", "requests=4")
    refused = run("reset", "user", "api", "requests")
    assert refused.code == 2
    assert "Forget what 'user' has used of requests for 'api' in namespace 'default'?" in refused.err
    assert left(run, "-c", "requests=0") == {"requests": 6}


def test_a_pause_begins_and_ends(stack: str, run: Callable[..., Any]) -> None:
    """A paused bucket refuses until the pause ends, by itself or with 0; `check` and `top` tell of it."""
    run("limits", "set", *KINDS)
    done = run("pause", "user", "api", "300", "-o", "json")
    assert done.code == 0
    assert 290 < json.loads(done.out)["paused_for"] <= 300
    assert "The bucket is paused for another " in done.err
    checked = run("check", "user", "api", "-o", "json")
    assert checked.code == 3
    (paused,) = json.loads(checked.out)["paused"]
    assert (paused["entity_id"], paused["resource"]) == ("user", "api")
    assert 290 < paused["seconds"] <= 300
    assert "The bucket of 'user' for 'api' is paused for another " in checked.err
    for choice in ((), ("-e", "user")):
        rows = json.loads(run("top", *choice, "-o", "json").out)
        assert [290 < row["paused_for"] <= 300 for row in rows] == [True] * len(KINDS)
        assert "paused s" in run("top", *choice).out
    shorter = json.loads(run("pause", "user", "api", "5", "-o", "json").out)
    assert shorter["paused_for"] > 290
    ended = run("pause", "user", "api", "0", "-o", "json")
    assert (ended.code, json.loads(ended.out)["paused_for"]) == (0, None)
    assert run("check", "user", "api").code == 0
    assert "paused s" not in run("top").out


def test_namespaces_are_apart(stack: str, run: Callable[..., Any]) -> None:
    """What is changed in one, also one whose name is escaped in the keys, is not changed in another."""
    for name in ("a#b", "a%23b", "a"):
        run("limits", "set", "10/hour", "--namespace", name)
    run("adjust", "user", "api", "requests=4", "--namespace", "a#b")
    assert [left(run, "-c", "requests=0", "--namespace", name)["requests"] for name in ("a#b", "a%23b", "a")] == [6, 10, 10]


def test_limits_in_code(stack: str, run: Callable[..., Any]) -> None:
    """With --limit nothing stored is read, and what is stored does not matter."""
    limit = ("--limit", "tokens=100/day in UTC")
    run("limits", "set", "blocked")
    assert json.loads(run("adjust", "user", "api", "tokens=30", *limit, "-o", "json").out)["statuses"][0]["available"] == 70
    assert json.loads(run("reset", "user", "api", "-y", *limit, "-o", "json").out)["statuses"][0]["available"] == 100
    assert json.loads(run("pause", "user", "api", "60", *limit, "-o", "json").out)["paused_for"] > 50
    missing = run("pause", "user", "other", "60", "--stack", stack, "--namespace", "empty")
    assert missing.code == 2
    assert "pass --limit, or store some with `limiter limits set`" in missing.err


@pytest.mark.parametrize("level", ["unlimited", "blocked"])
def test_nothing_is_changed_where_nothing_is_counted(stack: str, run: Callable[..., Any], level: str) -> None:
    """The command says so, and exits with 1; `check` and `top` name the constant."""
    run("limits", "set", "10/hour")
    run("adjust", "user", "api", "requests=4")
    run("limits", "set", level, "-e", "user")
    for arguments in (("adjust", "user", "api", "requests=1"), ("reset", "user", "api", "-y"), ("pause", "user", "api", "9")):
        done = run(*arguments)
        assert (done.code, done.out) == (1, "")
        assert f"the level says '{level}', under which nothing is counted" in done.err
    checked = run("check", "user", "api")
    assert checked.code == (0 if level == "unlimited" else 3)
    assert f"the level says '{level}'" in checked.err
    (row,) = json.loads(run("top", "-o", "json").out)
    assert row["limit"] == {"text": level}
    run("limits", "delete", "-e", "user", "-y")
    assert left(run, "-c", "requests=0") == {"requests": 6}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("adjust", "user", "api"), "Missing argument"),
        (("adjust", "user", "api", "tokens"), "is not LIMIT=UNITS, such as tokens=-500"),
        (("adjust", "user", "api", "tokens=1.5"), "is not LIMIT=UNITS"),
        (("adjust", "user", "api", "requests=1", "requests=2"), "'requests' is given twice"),
        (("check", "user", "api", "-c", "requests=1", "-c", "requests=2"), "'requests' is given twice"),
        (("adjust", "user", "api", "other=1"), "unknown limit 'other'"),
        (("reset", "user", "api", "other", "-y"), "unknown limit 'other'"),
        (("pause", "user", "api", "soon"), "is not a valid float"),
        (("pause", "user", "api", "99999999"), "from 0 to one year"),
        (("pause", "user", "api", "nan"), "from 0 to one year"),
        (("pause", "user", "api", "--", "-1"), "is not in the range"),
        (("block",), "specify ENTITY, --resource, or both"),
        (("block", "user", "-e", "other"), "the entity is specified twice"),
        (("unblock", "user", "-l", "blocked", "-l", "10/hour"), "replaces a list of limits"),
        (("paus", "user", "api", "9"), "Did you mean 'pause'"),
        (("unblok", "user"), "Did you mean 'unblock' or 'block'?"),
    ],
)
def test_wrong_usage(stack: str, run: Callable[..., Any], arguments: tuple[str, ...], message: str) -> None:
    """Each mistake is named, with exit code 2."""
    run("limits", "set", "10/hour")
    done = run(*arguments)
    assert done.code == 2
    assert message in done.err


def test_a_level_is_blocked_and_unblocked(stack: str, run: Callable[..., Any]) -> None:
    """Where nothing was stored, removing the block brings back what applied before."""
    run("limits", "set", "10/hour")
    for level, other in ((("user",), "other"), (("user", "api"), "other"), (("-r", "api", "-e", "user"), "other")):
        assert run("block", *level).code == 0
        assert run("check", "user", "api").code == 3
        assert run("check", other, "api").code == 0
        again = run("block", *level)
        assert (again.code, "blocked already" in again.err) == (0, True)
        assert run("unblock", *level).code == 0
        assert run("check", "user", "api").code == 0
        once_more = run("unblock", *level)
        assert once_more.code == 1
        assert "the level is not blocked (nothing is stored there); nothing was changed" in once_more.err
    assert run("block", "-r", "api").code == 0
    assert [run("check", entity, "api").code for entity in ("user", "other")] == [3, 3]


def test_what_a_block_replaces_can_be_brought_back(stack: str, run: Callable[..., Any]) -> None:
    """It asks first, and then prints the command that stores the limits again."""
    run("limits", "set", *KINDS, "-e", "it's me", "--namespace", "a b")
    refused = run("block", "it's me", "--namespace", "a b")
    assert refused.code == 2
    assert "Replace the limits of entity it's me in namespace 'a b', requests=100/hour, tokens=1000/day in UTC" in refused.err
    done = run("block", "it's me", "--namespace", "a b", "--yes", "-o", "json")
    document = json.loads(done.out)
    assert [limit["text"] for limit in document["before"]] == list(KINDS)
    assert document["after"] == [{"text": "blocked"}]
    (command,) = [line for line in done.err.splitlines() if line.startswith("To undo it: ")]
    assert run(*shlex.split(command.removeprefix("To undo it: limiter "))).code == 0
    stored = json.loads(run("limits", "get", "-e", "it's me", "--namespace", "a b", "-o", "json").out)
    assert [limit["text"] for limit in stored] == list(KINDS)


def test_a_block_and_a_schedule(stack: str, run: Callable[..., Any]) -> None:
    """A block replaces a schedule too, also one around which the level is blocked, and the command that is shown restores it."""
    office = ("-w", "mon-fri 09:00-17:00", "Europe/Berlin")
    windows = (*office, "5/s", *office, "tokens=9 in all")
    for plain in ("blocked", "requests=2/second"):
        assert run("limits", "set", plain, *windows, "-e", "user").code == 0
        stored = run("limits", "list", "-o", "json").out
        kept = run("unblock", "user")
        assert (kept.code, "not blocked" in kept.err or "blocked by its schedule" in kept.err) == (1, True)
        assert "during mon-fri 09:00-17:00 in Europe/Berlin: requests=5/second and tokens=9 in all" in run("block", "user").err
        assert run("limits", "list", "-o", "json").out == stored
        done = run("block", "user", "--yes")
        assert run("limits", "schedule", "-e", "user").code == 1
        (command,) = [line for line in done.err.splitlines() if line.startswith("To undo it: ")]
        assert run(*shlex.split(command.removeprefix("To undo it: limiter "))).code == 0
        assert run("limits", "list", "-o", "json").out == stored
