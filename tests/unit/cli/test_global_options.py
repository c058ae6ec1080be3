"""Options that every command shares: before or after the command, and what is said about words that are not known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from limiter._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripted_cloudformation import Cloud


@pytest.mark.parametrize(
    "arguments",
    [
        ("-s", "my-app", "-o", "json", "status"),
        ("status", "-s", "my-app", "-o", "json"),
        ("status", "my-app", "-o", "json"),
        ("-o", "json", "status", "my-app"),
        ("-o", "text", "status", "my-app", "-o", "json"),
        ("--stack", "other", "-o", "json", "status", "--stack", "my-app"),
        ("--region", "eu-west-1", "-o", "json", "status", "my-app"),
    ],
)
def test_shared_options_before_or_after_the_command(cloud: Cloud, run: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    """Both places are the same; given in both, the option after the command counts."""
    cloud.add("my-app")
    done = run(*arguments)
    assert (done.code, json.loads(done.out)["name"]) == (0, "my-app")


def test_an_option_before_the_command_precedes_the_environment(
    cloud: Cloud, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line counts more than LIMITER_STACK and LIMITER_OUTPUT, wherever it names the value."""
    cloud.add("my-app")
    monkeypatch.setenv("LIMITER_STACK", "other")
    monkeypatch.setenv("LIMITER_OUTPUT", "text")
    assert json.loads(run("-s", "my-app", "-o", "json", "status").out)["name"] == "my-app"
    assert run("status", "my-app").out.startswith("stack\tmy-app\n")


@pytest.mark.one_server
@pytest.mark.parametrize("place", [0, 1, 2])
def test_shared_options_around_a_group(stack: str, run: Callable[..., Any], place: int) -> None:
    """They may stand before the group, between the group and its command, and after the command."""
    run("limits", "set", "7/minute", "--namespace", "tenant")
    words = ["limits", "get"]
    words[place:place] = ["--namespace", "tenant", "-o", "text"]
    done = run(*words)
    assert (done.code, done.out) == (0, "requests\t7\t60\t7\trequests=7/minute\n")
    assert run("limits", "get").code == 1


def test_a_bad_value_before_the_command(cloud: Cloud, run: Callable[..., Any]) -> None:
    """It is wrong usage there as well."""
    assert run("--output", "xml", "status", "my-app").code == 2


def test_two_stacks_are_refused(cloud: Cloud, run: Callable[..., Any]) -> None:
    """An argument and an option that name two stacks contradict each other; nothing is called."""
    done = run("delete", "my-app", "--stack", "other", "--yes")
    assert done.code == 2
    assert "two stacks are specified: 'my-app', and --stack 'other'" in done.err
    assert cloud.calls == []


@pytest.mark.parametrize("command", [("status",), ("delete", "--yes"), ("limits", "get"), ("top",)])
def test_no_stack(cloud: Cloud, run: Callable[..., Any], command: tuple[str, ...]) -> None:
    """The message names the ways to specify one."""
    done = run(*command)
    assert done.code == 2
    assert "no stack is specified; use --stack STACK or set LIMITER_STACK" in done.err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("limit", "list"), "Did you mean 'limits'"),
        (("delpoy", "my-app"), "Did you mean 'deploy'"),
        (("entity", "lst"), "Did you mean 'list'"),
        (("status", "my-app", "--regoin", "x"), "--region"),
    ],
)
def test_similar_words_are_named(run: Callable[..., Any], arguments: tuple[str, ...], hint: str) -> None:
    """An unknown command or option is answered with those that are spelled alike."""
    done = run(*arguments)
    assert done.code == 2
    assert hint in done.err


def test_an_unknown_word_without_a_similar_one(run: Callable[..., Any]) -> None:
    """Nothing is suggested when nothing is alike."""
    done = run("xyzzy")
    assert done.code == 2
    assert done.err.endswith("Error: No such command 'xyzzy'.\n")


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_version(run: Callable[..., Any], option: str) -> None:
    """Both options print the version."""
    assert run(option).out == f"limiter, version {__version__}\n"
