"""Commands on existing stacks: `status`, `events`, `delete`, `drift`, `list`; and `template`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ..exceptions import DeletionProtected
from .exit_codes import FAILED, OK
from .imitation import EMBEDDED_PROTECTION, noted
from .options import REGIONS, aws_options, confirm, read_regions, stack_argument, timeout_option, yes_option
from .output import Table, cell, event_line, pairs, plain_json, progress, say, show

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..infra.stack_events import StackEvent
    from ..infra.stack_summary import StackSummary
    from ..infra.sync_stack_manager import SyncStackManager
    from .options import Target


@click.command()
@stack_argument
@click.option("--wait", is_flag=True, help="Wait for the running operation first, and show its events.")
@timeout_option
@aws_options
def status(stack: str, target: Target, wait: bool, timeout: float) -> None:
    """Show a stack: its status, version, settings, outputs and table."""
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
        ("table is kept on deletion", found.retains_table),
        *((f"parameter {name}", value) for name, value in sorted(found.parameters.items())),
        *((f"output {name}", value) for name, value in sorted(found.outputs.items())),
    ]
    return pairs(rows)


@click.command()
@stack_argument
@click.option("--limit", "-n", type=click.IntRange(min=1), default=50, show_default=True, help="Show at most this many.")
@click.option("--follow", "-f", is_flag=True, help="Then print new events until the running operation ends.")
@timeout_option
@aws_options
def events(stack: str, target: Target, limit: int, follow: bool, timeout: float) -> None:
    """Show the last events of a stack, oldest first. With --follow, JSON is one document per line."""
    from ..infra.sync_stack_manager import SyncStackManager
    from .documents import event_document

    manager = SyncStackManager(stack, **target.aws())
    if follow:
        _follow(manager, target.output, limit, timeout)
        return
    found = manager.events(limit)
    table = Table(("time", "status", "resource", "reason"), [_event_row(each) for each in found])
    show(target.output, [event_document(each) for each in found], table)


def _follow(manager: SyncStackManager, output: str, limit: int, timeout: float) -> None:
    """Print the last events, then those of the running operation, each once."""
    printed: set[str] = set()

    def tell(event: StackEvent) -> None:
        if event.event_id in printed:
            return
        printed.add(event.event_id)
        click.echo(_event_line(event, output))
        sys.stdout.flush()  # Also in a pipe, whose reader wants to follow.

    def tell_all(found: Iterable[StackEvent]) -> None:
        for event in found:
            tell(event)

    tell_all(manager.events(limit))
    if manager.wait(timeout=timeout, on_event=tell) is not None:
        tell_all(manager.events(limit))  # The operation may have ended between the two calls.


def _event_row(event: StackEvent) -> tuple[object, ...]:
    return event.timestamp, event.status, event.resource, event.reason


def _event_line(event: StackEvent, output: str) -> str:
    from .documents import event_document

    if output == "json":
        return plain_json(event_document(event), indent=None)
    return event_line(event) if output == "table" else "\t".join(cell(value) for value in _event_row(event))


@click.command()
@stack_argument
@yes_option
@timeout_option
@aws_options
def delete(stack: str, target: Target, yes: bool, timeout: float) -> None:
    """Delete a stack and its table, unless the stack was deployed with --retain.

    Refuses, before anything is deleted, while deletion protection is on or a policy of the stack is attached elsewhere. Exits
    with 0 when the stack does not exist.
    """
    from ..infra.sync_stack_manager import SyncStackManager

    manager = SyncStackManager(stack, **target.aws())
    confirm(f"Delete stack {stack!r}, with every limit, entity and bucket in its table?", yes=yes)
    try:
        deleted = manager.delete(timeout=timeout, on_event=progress)
    except KeyboardInterrupt:
        say("CloudFormation continues the deletion. Run the same command again to wait for it.")
        raise
    except DeletionProtected as error:
        if target.embedded:
            raise DeletionProtected(f"{error}. {EMBEDDED_PROTECTION}") from error
        raise
    say(f"Deleted stack {stack}." if deleted else f"Stack {stack} does not exist; nothing was deleted.")
    if target.output != "table":
        show(target.output, {"stack": stack, "deleted": deleted}, pairs([(stack, deleted)]))


@click.command()
@stack_argument
@timeout_option
@aws_options
def drift(stack: str, target: Target, timeout: float) -> int:
    """Show how the resources of a stack differ from what was deployed. Exits with 1 when something differs."""
    from ..infra.sync_stack_manager import SyncStackManager
    from .documents import drift_document

    with noted("drift", target):
        found = SyncStackManager(stack, **target.aws()).drift(timeout=timeout)
    rows = [
        (each.resource, each.status, one.path if one else None, one.expected if one else None, one.actual if one else None)
        for each in found.resources
        for one in (each.differences or (None,))
    ]
    in_sync = f"The resources of stack {stack} are as deployed."
    say(in_sync if found.in_sync else f"Resources of stack {stack} were changed; `limiter deploy` does not undo that.")
    show(target.output, drift_document(found), Table(("resource", "status", "property", "expected", "actual"), rows))
    return OK if found.in_sync else FAILED


@click.command("list")
@aws_options
def list_stacks(target: Target) -> None:
    """List the stacks in a region that the limiter deployed."""
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
    table = Table(columns, rows, expendable=("layout", "bytes", "version", "items"))
    if not found:
        say("The limiter has deployed no stack in this region.")
    show(target.output, [stack_document(each) for each in found], table)


@click.command()
@click.option("--retain", is_flag=True, help="Print the variant that keeps the table when the stack is deleted.")
@REGIONS[0]
@REGIONS[1]
def template(retain: bool, regions: str | None, witness: str | None) -> None:
    """Print the CloudFormation template, to deploy it with other tools.

    With --regions, the table is a global table with strong consistency: limits are exact in all regions together. Deploy it in
    one of them.
    """
    from ..infra.settings import render_template

    click.echo(render_template(retain=retain, regions=read_regions(regions) or (), witness=witness), nl=False)
