"""`limiter check` and `limiter acquire`: asks a limit, and runs a command when the limit allows it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from .amounts import consume_option, decision_table, limit_option, read_amounts, read_limits
from .exit_codes import CANNOT_EXECUTE, NOT_FOUND, OK, REFUSED, TERMINATED
from .options import aws_options, stack_option
from .output import cell, say, show

if TYPE_CHECKING:
    from ..core.records import Limits
    from ..sync_lease import SyncLease
    from .options import Target


class CommandBehindDashes(click.Command):
    """A click command that sets aside everything after `--`, which must not be empty."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Set the part after the dashes aside."""
        before, after = (args[: args.index("--")], args[args.index("--") + 1 :]) if "--" in args else (args, [])
        rest = super().parse_args(ctx, before)
        if not after and not ctx.resilient_parsing:
            raise click.UsageError("put the command to run after two dashes: limiter acquire ENTITY RESOURCE -- COMMAND", ctx)
        ctx.params["command"] = after
        return rest

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Show the dashes."""
        return [*super().collect_usage_pieces(ctx), "-- COMMAND [ARGUMENT]..."]


class Terminated(BaseException):
    """SIGTERM arrived during the wait, so the reserved units have to be refunded."""


@click.command()
@click.argument("entity")
@click.argument("resource")
@consume_option
@limit_option
@stack_option
@aws_options
def check(entity: str, resource: str, stack: str, target: Target, amounts: tuple[str, ...], limits: tuple[str, ...]) -> int:
    """Show whether an acquire of ENTITY on RESOURCE would be allowed now. Consumes nothing; exits with 3 when refused.

    Says which buckets are paused. Of slots, shows how many are held, and the expired holders: processes that have not renewed
    theirs, which count as free. A limit with "shadow" behind it refuses nothing: its row shows what it would do.
    """
    from .buckets import look_at
    from .documents import decision_document

    asked, given = read_amounts(amounts), read_limits(limits)
    with target.limiter(stack) as limiter:
        decision = limiter.check(entity, resource, asked, limits=given)
        told = [status for status in decision.statuses if status.limit.holds or (status.exceeded and not decision)]
        seen = look_at(limiter, [(status.entity_id, status.resource) for status in told])
    show(target.output, decision_document(decision, seen), decision_table(decision, seen))
    for (owner, where), bucket in seen.items():
        if bucket.paused_for is not None:
            say(f"The bucket of {owner!r} for {where!r} is paused for another {cell(bucket.paused_for)} s.")
    if not decision.statuses:
        say("Nothing is counted: the level says 'unlimited'." if decision else "Everything is refused: the level says 'blocked'.")
    return OK if decision else REFUSED


@click.command(cls=CommandBehindDashes)
@click.argument("entity")
@click.argument("resource")
@consume_option
@limit_option
@click.option(
    "--timeout", "-t", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait at most this long until the limits allow it."
)
@click.option(
    "--on-unavailable",
    type=click.Choice(["block", "allow"]),
    default="block",
    show_default=True,
    help="When AWS cannot be reached: do not run the command, or run it without limits.",
)
@click.option(
    "--refused-code", type=click.IntRange(1, 255), default=REFUSED, show_default=True, help="Exit code when a limit refuses."
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
    """Consume from the limits of ENTITY on RESOURCE, then run COMMAND.

    COMMAND replaces this process: it receives all signals, and its exit code is the exit code. The units are refunded when
    COMMAND cannot be started, and stay consumed when it fails. When the limits do not allow it at once, or within --timeout,
    COMMAND does not run and the exit code is that of --refused-code.

    Slots, such as those of "calls=2 at once", are held until COMMAND ends. COMMAND then runs as a child of this process, which
    renews the slots and passes SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 on. The variable LIMITER_FENCE tells COMMAND the fence. If
    the slots expire nevertheless, COMMAND goes on, and a warning follows its end.
    """
    from ..exceptions import RateLimitExceeded

    asked, given = read_amounts(amounts), read_limits(limits)
    program = shutil.which(command[0])
    if program is None and _is_there(command[0]):
        say(f"Error: {command[0]!r} cannot be executed; nothing was consumed")
        return CANNOT_EXECUTE
    if program is None:
        say(f"Error: command {command[0]!r} was not found; nothing was consumed")
        return NOT_FOUND
    try:
        return _acquire_and_run(target, stack, (entity, resource, asked), given, program, command, options)
    except RateLimitExceeded as error:
        say(f"Error: {error}")
        return refused_code
    except Terminated:
        return TERMINATED


def _is_there(name: str) -> bool:
    """Tell whether a file or directory of that name exists, executable or not."""
    return os.access(name, os.F_OK) if os.sep in name else shutil.which(name, os.F_OK) is not None


def _acquire_and_run(
    target: Target,
    stack: str,
    what: tuple[str, str, dict[str, int] | None],
    limits: Limits | None,
    program: str,
    command: list[str],
    options: dict[str, Any],
) -> int:
    before = signal.signal(signal.SIGTERM, _terminate)
    with target.limiter(stack) as limiter:
        try:
            with limiter.acquire(*what, limits=limits, **options) as lease:
                if any(status.limit.holds and status.requested for status in lease.statuses):
                    return _run_with_slots(lease, program, command)
                signal.signal(signal.SIGTERM, before)
                run_instead(program, command)
        except OSError as error:
            say(f"Error: {command[0]!r} cannot be executed ({error.strerror}); the units were refunded")
            return CANNOT_EXECUTE


def _run_with_slots(lease: SyncLease, program: str, command: list[str]) -> int:
    """Run the command beside this process, which holds its slots until it ends."""
    from .running import run_beside

    code = run_beside(program, command, lease.fence)
    if lease.lost:
        say("Warning: the slots expired while the command ran, because they could not be renewed; others may have had them")
    return code


def run_instead(program: str, command: list[str]) -> NoReturn:
    """Replace this process by the command; raises `OSError` when that is not possible."""
    if os.name == "nt":  # Windows would start it beside this process, and the shell would not wait for it.
        import subprocess

        sys.exit(subprocess.call([program, *command[1:]]))  # noqa: S603 - as the user asks
    # Python ignores these signals and programs inherit that: the command would not end with the reader of its output.
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    sys.stdout.flush()
    os.execv(program, command)  # noqa: S606 - without a shell, as the user asks


def _terminate(*_: object) -> NoReturn:
    raise Terminated
