"""Groups of commands, and the options that may stand before or after a command's name."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Function = TypeVar("Function", bound="Callable[..., Any] | click.Command")

FORMATS = ("table", "json", "text")
_GIVEN = "limiter.cli.given"
_SIMILARITY = 0.6


class SharedOption(click.Option):
    """An option of every command; given before the command's name, it applies unless it is given again after it."""

    def consume_value(self, ctx: click.Context, opts: Mapping[str, Any]) -> tuple[Any, ParameterSource]:
        """Remember what the command line gives, and use what it gave before the command's name."""
        given = ctx.meta.setdefault(_GIVEN, {})
        value, source = super().consume_value(ctx, opts)
        if source is ParameterSource.COMMANDLINE:
            given[self.name] = value
        elif self.name in given:
            return given[self.name], ParameterSource.COMMANDLINE
        return value, source


class CommandGroup(click.Group):
    """A group that accepts the shared options before the command's name, and names commands similar to an unknown one."""

    def __init__(self, *arguments: Any, hidden_options: bool = True, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.params += [_shared_option(*flags, hidden=hidden_options, **rest) for flags, rest in _BEFORE]

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or raise `UsageError` with similar names."""
        name = args[0]
        if not name.startswith("-") and not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            similar = difflib.get_close_matches(name, self.list_commands(ctx), cutoff=_SIMILARITY)
            hint = f" Did you mean {' or '.join(map(repr, similar))}?" if similar else ""
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


def _shared_option(*flags: str, **attributes: Any) -> SharedOption:
    return SharedOption(flags, expose_value=False, **attributes)


_BEFORE: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("--stack", "-s"), {"metavar": "STACK", "help": "Stack, which has its table's name.  [env var: LIMITER_STACK]"}),
    (("--region",), {"help": "AWS region."}),
    (("--profile",), {"help": "Profile in the AWS files."}),
    (("--endpoint-url",), {"metavar": "URL", "help": "Endpoint other than AWS's own."}),
    (("--namespace",), {"help": "Namespace of one tenant.  [env var: LIMITER_NAMESPACE]"}),
    (("--output", "-o"), {"type": click.Choice(FORMATS), "help": "Output format.  [env var: LIMITER_OUTPUT]"}),
)
"""The shared options before a command's name: without defaults, which belong to the command."""


def group(function: Callable[..., Any]) -> CommandGroup:
    """Make a group of a function, whose docstring is the help text."""
    made: CommandGroup = click.group(cls=CommandGroup)(function)
    return made
