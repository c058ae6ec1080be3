"""The command explains itself, at once and completely.

The test of `limiter.cli.groups`.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import click
import pytest
from support.presence import program

from limiter.cli import COMMANDS, EPILOG, build_group, exit_codes
from limiter.cli.exit_codes import MEANINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NEEDS_NO_AWS = {"audit", "demo", "local", "template"}
NEEDS_NO_STACK = NEEDS_NO_AWS | {"list"}


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command, those of groups included, by its whole name."""
    group = build_group()
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from ((f"{name} {inner}", each) for inner, each in found.commands.items())
        else:
            yield name, found


def test_help_imports_nothing_heavy() -> None:
    """`limiter --help` imports no module of a command, and neither boto nor rich nor asyncio nor YAML."""
    code = (
        "import sys; from limiter import cli\ncode = cli.run(['--help'])\n"
        "heavy = {'boto3', 'botocore', 'rich', 'asyncio', 'yaml', 'limiter.infra', 'limiter.limiter', 'limiter.cli.deploy'}\n"
        "assert code == 0 and not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr
    for name in COMMANDS:
        assert f"  {name} " in done.stdout


def test_importing_every_command_imports_nothing_heavy() -> None:
    """Completion and `COMMAND --help` import the modules of commands, which do not import boto or rich."""
    modules = sorted({f"limiter.cli.{each.module}" for each in COMMANDS.values()})
    code = f"import sys, {', '.join(modules)}; assert not {{'boto3', 'botocore', 'rich', 'asyncio', 'yaml'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stderr


def environment() -> dict[str, str]:
    """An environment in which the package is found."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_says_what_it_does(name: str, run: Callable[..., Any]) -> None:
    """Each entry of the list leads to a command with a help text."""
    entry = COMMANDS[name]
    command = getattr(importlib.import_module(f"limiter.cli.{entry.module}"), entry.name)
    assert isinstance(command, click.Command)
    done = run(name, "--help")
    assert done.code == 0
    assert done.out.startswith(f"Usage: limiter {name} ")


def test_options_are_the_same_everywhere() -> None:
    """Every command that talks to AWS takes the same options for where and how."""
    for name, command in commands():
        options = {option for parameter in command.params for option in parameter.opts}
        expected = set() if name in NEEDS_NO_AWS else {"--region", "--profile", "--endpoint-url", "--namespace", "--output"}
        expected |= set() if name in NEEDS_NO_STACK else {"--stack", "-s"}
        assert expected <= options, name


def test_what_destroys_can_be_said_yes_to() -> None:
    """Each command that deletes, or forgets what was used, has --yes, and no other asks."""
    destroying = {name for name, command in commands() if "--yes" in {option for each in command.params for option in each.opts}}
    expected = {"block", "delete", "entity delete", "limits apply", "limits delete", "namespace delete", "reset"}
    assert destroying == expected


def test_every_option_is_explained() -> None:
    """Every option has a help text that is a sentence."""
    for name, command in commands():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (name, parameter.name)
                assert not parameter.help.startswith("["), (name, parameter.name)


def test_every_exit_code_has_a_meaning() -> None:
    """The documented exit codes are those of the source."""
    codes = {value for name, value in vars(exit_codes).items() if name.isupper() and isinstance(value, int)}
    assert codes == set(MEANINGS)
    assert "3 refused by a limit, 4 AWS unavailable" in EPILOG


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion(shell: str) -> None:
    """The command prints a completion script for each shell."""
    if shell == "bash":  # Asked for its version; the other shells are not.
        program("bash", "install it")
    done = subprocess.run(
        [sys.executable, "-c", "from limiter.cli import main; main()"],
        capture_output=True,
        text=True,
        check=False,
        env={**environment(), "_LIMITER_COMPLETE": f"{shell}_source"},
    )
    assert "_LIMITER_COMPLETE" in done.stdout


def test_completion_knows_commands_and_options() -> None:
    """Completing a half-typed word offers what there is."""
    words = {"COMP_WORDS": "limiter de", "COMP_CWORD": "1", "_LIMITER_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-c", "from limiter.cli import main; main()"],
        capture_output=True,
        text=True,
        check=False,
        env={**environment(), **words},
    )
    assert {line.partition(",")[2] for line in done.stdout.split()} == {"delete", "demo", "deploy"}


def test_without_click() -> None:
    """Without the extra, the command says what to install."""
    code = "import sys; sys.modules['click'] = None; from limiter.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 1
    assert 'pip install "dynamodb-limiter[cli]"' in done.stderr
