"""The `limiter` command: one module here for each of its commands.

A module of this package defines `command`, a click command, and is named in `COMMANDS`. All of them are imported for
any call, so each imports at its top what is light, and the rest when it runs.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

__all__ = ["build_group", "main"]

COMMANDS = ("local",)
HELP = "Exact distributed rate limits on one DynamoDB table."
EXIT_CODES = "Exit codes: 0 done, 1 failed (the message says why), 2 wrong usage."


def main() -> None:
    """Run the command; errors that the limiter raises on purpose end it with a message and status 1."""
    try:
        import click
    except ImportError:
        sys.exit('the `limiter` command needs click: pip install "dynamodb-limiter[cli]"')
    from ..exceptions import LimiterError

    try:
        build_group().main(prog_name="limiter")
    except LimiterError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


def build_group() -> click.Group:
    """The group of all commands."""
    import click

    from .._version import __version__

    group = click.Group(help=HELP, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
    for name in COMMANDS:
        group.add_command(importlib.import_module(f".{name}", __name__).command, name)
    return click.version_option(__version__, prog_name="limiter")(group)
