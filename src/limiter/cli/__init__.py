"""The `limiter` command; may import every room but contrib.

Each module holds one group of commands, and is imported when one of them is called. `COMMANDS` lists all commands, so
`limiter --help` imports none of these modules.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    import click

__all__ = ["COMMANDS", "build_group", "main", "run"]


class Command(NamedTuple):
    """A command: its module in this package, its name in that module, and its line in `limiter --help`."""

    module: str
    name: str
    summary: str


COMMANDS = {
    "acquire": Command("acquire", "acquire", "Run a command when its limits allow it."),
    "adjust": Command("control", "adjust", "Correct what a bucket counts as used."),
    "audit": Command("audit", "audit", "Judge recorded decisions."),
    "block": Command("access", "block", "Refuse everything at one level."),
    "check": Command("acquire", "check", "Show whether an acquire would be allowed."),
    "delete": Command("stack", "delete", "Delete a stack."),
    "demo": Command("demo", "demo", "Show the limiter at work on this machine."),
    "deploy": Command("deploy", "deploy", "Create or update a stack."),
    "doctor": Command("doctor", "doctor", "Check credentials, table, permissions and clock."),
    "drift": Command("stack", "drift", "Show changes made other than by deploying."),
    "entity": Command("entity", "entity", "Create, show, list, move and delete entities."),
    "events": Command("stack", "events", "Show the events of a stack."),
    "limits": Command("limits", "limits", "Show and change stored limits."),
    "list": Command("stack", "list_stacks", "List the stacks in a region."),
    "local": Command("local", "command", "Run the embedded engine on this machine."),
    "namespace": Command("namespace", "namespace", "List and delete namespaces."),
    "pause": Command("control", "pause", "Have a bucket allow nothing for a while."),
    "plan": Command("deploy", "plan", "Show what a deploy would change."),
    "reset": Command("control", "reset", "Make a bucket as if nothing had been used."),
    "status": Command("stack", "status", "Show a stack and its table."),
    "sweep": Command("sweep", "sweep", "Delete idle buckets of a table without time to live."),
    "template": Command("stack", "template", "Print the CloudFormation template."),
    "top": Command("top", "top", "Watch buckets, the busiest first."),
    "unblock": Command("access", "unblock", "Remove a block from one level."),
}
HELP = """Exact distributed rate limits on one DynamoDB table.

The options below may stand before or after the command.
"""
EPILOG = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 refused by a limit, 4 AWS unavailable, 5 a plan contains changes, "
    "130 interrupted."
)


def main() -> None:
    """Run the command that the process was started with, and end the process."""
    sys.exit(run())


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code. Errors go to standard error and say what to do next."""
    try:
        import click
    except ImportError:
        print('the `limiter` command needs click: pip install "dynamodb-limiter[cli]"', file=sys.stderr)  # noqa: T201 - no click
        return 1
    from ..exceptions import LimiterError
    from . import exit_codes
    from .output import in_commands, printable

    try:
        code = build_group().main(arguments, prog_name="limiter", standalone_mode=False)
        sys.stdout.flush()
    except click.Abort:
        click.echo("interrupted", err=True)
        return exit_codes.INTERRUPTED
    except click.ClickException as error:
        error.message = printable(error.message)  # type: ignore[misc] # final for subclasses, not for its text
        error.show()
        return error.exit_code
    except LimiterError as error:
        click.echo(f"Error: {printable(in_commands(str(error)))}", err=True)
        return exit_codes.exit_code(error)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        # Without this, Python reports the same error when it flushes the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.FAILED
    return code if isinstance(code, int) else exit_codes.OK


def build_group() -> click.Group:
    """Build the group of all commands."""
    import click

    from .._version import __version__
    from .groups import CommandGroup

    class Limiter(CommandGroup):
        """Imports a command's module when the command is called."""

        def list_commands(self, _: click.Context) -> list[str]:
            return list(COMMANDS)

        def get_command(self, _: click.Context, name: str) -> click.Command | None:
            found = COMMANDS.get(name)
            if found is None:
                return None
            command: click.Command = getattr(importlib.import_module(f".{found.module}", __name__), found.name)
            return command

        def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
            with formatter.section("Commands"):
                formatter.write_dl([(name, each.summary) for name, each in COMMANDS.items()])

    settings = {"help_option_names": ["-h", "--help"]}
    group = Limiter(help=HELP, epilog=EPILOG, hidden_options=False, context_settings=settings)
    return click.version_option(__version__, "--version", "-V", prog_name="limiter")(group)
