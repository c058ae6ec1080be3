"""`limiter namespace`: the namespaces of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .groups import group
from .options import aws_options, confirm, stack_option, yes_option
from .output import Table, counted, say, show

if TYPE_CHECKING:
    from .options import Target


@group
def namespace() -> None:
    """List and delete namespaces. Both commands read the whole table."""


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
    """Delete a namespace.

    Deletes every limit, entity and bucket in it. After an interruption, the same command deletes the rest.
    """
    confirm(f"Delete everything in namespace {name!r} of stack {stack!r}?", yes=yes)
    with target.limiter(stack) as limiter:
        count = limiter.delete_namespace(name)
    say(f"Deleted {counted(count, 'item')}." if count else f"Namespace {name!r} is empty; nothing was deleted.")
