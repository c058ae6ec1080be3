"""Shows what commands find: tables for people, JSON for programs, tab-separated lines for pipes."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from ..core.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..infra.stack_events import StackEvent

_WIDE = 10_000


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns; without `header` the first column names what the others hold."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    header: bool = True


def show(output: str, document: Any, table: Table) -> None:
    """Print the document as JSON, or the table."""
    if output == "json":
        click.echo(json.dumps(document, indent=2, default=_plain))
    elif output == "text":
        for row in table.rows:
            click.echo("\t".join(cell(value) for value in row))
    elif table.rows:
        console().print(rich_table(table))


def console() -> Any:
    """A console of rich, which honours NO_COLOR; in a pipe it cuts nothing off."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)


def rich_table(table: Table) -> Any:
    """The table for a terminal."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(box=box.SIMPLE_HEAD if table.header else None, show_header=table.header, pad_edge=False)
    for number, column in enumerate(table.columns):
        shown.add_column(column, style="bold" if number == 0 else None, overflow="fold")
    for row in table.rows:
        # As Text, or rich would read brackets in names as its own marks.
        shown.add_row(*(Text(cell(value), style=_style(value)) for value in row))
    return shown


def _style(value: Any) -> str:
    text = value if isinstance(value, str) else ""
    if text.endswith("FAILED") or "ROLLBACK" in text:
        return "red"
    if text == "warning" or text.endswith("_IN_PROGRESS"):
        return "yellow"
    return "green" if text == "ok" or text.endswith("_COMPLETE") else ""


def printable(text: str) -> str:
    """A text in which what could steer a terminal is made visible; lines stay."""
    return visible(text.replace("\t", "\\t"))


def cell(value: Any) -> str:
    """A value as people read it, on one line."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return ", ".join(map(cell, value)) if isinstance(value, tuple | list) else printable(" ".join(str(value).split()))


def progress(event: StackEvent) -> None:
    """Print an event of a stack on standard error, where it does not mix with the result."""
    when = event.timestamp.strftime("%H:%M:%S") if event.timestamp else "        "
    reason = f"  {event.reason}" if event.reason else ""
    click.echo(f"{when}  {event.status:<36}  {event.resource}{printable(reason)}", err=True)


def say(text: str) -> None:
    """Print a remark on standard error."""
    click.echo(printable(text), err=True)


def pairs(values: Iterable[tuple[str, Any]]) -> Table:
    """A table of names and values."""
    return Table(("name", "value"), [(name, value) for name, value in values], header=False)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"no JSON for {value!r}")
