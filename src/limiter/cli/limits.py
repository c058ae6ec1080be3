"""`limiter limits`: stored limits, by level or by file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..exceptions import ValidationError
from .amounts import limit_table, limit_texts, read_limits
from .exit_codes import CHANGES, FAILED, OK
from .groups import group
from .options import aws_options, confirm, stack_option, yes_option
from .output import Table, counted, pairs, printable, say, show

if TYPE_CHECKING:
    from ..core.records import Limits, LimitsKey
    from .limits_changes import Change, Stored
    from .limits_levels import Level
    from .options import Target

entity_option = click.option("--entity", "-e", metavar="ID", help="Level of this entity.")
resource_option = click.option("--resource", "-r", metavar="NAME", help="Level of this resource.")
file_option = click.option(
    "--file", "-f", "file", type=click.Path(dir_okay=False, allow_dash=True), required=True, help="File; - is standard input."
)
UNCHANGED = "Nothing to change."
prune_option = click.option("--prune", is_flag=True, help="Also delete limits and entities that are not in the file.")
REPORT_EVERY = 100
"""Changes between two reports of progress."""


@group
def limits() -> None:
    """Show and change stored limits.

    There are four levels: an entity for a resource, an entity, a resource, and the namespace (without --entity and --resource).
    The first of these levels that has limits applies; the others are ignored.
    """


@limits.command("get")
@entity_option
@resource_option
@stack_option
@aws_options
def get_limits(stack: str, target: Target, entity: str | None, resource: str | None) -> int:
    """Show the limits stored at one level. Exits with 1 when there are none.

    At times that the level's schedule names, other limits apply; see `limiter limits schedule`.
    """
    with target.limiter(stack) as limiter:
        found = limiter.get_limits(entity, resource)
        windows = limiter.get_schedule(entity, resource)
    if found is None:
        say("No limits are stored at this level. `limiter limits resolve` shows which limits apply.")
    if windows:
        say("This level has a schedule: at some times other limits apply. `limiter limits schedule` shows it.")
    _show(target, found or ())
    return FAILED if found is None else OK


@limits.command("schedule")
@entity_option
@resource_option
@stack_option
@aws_options
def get_schedule(stack: str, target: Target, entity: str | None, resource: str | None) -> int:
    """Show the schedule of one level. Exits with 1 when there is none.

    Each line is a window: when it applies, in which time zone, and the limits that then apply in place of the level's.
    """
    from .limits_levels import window_documents

    with target.limiter(stack) as limiter:
        windows = limiter.get_schedule(entity, resource)
    if not windows:
        say("No schedule is stored at this level.")
    rows = [(each.when, each.zone, limit_texts(each.limits)) for each in windows]
    show(target.output, window_documents(windows), Table(("when", "zone", "limits"), rows))
    return OK if windows else FAILED


@limits.command("list")
@stack_option
@aws_options
def list_limits(stack: str, target: Target) -> None:
    """List the stored limits of all levels.

    Reads the whole table.
    """
    from .limits_changes import place
    from .limits_levels import level_texts, read_levels

    with target.limiter(stack) as limiter:
        levels = sorted(read_levels(limiter).items(), key=lambda each: place(each[0]))
    if not levels:
        say(f"No limits are stored in namespace {target.namespace!r}.")
    documents = [_level_document(key, level) for key, level in levels]
    rows = [(key.entity_id, key.resource, level_texts(level)) for key, level in levels]
    show(target.output, documents, Table(("entity", "resource", "limits"), rows))


@limits.command("set")
@click.argument("texts", nargs=-1, required=True, metavar="LIMIT...")
@click.option(
    "--window",
    "-w",
    "windows",
    nargs=3,
    multiple=True,
    metavar="WHEN ZONE LIMIT",
    help='Limit that applies at these times instead, such as "mon-fri 09:00-17:00" Europe/Berlin 500/minute; may be given '
    "several times.",
)
@entity_option
@resource_option
@stack_option
@aws_options
def set_limits(
    stack: str,
    target: Target,
    texts: tuple[str, ...],
    windows: tuple[tuple[str, str, str], ...],
    entity: str | None,
    resource: str | None,
) -> None:
    """Replace the limits of one level, and its schedule.

    A LIMIT is a text such as "tokens=10000/minute burst 50000", "tokens=1000000/day in UTC", "messages=50/session of 5 hours",
    "credits=10000 in all" or "calls=20 at once ttl 30", each of which may end in "shadow". A single "unlimited" or "blocked"
    stands in place of limits.
    """
    from .limits_levels import read_windows

    chosen, schedule = read_limits(texts) or (), read_windows(windows)
    with target.limiter(stack) as limiter:
        limiter.set_limits(chosen, entity_id=entity, resource=resource, schedule=schedule)
    _show(target, chosen)


@limits.command("delete")
@entity_option
@resource_option
@yes_option
@stack_option
@aws_options
def delete_limits(stack: str, target: Target, entity: str | None, resource: str | None, yes: bool) -> None:
    """Delete the limits of one level, and its schedule.

    The next level then applies.
    """
    from ..core.records import LimitsKey
    from .limits_changes import key_name

    confirm(f"Delete the {key_name(LimitsKey(entity, resource))} in namespace {target.namespace!r}?", yes=yes)
    with target.limiter(stack) as limiter:
        limiter.delete_limits(entity, resource)
    say("Deleted.")


@limits.command("resolve")
@click.argument("entity")
@click.argument("resource")
@stack_option
@aws_options
def resolve_limits(stack: str, target: Target, entity: str, resource: str) -> None:
    """Show the limits that apply now.

    These are the limits that an acquire of ENTITY on RESOURCE would use.
    """
    with target.limiter(stack) as limiter:
        _show(target, limiter.resolve_limits(entity, resource))


@limits.command("export")
@stack_option
@aws_options
def export(stack: str, target: Target) -> None:
    """Print all stored limits and entities.

    Prints a file for `limits apply`, or with `-o json` its content as JSON. Reads the whole table.
    """
    from .limits_changes import read_stored
    from .limits_export import dump, file_document

    with target.limiter(stack) as limiter:
        stored = read_stored(limiter)
    if target.output == "json":
        show("json", file_document(stored), pairs(()))
    else:
        click.echo(dump(stored), nl=False)


@limits.command("plan")
@file_option
@prune_option
@stack_option
@aws_options
def plan(stack: str, target: Target, file: str, prune: bool) -> int:
    """Show what `limits apply` would change. Changes nothing; exits with 5 when there are changes, and with 0 otherwise."""
    found, _ = _changes(target, stack, file, prune=prune)
    _show_changes(target, found)
    if not found:
        say(UNCHANGED)
    return CHANGES if found else OK


@limits.command("apply")
@file_option
@prune_option
@yes_option
@stack_option
@aws_options
def apply(stack: str, target: Target, file: str, prune: bool, yes: bool) -> None:
    """Apply a file of limits and entities.

    With --prune, also deletes the limits and entities that are not in the file. Asks for confirmation when stored limits or
    entities would be changed or deleted. After an interruption, the same command makes the remaining changes.
    """
    from .limits_changes import apply as apply_change

    found, wanted = _changes(target, stack, file, prune=prune)
    _show_changes(target, found)
    if any(change.destroys for change in found):
        confirm(f"Apply these changes to namespace {target.namespace!r} of stack {stack!r}?", yes=yes)
    with target.limiter(stack) as limiter:
        for number, change in enumerate(found, 1):
            apply_change(limiter, change, wanted)
            if number % REPORT_EVERY == 0:
                say(f"Applied {number:,} of {counted(len(found), 'change')}.")
    say(f"Applied {counted(len(found), 'change')}." if found else UNCHANGED)


def _changes(target: Target, stack: str, file: str, *, prune: bool) -> tuple[list[Change], Stored]:
    """Return the changes that a file asks for, and what the file holds."""
    from .limits_changes import changes, read_stored
    from .limits_file import load

    wanted = load(_read(file), file)
    with target.limiter(stack) as limiter:
        try:
            return changes(read_stored(limiter), wanted, prune=prune), wanted
        except ValidationError as error:
            raise ValidationError(f"{file}: {error}") from error


def _read(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise click.BadParameter(f"cannot read {file!r}: {reason}", param_hint="--file") from error


def _show_changes(target: Target, found: list[Change]) -> None:
    from .limits_changes import diff_lines

    if target.output != "table":
        rows = [(each.action, each.key.entity_id, _resource(each), each.before, each.after, each.kind) for each in found]
        columns = ("action", "entity", "resource", "before", "after", "kind")
        show(target.output, [_change_document(change) for change in found], Table(columns, rows))
        return
    for change in found:
        for line in diff_lines(change):
            click.echo(printable(line))


def _resource(change: Change) -> str | None:
    return getattr(change.key, "resource", None)


def _change_document(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "entity_id": change.key.entity_id,
        "resource": _resource(change),
        "action": change.action,
        "before": list(change.before),
        "after": list(change.after),
    }


def _level_document(key: LimitsKey, level: Level) -> dict[str, Any]:
    from ..core.records import plain_limits, windows_of
    from .documents import limit_documents
    from .limits_levels import window_documents

    return {
        "entity_id": key.entity_id,
        "resource": key.resource,
        "limits": limit_documents(plain_limits(level) or ()),
        "schedule": window_documents(windows_of(level)),
    }


def _show(target: Target, found: Limits) -> None:
    from .documents import limit_documents

    show(target.output, limit_documents(found), limit_table(found))
