"""`limiter check`: a look at a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .amounts import consume_option, decision_table, limit_option, read_amounts, read_limits
from .exit_codes import OK, REFUSED
from .options import aws_options, stack_option
from .output import show

if TYPE_CHECKING:
    from .options import Target


@click.command()
@click.argument("entity")
@click.argument("resource")
@consume_option
@limit_option
@stack_option
@aws_options
def check(entity: str, resource: str, stack: str, target: Target, amounts: tuple[str, ...], limits: tuple[str, ...]) -> int:
    """Say whether ENTITY would be admitted to RESOURCE now; take nothing. Status 3 when a limit refuses."""
    from .documents import decision_document

    asked, given = read_amounts(amounts), read_limits(limits)
    with target.limiter(stack) as limiter:
        decision = limiter.check(entity, resource, asked, limits=given)
    show(target.output, decision_document(decision), decision_table(decision))
    return OK if decision else REFUSED
