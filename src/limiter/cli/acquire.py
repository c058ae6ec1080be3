"""`limiter acquire`: a command that runs when its limit admits it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from .amounts import consume_option, limit_option, read_amounts, read_limits
from .exit_codes import CANNOT_EXECUTE, NOT_FOUND, REFUSED, TERMINATED
from .options import aws_options, stack_option
from .output import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.limits import Limit
    from .options import Target


class CommandBehindDashes(click.Command):
    """A click command that leaves alone what stands behind `--`, and insists that there is something."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set the part behind the dashes aside."""
        before, behind = (args[: args.index("--")], args[args.index("--") + 1 :]) if "--" in args else (args, [])
        rest = super().parse_args(ctx, before)
        if not behind and not ctx.resilient_parsing:
            raise click.UsageError("put the command to run behind two dashes: limiter acquire ENTITY RESOURCE -- COMMAND", ctx)
        ctx.params["command"] = behind
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Show the dashes."""
        return [*super().collect_usage_pieces(ctx), "-- COMMAND [ARGUMENT]..."]


class Terminated(BaseException):
    """SIGTERM arrived while waiting, so that a booked turn has to be given back."""


@click.command(cls=CommandBehindDashes)
@click.argument("entity")
@click.argument("resource")
@consume_option
@limit_option
@click.option("--timeout", "-t", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait for a turn up to so long.")
@click.option(
    "--on-unavailable",
    type=click.Choice(["block", "allow"]),
    default="block",
    show_default=True,
    help="Without AWS: do not run the command, or run it unlimited.",
)
@click.option(
    "--refused-code", type=click.IntRange(1, 255), default=REFUSED, show_default=True, help="The status when a limit refuses."
)
@stack_option
@aws_options
def acquire(
    entity: str,
    resource: str,
    stack: str,
    target: Target,
    amounts: tuple[str, ...],
    limits: tuple[str, ...],
    command: list[str],
    refused_code: int,
    **options: Any,
) -> int:
    """Take from the limits of ENTITY on RESOURCE, and then run COMMAND.

    The command takes the place of this one: it gets all signals, and its exit status is the status. What was taken is not given
    back when the command fails, only when it could not be started. Without a turn within --timeout the command is not run, and
    the status is 3.
    """
    from ..exceptions import RateLimitExceeded

    asked, given = read_amounts(amounts), read_limits(limits)
    program = shutil.which(command[0])
    if program is None and _is_there(command[0]):
        say(f"Error: {command[0]!r} cannot be executed; nothing was taken")
        return CANNOT_EXECUTE
    if program is None:
        say(f"Error: there is no command {command[0]!r}; nothing was taken")
        return NOT_FOUND
    try:
        return _acquire_and_run(target, stack, (entity, resource, asked), given, program, command, options)
    except RateLimitExceeded as error:
        say(f"Error: {error}")
        return refused_code
    except Terminated:
        return TERMINATED


def _is_there(name: str) -> bool:
    """Whether there is something of that name, if only a directory or a file without the right to execute it."""
    return os.access(name, os.F_OK) if os.sep in name else shutil.which(name, os.F_OK) is not None


def _acquire_and_run(
    target: Target,
    stack: str,
    what: tuple[str, str, dict[str, int] | None],
    limits: Sequence[Limit] | None,
    program: str,
    command: list[str],
    options: dict[str, Any],
) -> int:
    before = signal.signal(signal.SIGTERM, _terminate)
    with target.limiter(stack) as limiter:
        try:
            with limiter.acquire(*what, limits=limits, **options):
                signal.signal(signal.SIGTERM, before)
                run_instead(program, command)
        except OSError as error:
            say(f"Error: {command[0]!r} cannot be executed ({error.strerror}); what was taken is given back")
            return CANNOT_EXECUTE


def run_instead(program: str, command: list[str]) -> NoReturn:
    """Make this process the command; raises `OSError` when that is not possible."""
    if os.name == "nt":  # Windows would start it beside this process, and let the shell go on at once.
        import subprocess

        sys.exit(subprocess.call([program, *command[1:]]))  # noqa: S603 - what the user asks for
    # Python ignores these, and a program inherits that; it would not end when its reader does.
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    sys.stdout.flush()
    os.execv(program, command)  # noqa: S606 - without a shell, as the user asks


def _terminate(*_: object) -> NoReturn:
    raise Terminated
