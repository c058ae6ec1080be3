"""`limiter namespace`: the namespaces of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .options import aws_options, confirm, stack_option, yes_option
from .output import Table, say, show

if TYPE_CHECKING:
    from .options import Target


@click.group()
def namespace() -> None:
    """List and delete namespaces. Both read the whole table."""


@namespace.command("list")
@stack_option
@aws_options
def list_namespaces(stack: str, target: Target) -> None:
    """List all namespaces in the table."""
    with target.limiter(stack) as limiter:
        names = limiter.list_namespaces()
    show(target.output, list(names), Table(("namespace",), [(name,) for name in names]))


@namespace.command("delete")
@click.argument("name")
@yes_option
@stack_option
@aws_options
def delete(name: str, stack: str, target: Target, yes: bool) -> None:
    """Delete every limit, entity and bucket of the namespace NAME. When interrupted, the same command does the rest."""
    confirm(f"Delete everything in namespace {name!r} of stack {stack!r}?", yes=yes)
    with target.limiter(stack) as limiter:
        count = limiter.delete_namespace(name)
    say(f"{count} items deleted." if count else f"There is nothing in namespace {name!r}, so nothing was deleted.")
