"""The options that all commands share, and how they lead to AWS."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from ..exceptions import ConfigurationError
from .groups import FORMATS, Function, SharedOption

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..core.records import Limits
    from ..sync_limiter import SyncRateLimiter


@dataclass(frozen=True, slots=True)
class Target:
    """Where to find AWS, which namespace is meant, and how to print results."""

    region: str | None
    profile: str | None
    endpoint_url: str | None
    namespace: str
    output: str
    _engines: set[str] = field(default_factory=set, compare=False)

    @property
    def embedded(self) -> bool:
        """Whether the embedded engine has answered a call of this command."""
        from ..local import ENGINE_NAME

        return ENGINE_NAME in self._engines

    def session(self) -> Any:
        """Make a boto3 session, which notes the engines that answer; raises `ConfigurationError` for an unknown profile."""
        import boto3
        from botocore.exceptions import BotoCoreError

        try:
            session = boto3.Session(profile_name=self.profile, region_name=self.region)
        except BotoCoreError as error:
            raise ConfigurationError(f"{error}: choose another one with --profile or AWS_PROFILE") from error
        session.events.register("after-call", self._note_engine)
        return session

    def _note_engine(self, parsed: Any, **_: Any) -> None:
        from ..local import ENGINE_HEADER

        self._engines.add(parsed.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get(ENGINE_HEADER, ""))

    def aws(self) -> dict[str, Any]:
        """Return the parameters that stack managers and repositories share."""
        return {"region": self.region, "endpoint_url": self.endpoint_url, "session": self.session()}

    @contextmanager
    def limiter(self, stack: str, limits: Limits | None = None) -> Iterator[SyncRateLimiter]:
        """Open a limiter on the stack's table, without a cache of limits and with more patience than in a server.

        With `limits`, stored ones are not read.
        """
        from ..sync_limiter import SyncRateLimiter
        from ..sync_repository import SyncRepository

        repository = SyncRepository(stack, namespace=self.namespace, connect_timeout=5.0, read_timeout=10.0, **self.aws())
        try:
            yield SyncRateLimiter(repository, () if limits is None else limits, config_ttl=0, stored=limits is None)
        finally:
            repository.close()


def aws_options(function: Function) -> Function:
    """Give a command the options of every command, as one parameter `target`."""

    @click.option("--region", cls=SharedOption, help="AWS region.  [default: AWS_DEFAULT_REGION, or the region of the profile]")
    @click.option("--profile", cls=SharedOption, help="Profile in the AWS files.  [default: AWS_PROFILE]")
    @click.option(
        "--endpoint-url",
        cls=SharedOption,
        metavar="URL",
        help="Endpoint other than AWS's own, such as that of `limiter local`.  [default: AWS_ENDPOINT_URL]",
    )
    @click.option(
        "--namespace",
        cls=SharedOption,
        envvar="LIMITER_NAMESPACE",
        show_envvar=True,
        default="default",
        show_default=True,
        help="Namespace of one tenant.",
    )
    @click.option(
        "--output",
        "-o",
        cls=SharedOption,
        type=click.Choice(FORMATS),
        envvar="LIMITER_OUTPUT",
        show_envvar=True,
        default="table",
        show_default=True,
        help="A table for people, JSON for programs, or tab-separated text.",
    )
    @wraps(function)
    def command(
        *arguments: Any,
        region: str | None,
        profile: str | None,
        endpoint_url: str | None,
        namespace: str,
        output: str,
        **options: Any,
    ) -> Any:
        return function(*arguments, target=Target(region, profile, endpoint_url, namespace, output), **options)

    return command  # type: ignore[return-value] # the same function with other parameters


def stack_option(function: Function) -> Function:
    """Give a command the parameter `stack` from --stack or LIMITER_STACK."""

    @_stack_flag
    @wraps(function)
    def command(*arguments: Any, stack: str | None, **options: Any) -> Any:
        return function(*arguments, stack=_required(stack), **options)

    return command  # type: ignore[return-value] # as above


def stack_argument(function: Function) -> Function:
    """Give a command the parameter `stack` from its argument STACK, --stack or LIMITER_STACK."""

    @click.argument("named", metavar="[STACK]", required=False)
    @_stack_flag
    @wraps(function)
    def command(*arguments: Any, named: str | None, stack: str | None, **options: Any) -> Any:
        given = click.get_current_context().get_parameter_source("stack")
        if named and stack and named != stack and given is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"two stacks are specified: {named!r}, and --stack {stack!r}")
        return function(*arguments, stack=_required(named or stack), **options)

    return command  # type: ignore[return-value] # as above


_stack_flag = click.option(
    "--stack",
    "-s",
    cls=SharedOption,
    envvar="LIMITER_STACK",
    show_envvar=True,
    metavar="STACK",
    help="Stack, which has its table's name.",
)


def _required(stack: str | None) -> str:
    if not stack:
        raise click.UsageError("no stack is specified; use --stack STACK or set LIMITER_STACK")
    return stack


yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")

timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=1800.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds to wait for CloudFormation.",
)


REGIONS = (
    click.option(
        "--regions",
        metavar="REGION,...",
        help="Three regions of one table that is consistent in all of them, or two with --witness.",
    ),
    click.option("--witness", metavar="REGION", help="Region that takes part in every write and holds no replica."),
)
"""The options for a table in several regions."""


def read_regions(text: str | None) -> tuple[str, ...] | None:
    """Return the regions in the text of an option."""
    return None if text is None else tuple(each.strip() for each in text.split(","))


def confirm(question: str, *, yes: bool) -> None:
    """Ask unless `yes`; raises `UsageError` outside a terminal, and `ClickException` unless the answer is yes."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError(f"{question} Not running in a terminal; pass --yes to confirm.")
    if not click.confirm(question, err=True):
        raise click.ClickException("not confirmed; nothing was done")
