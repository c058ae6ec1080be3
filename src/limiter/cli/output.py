"""Prints results: tables for people, JSON for programs, tab-separated lines for pipes; and errors in the command's terms."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from ..core.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..infra.stack_events import StackEvent

_WIDE = 10_000
_TERMS = {
    "use set_parent to move it": "move it with `limiter entity move`",
    "create it with create_entity": "create it with `limiter entity create`",
    "pass limits= to the call or to the limiter, or store some with set_limits": (
        "pass --limit, or store some with `limiter limits set`"
    ),
    "pass region=": "pass --region",
    "choose retain=True as well": "pass --retain as well",
    "endpoint_url must": "--endpoint-url must",
    "timeout must be None or a number": "--timeout must be a number",
    "uses the port or choose another one": "uses the port, or choose another one with --port",
}


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns. Without `header`, the first column names what the others hold.

    Where a terminal is too narrow, the columns of `expendable` are left out, in that order, until the others fit. Those of
    `occasional` are left out where no row has a value for them. Tab-separated lines have every column.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    header: bool = True
    expendable: Sequence[str] = ()
    occasional: Sequence[str] = ()

    def is_empty(self, column: str) -> bool:
        """Tell whether no row has a value in a column."""
        index = list(self.columns).index(column)
        return all(row[index] is None for row in self.rows)

    def without(self, column: str) -> Table:
        """Return the table without a column."""
        index = list(self.columns).index(column)
        rows = [[*row[:index], *row[index + 1 :]] for row in self.rows]
        return replace(self, columns=[each for each in self.columns if each != column], rows=rows)


def show(output: str, document: Any, table: Table) -> None:
    """Print the document as JSON, or the table; with `text`, its rows as tab-separated lines."""
    if output == "json":
        click.echo(plain_json(document))
    elif output == "text":
        for row in table.rows:
            click.echo("\t".join(cell(value) for value in row))
    elif table.rows:
        terminal = console()
        terminal.print(fitting_table(table, terminal))


def console() -> Any:
    """Make a console of rich, which honours NO_COLOR and shortens nothing in a pipe."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _WIDE, highlight=False)


def fitting_table(table: Table, terminal: Any) -> Any:
    """Return the table as rich prints it, without empty columns and those for which the terminal is too narrow."""
    for column in table.occasional:
        if table.is_empty(column):
            table = table.without(column)
    unbounded = terminal.options.update(width=_WIDE)
    for column in table.expendable:
        if terminal.measure(_rich_table(table), options=unbounded).maximum <= terminal.width:
            break
        table = table.without(column)
    return _rich_table(table)


def _rich_table(table: Table) -> Any:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(box=box.SIMPLE_HEAD if table.header else None, show_header=table.header, pad_edge=False)
    for number, column in enumerate(table.columns):
        shown.add_column(column, style="bold" if number == 0 else None, overflow="fold")
    for row in table.rows:
        # As Text, since rich would read brackets in names as markup.
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
    """Return the text with every character escaped that could control a terminal; line breaks stay."""
    return visible(text.replace("\t", "\\t"))


def cell(value: Any) -> str:
    """Return a value as people read it, on one line."""
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
    """Print an event of a stack on standard error, apart from the result."""
    click.echo(event_line(event), err=True)


def event_line(event: StackEvent) -> str:
    """Return an event of a stack as one line."""
    when = event.timestamp.strftime("%H:%M:%S") if event.timestamp else "        "
    reason = f"  {event.reason}" if event.reason else ""
    return printable(f"{when}  {event.status:<36}  {event.resource}{' '.join(reason.splitlines())}")


def say(text: str) -> None:
    """Print a remark on standard error."""
    click.echo(printable(text), err=True)


def in_commands(text: str) -> str:
    """Return an error's text with options and commands in place of the library's parameters and methods."""
    for python, command in _TERMS.items():
        text = text.replace(python, command)
    return text


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 change" or "2 changes"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def plain_json(document: Any, *, indent: int | None = 2) -> str:
    """Return a document as JSON, with times in ISO 8601."""
    return json.dumps(document, indent=indent, default=_plain)


def pairs(values: Iterable[tuple[str, Any]]) -> Table:
    """Make a table of names and values."""
    return Table(("name", "value"), [(name, value) for name, value in values], header=False)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{value!r} cannot be written as JSON")
