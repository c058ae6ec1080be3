"""`limiter limits`: what is stored, by level or by file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .amounts import LIMIT_COLUMNS, limit_rows, read_limit
from .exit_codes import FAILED, OK
from .options import aws_options, confirm, stack_option, yes_option
from .output import Table, pairs, printable, say, show

if TYPE_CHECKING:
    from ..core.limits import Limit
    from .limits_file import LevelChange
    from .options import Target

entity_option = click.option("--entity", "-e", metavar="ID", help="The level of this entity.")
resource_option = click.option("--resource", "-r", metavar="NAME", help="The level of this resource.")
file_option = click.option(
    "--file", "-f", "file", type=click.Path(dir_okay=False, allow_dash=True), required=True, help="The file; - is standard input."
)
UNCHANGED = "Everything is as the file says."
prune_option = click.option("--prune", is_flag=True, help="Remove what is stored and not in the file.")


@click.group()
def limits() -> None:
    """Show and change stored limits.

    There are four levels: of an entity for a resource, of an entity, of a resource, and, without --entity and --resource, of the
    namespace. The first of them that has limits applies, whole.
    """


@limits.command("get")
@entity_option
@resource_option
@stack_option
@aws_options
def get_limits(stack: str, target: Target, entity: str | None, resource: str | None) -> int:
    """Show the limits stored at one level; status 1 when there are none."""
    with target.limiter(stack) as limiter:
        found = limiter.get_limits(entity, resource)
    if found is None:
        say("Nothing is stored at this level; `limiter limits resolve` shows what applies.")
    _show(target, found or ())
    return FAILED if found is None else OK


@limits.command("set")
@click.argument("texts", nargs=-1, required=True, metavar="LIMIT...")
@entity_option
@resource_option
@stack_option
@aws_options
def set_limits(stack: str, target: Target, texts: tuple[str, ...], entity: str | None, resource: str | None) -> None:
    """Store the limits of one level, whole: every LIMIT is a text such as "tokens=10000/minute burst 50000"."""
    chosen = tuple(map(read_limit, texts))
    with target.limiter(stack) as limiter:
        limiter.set_limits(chosen, entity_id=entity, resource=resource)
    _show(target, chosen)


@limits.command("delete")
@entity_option
@resource_option
@yes_option
@stack_option
@aws_options
def delete_limits(stack: str, target: Target, entity: str | None, resource: str | None, yes: bool) -> None:
    """Remove one level, so that the next weaker one applies."""
    from ..core.records import LimitsKey
    from .limits_file import level_name

    confirm(f"Delete the limits of {level_name(LimitsKey(entity, resource))} in namespace {target.namespace!r}?", yes=yes)
    with target.limiter(stack) as limiter:
        limiter.delete_limits(entity, resource)
    say("Deleted.")


@limits.command("resolve")
@click.argument("entity")
@click.argument("resource")
@stack_option
@aws_options
def resolve_limits(stack: str, target: Target, entity: str, resource: str) -> None:
    """Show the limits that an acquire of ENTITY on RESOURCE would use."""
    with target.limiter(stack) as limiter:
        _show(target, limiter.resolve_limits(entity, resource))


@limits.command("export")
@stack_option
@aws_options
def export(stack: str, target: Target) -> None:
    """Print everything that is stored in the namespace as a file for `limits apply`, or as JSON of the same shape."""
    from .limits_file import dump, file_document

    with target.limiter(stack) as limiter:
        levels = limiter.list_limits()
    if target.output == "json":
        show("json", file_document(levels), pairs(()))
    else:
        click.echo(dump(levels), nl=False)


@limits.command("plan")
@file_option
@prune_option
@stack_option
@aws_options
def plan(stack: str, target: Target, file: str, prune: bool) -> None:
    """Show what `limits apply` would change; change nothing."""
    found = _changes(target, stack, file, prune=prune)
    _show_changes(target, found)
    if not found:
        say(UNCHANGED)


@limits.command("apply")
@file_option
@prune_option
@yes_option
@stack_option
@aws_options
def apply(stack: str, target: Target, file: str, prune: bool, yes: bool) -> None:
    """Store what a file says; with --prune, and nothing else.

    Asks first when something that is stored would be changed or removed. When interrupted at any point, the same command does
    the rest.
    """
    found = _changes(target, stack, file, prune=prune)
    _show_changes(target, found)
    if any(change.destroys for change in found):
        confirm(f"Apply this to namespace {target.namespace!r} of stack {stack!r}?", yes=yes)
    with target.limiter(stack) as limiter:
        for number, change in enumerate(found, 1):
            if change.after:
                limiter.set_limits(change.after, entity_id=change.key.entity_id, resource=change.key.resource)
            else:
                limiter.delete_limits(change.key.entity_id, change.key.resource)
            if number % 100 == 0:
                say(f"{number} of {len(found)} levels")
    say(f"{len(found)} levels changed." if found else UNCHANGED)


def _changes(target: Target, stack: str, file: str, *, prune: bool) -> list[LevelChange]:
    from . import limits_file

    wanted = limits_file.load(_read(file), file)
    with target.limiter(stack) as limiter:
        return limits_file.changes(limiter.list_limits(), wanted, prune=prune)


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{file} cannot be read: {error}", param_hint="--file") from error


def _show_changes(target: Target, found: list[LevelChange]) -> None:
    from .limits_file import diff_lines

    if target.output != "table":
        rows = [(each.action, each.key.entity_id, each.key.resource, each.before, each.after) for each in found]
        columns = ("action", "entity", "resource", "before", "after")
        show(target.output, [_change_document(change) for change in found], Table(columns, rows))
        return
    for change in found:
        for line in diff_lines(change):
            click.echo(printable(line))


def _change_document(change: LevelChange) -> dict[str, Any]:
    return {
        "entity_id": change.key.entity_id,
        "resource": change.key.resource,
        "action": change.action,
        "before": [str(limit) for limit in change.before],
        "after": [str(limit) for limit in change.after],
    }


def _show(target: Target, found: tuple[Limit, ...]) -> None:
    from .documents import limit_document

    show(target.output, [limit_document(limit) for limit in found], Table(LIMIT_COLUMNS, limit_rows(found)))
