"""Commands on stacks that exist: `status`, `events`, `delete`, `drift`, `list`, and `template`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .exit_codes import FAILED, OK
from .options import aws_options, confirm, stack_argument, timeout_option, yes_option
from .output import Table, pairs, progress, say, show

if TYPE_CHECKING:
    from ..infra.stack_summary import StackSummary
    from .options import Target


@click.command()
@stack_argument
@click.option("--wait", is_flag=True, help="Wait for the operation under way first, and show its events.")
@timeout_option
@aws_options
def status(stack: str, target: Target, wait: bool, timeout: float) -> None:
    """Show the stack STACK: its status, version, settings, outputs and table."""
    from ..infra.sync_stack_manager import SyncStackManager
    from .documents import stack_document

    manager = SyncStackManager(stack, **target.aws())
    if wait:
        manager.wait(timeout=timeout, on_event=progress)
    found = manager.status()
    show(target.output, stack_document(found), _status_table(found))


def _status_table(found: StackSummary) -> Table:
    table = found.table
    rows = [
        ("stack", found.name),
        ("status", found.status),
        ("reason", found.reason),
        ("deployed by version", found.version),
        ("table layout", found.schema_version),
        ("created", found.created),
        ("updated", found.updated),
        ("table", table.status if table else None),
        ("table size", f"{table.size_bytes} bytes, {table.items} items" if table else None),
        ("deletion protection", table.deletion_protection if table else None),
        ("table outlives the stack", found.retains_table),
        *((f"parameter {name}", value) for name, value in sorted(found.parameters.items())),
        *((f"output {name}", value) for name, value in sorted(found.outputs.items())),
    ]
    return pairs(rows)


@click.command()
@stack_argument
@click.option("--limit", "-n", type=click.IntRange(min=1), default=50, show_default=True, help="How many at most.")
@click.option("--follow", "-f", is_flag=True, help="Go on until the operation under way has ended.")
@timeout_option
@aws_options
def events(stack: str, target: Target, limit: int, follow: bool, timeout: float) -> None:
    """Show the last events of the stack STACK, oldest first."""
    from ..infra.sync_stack_manager import SyncStackManager
    from .documents import event_document

    manager = SyncStackManager(stack, **target.aws())
    if follow:
        manager.wait(timeout=timeout, on_event=progress)
        return
    found = manager.events(limit)
    rows = [(each.timestamp, each.status, each.resource, each.reason) for each in found]
    show(target.output, [event_document(each) for each in found], Table(("time", "status", "resource", "reason"), rows))


@click.command()
@stack_argument
@yes_option
@timeout_option
@aws_options
def delete(stack: str, target: Target, yes: bool, timeout: float) -> None:
    """Delete the stack STACK with its table, unless that is retained.

    Refused while deletion protection is on. Where there is no such stack, nothing is done, and that is success.
    """
    from ..infra.sync_stack_manager import SyncStackManager

    manager = SyncStackManager(stack, **target.aws())
    confirm(f"Delete stack {stack!r}, with every limit, entity and bucket in its table?", yes=yes)
    try:
        deleted = manager.delete(timeout=timeout, on_event=progress)
    except KeyboardInterrupt:
        say("What CloudFormation has begun goes on. Run the same command again to wait for it.")
        raise
    say(f"Stack {stack} is deleted." if deleted else f"There is no stack {stack}: nothing to delete.")
    if target.output != "table":
        show(target.output, {"stack": stack, "deleted": deleted}, pairs([(stack, deleted)]))


@click.command()
@stack_argument
@timeout_option
@aws_options
def drift(stack: str, target: Target, timeout: float) -> int:
    """Show what was changed about the resources of the stack STACK other than by deploying; status 1 when something was."""
    from ..infra.sync_stack_manager import SyncStackManager
    from .documents import drift_document

    found = SyncStackManager(stack, **target.aws()).drift(timeout=timeout)
    rows = [
        (each.resource, each.status, one.path if one else None, one.expected if one else None, one.actual if one else None)
        for each in found.resources
        for one in (each.differences or (None,))
    ]
    say(f"Stack {stack} is as deployed." if found.in_sync else f"Stack {stack} was changed; `limiter deploy` does not undo that.")
    show(target.output, drift_document(found), Table(("resource", "status", "property", "expected", "actual"), rows))
    return OK if found.in_sync else FAILED


@click.command("list")
@aws_options
def list_stacks(target: Target) -> None:
    """List all stacks of the limiter in the region."""
    from ..infra.sync_discovery import sync_discover
    from .documents import stack_document

    found = sync_discover(**target.aws())
    rows = [
        (
            each.name,
            each.status,
            each.version,
            each.schema_version,
            each.table.status if each.table else None,
            each.table.items if each.table else None,
            each.table.size_bytes if each.table else None,
        )
        for each in found
    ]
    columns = ("stack", "status", "version", "layout", "table", "items", "bytes")
    show(target.output, [stack_document(each) for each in found], Table(columns, rows))


@click.command()
@click.option("--retain", is_flag=True, help="The variant whose table outlives its stack.")
def template(retain: bool) -> None:
    """Print the CloudFormation template, to deploy it by other means."""
    from ..infra.template import render

    click.echo(render(retain=retain), nl=False)
