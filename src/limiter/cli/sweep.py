"""`limiter sweep`: deletes idle buckets of a table without time to live."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import aws_options, stack_argument
from .output import Table, counted, say, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..models import Sweep
    from .options import Target

_NOTED_AFTER = 1_000


@click.command()
@stack_argument
@click.option(
    "--max-rate",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    metavar="DELETIONS",
    help="Most deletions per second; each costs a write unit, or one per KB of a larger item.",
)
@click.option("--segment", default="1/1", show_default=True, metavar="N/M", help="Sweep only part N of M, as one of M processes.")
@click.option("--dry-run", is_flag=True, help="Count the items that would be deleted, and delete none.")
@aws_options
def sweep(stack: str, target: Target, max_rate: int, segment: str, dry_run: bool) -> None:
    """Delete the buckets of all namespaces whose time to live is over, and no bucket that is used again in the meantime.

    For tables of several regions, which have no time to live; run it on a schedule. Elsewhere DynamoDB deletes these items
    itself, free of charge. Reads the whole table, at half a read unit per 4 KB. After an interruption, the same command deletes
    the rest.
    """
    from ..sync_repository import SyncRepository

    number, parts = _read_segment(segment)
    with SyncRepository(stack, connect_timeout=5.0, read_timeout=10.0, **target.aws()) as repository:
        done = repository.sweep(max_rate=max_rate, segment=number - 1, segments=parts, dry_run=dry_run, on_progress=_notes())
    say(f"{counted(done.expired, 'item')} expired; nothing was deleted." if dry_run else _outcome(done))
    document = {"expired": done.expired, "deleted": done.deleted, "renewed": done.renewed}
    show(target.output, document, Table(tuple(document), [tuple(document.values())]))


def _read_segment(text: str) -> tuple[int, int]:
    number, _, parts = text.partition("/")
    if number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts):
        return int(number), int(parts)
    raise click.BadParameter(f"{text!r} is not N/M with N from 1 to M", param_hint="--segment")


def _notes() -> Callable[[Sweep], None]:
    """Return a function that prints the progress, after every thousand deletions."""
    told = 0

    def note(done: Sweep) -> None:
        nonlocal told
        if done.deleted - told >= _NOTED_AFTER:
            told = done.deleted
            say(f"Deleted {counted(told, 'item')} so far.")

    return note


def _outcome(done: Sweep) -> str:
    """Return the counts in one sentence."""
    return f"Deleted {counted(done.deleted, 'item')}; {counted(done.renewed, 'item')} had been used again."
