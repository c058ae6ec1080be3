"""`limiter block` and `unblock`: BLOCKED in place of the limits of a level."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from .amounts import limit_texts, read_limits
from .exit_codes import FAILED, OK
from .options import aws_options, confirm, stack_option, yes_option
from .output import Table, say, show

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..core.records import Limits, LimitsKey
    from ..core.schedule import Window
    from .groups import Function
    from .options import Target

_SOON = "Other processes learn it within the config_ttl of their limiters, 60 s by default."


def level_options(function: Function) -> Function:
    """Give a command the level that it concerns, as arguments or as the options of `limiter limits`."""
    for decorate in _LEVEL:
        function = decorate(function)
    return function


_LEVEL: Sequence[Callable[[Function], Function]] = (
    click.option("--resource", "-r", "of_resource", metavar="NAME", help="Level of this resource."),
    click.option("--entity", "-e", "of_entity", metavar="ID", help="Level of this entity."),
    click.argument("resource", required=False),
    click.argument("entity", required=False),
)


@click.command()
@level_options
@yes_option
@stack_option
@aws_options
def block(stack: str, target: Target, yes: bool, **where: str | None) -> None:
    """Refuse everything at one level: of ENTITY, of ENTITY for RESOURCE, or with --resource alone of a resource.

    Stores BLOCKED at the level, in place of limits. Where an entity has limits of its own for the resource, or a level that comes
    before this one, those go on applying. Limits and a schedule that are stored at the level are replaced, after confirmation;
    the command shows how to store them again. Other processes learn it within their `config_ttl`.
    """
    from ..core.limits import BLOCKED
    from .limits_changes import key_name
    from .limits_levels import window_text

    level = _level(**where)
    with target.limiter(stack) as limiter:
        before, windows = limiter.get_limits(*level), limiter.get_schedule(*level)
        if before is BLOCKED and not windows:
            say("The level is blocked already; nothing was changed.")
        else:
            if before is not None:
                texts = ", ".join([_texts(before), *map(window_text, windows)])
                confirm(f"Replace the {key_name(level)} in namespace {target.namespace!r}, {texts}?", yes=yes)
            limiter.set_limits(BLOCKED, *level)
            say(f"Blocked. {_SOON}\n{_way_back(target, stack, level, before, windows)}")
    _show(target, level, before, BLOCKED)


@click.command()
@level_options
@click.option(
    "--limit", "-l", "limits", multiple=True, metavar="LIMIT", help="Store this limit at the level; may be given several times."
)
@stack_option
@aws_options
def unblock(stack: str, target: Target, limits: tuple[str, ...], **where: str | None) -> int:
    """Remove BLOCKED from one level, so that the next level applies again.

    Limits that `limiter block` replaced are not stored any more: give them with --limit, as it has shown them. Other processes
    learn it within their `config_ttl`. Exits with 1 when the level is not blocked.
    """
    from ..core.limits import BLOCKED

    level, given = _level(**where), read_limits(limits)
    with target.limiter(stack) as limiter:
        before = limiter.get_limits(*level)
        if before is not BLOCKED:
            say(f"Error: the level is not blocked ({_texts(before)}); nothing was changed")
            return FAILED
        if limiter.get_schedule(*level):
            say("Error: the level is blocked by its schedule, outside the windows; change it with `limiter limits set`")
            return FAILED
        if given is None:
            limiter.delete_limits(*level)
        else:
            limiter.set_limits(given, *level)
    say(f"Unblocked. {_SOON}" + ("" if given else " The next level applies, as if no limits had been stored here."))
    _show(target, level, before, given)
    return OK


def _level(entity: str | None, resource: str | None, of_entity: str | None, of_resource: str | None) -> LimitsKey:
    """Return the level that is meant; raises `UsageError` for the namespace, and where a part is given twice."""
    from ..core.records import LimitsKey

    for name, argument, option in (("entity", entity, of_entity), ("resource", resource, of_resource)):
        if argument is not None and option is not None:
            raise click.UsageError(f"the {name} is specified twice: {argument!r}, and --{name} {option!r}")
    level = LimitsKey(entity if of_entity is None else of_entity, resource if of_resource is None else of_resource)
    if level == LimitsKey():
        raise click.UsageError("specify ENTITY, --resource, or both; `limiter limits set blocked` blocks the namespace's default")
    return level


def _way_back(target: Target, stack: str, level: LimitsKey, before: Limits | None, windows: Sequence[Window]) -> str:
    """Return the command that brings back what was stored before."""
    options: list[tuple[str, str | None]] = [("--stack", stack), ("--namespace", target.namespace)]
    options += [("--entity", level.entity_id), ("--resource", level.resource)]
    words = [word for name, value in options if value is not None for word in (name, value)]
    texts = [] if before is None else limit_texts(before)
    if windows:
        for each in windows:
            words += [word for text in limit_texts(each.limits) for word in ("--window", each.when, each.zone, text)]
        return f"To undo it: limiter limits set {shlex.join([*words, *texts])}"
    return f"To undo it: limiter unblock {shlex.join([*words, *[word for text in texts for word in ('--limit', text)]])}"


def _texts(limits: Limits | None) -> str:
    return "nothing is stored there" if limits is None else ", ".join(limit_texts(limits))


def _show(target: Target, level: LimitsKey, before: Limits | None, after: Limits | None) -> None:
    from .documents import limit_documents

    document = {
        "entity_id": level.entity_id,
        "resource": level.resource,
        "before": None if before is None else limit_documents(before),
        "after": None if after is None else limit_documents(after),
    }
    row = (level.entity_id, level.resource, before and limit_texts(before), after and limit_texts(after))
    show(target.output, document, Table(("entity", "resource", "before", "after"), [row]))
