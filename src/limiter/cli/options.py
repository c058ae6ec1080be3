"""The options that all commands share, and the ways to AWS that they open."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..sync_limiter import SyncRateLimiter

Function = TypeVar("Function", bound="Callable[..., Any]")
FORMATS = ("table", "json", "text")


@dataclass(frozen=True, slots=True)
class Target:
    """Where AWS is, which namespace is meant, and how to show what is found."""

    region: str | None
    profile: str | None
    endpoint_url: str | None
    namespace: str
    output: str

    def session(self) -> Any:
        """A session of boto3; raises `ConfigurationError` when there is no such profile."""
        import boto3
        from botocore.exceptions import BotoCoreError

        try:
            return boto3.Session(profile_name=self.profile, region_name=self.region)
        except BotoCoreError as error:
            raise ConfigurationError(f"{error}: choose another one with --profile or AWS_PROFILE") from error

    def aws(self) -> dict[str, Any]:
        """What the stack manager and discovery need."""
        return {"region": self.region, "endpoint_url": self.endpoint_url, "session": self.session()}

    @contextmanager
    def limiter(self, stack: str) -> Iterator[SyncRateLimiter]:
        """A limiter on the stack's table, which reads stored limits anew and waits longer for AWS than a server would."""
        from ..sync_limiter import SyncRateLimiter
        from ..sync_repository import SyncRepository

        repository = SyncRepository(stack, namespace=self.namespace, connect_timeout=5.0, read_timeout=10.0, **self.aws())
        try:
            yield SyncRateLimiter(repository, config_ttl=0)
        finally:
            repository.close()


def aws_options(function: Function) -> Function:
    """Give a command the options of every command, as one parameter `target`."""

    @click.option("--region", help="AWS region.  [default: AWS_DEFAULT_REGION, or the profile's]")
    @click.option("--profile", help="Profile in the AWS files.  [default: AWS_PROFILE]")
    @click.option("--endpoint-url", metavar="URL", help="Another endpoint than AWS's own, such as that of `limiter local`.")
    @click.option(
        "--namespace", envvar="LIMITER_NAMESPACE", show_envvar=True, default="default", show_default=True, help="The tenant."
    )
    @click.option(
        "--output",
        "-o",
        type=click.Choice(FORMATS),
        envvar="LIMITER_OUTPUT",
        show_envvar=True,
        default="table",
        show_default=True,
        help="For people, for programs, or tab-separated.",
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

    return command  # type: ignore[return-value] # the same, with other parameters


stack_argument = click.argument("stack", envvar="LIMITER_STACK")
"""The stack of commands that are about stacks: an argument, or LIMITER_STACK."""

stack_option = click.option(
    "--stack", "-s", envvar="LIMITER_STACK", show_envvar=True, required=True, metavar="STACK", help="The stack."
)
"""The stack of commands that are about what it holds: an option, or LIMITER_STACK."""

yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")

timeout_option = click.option(
    "--timeout", type=click.FloatRange(min=1), default=1800.0, show_default=True, metavar="SECONDS", help="How long to wait."
)


def confirm(question: str, *, yes: bool) -> None:
    """Ask, unless `yes`; raises `UsageError` when nobody is there to answer, and `ClickException` when the answer is no."""
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody is there to answer: say --yes.")
    if not click.confirm(question, err=True):
        raise click.ClickException("not confirmed, so nothing was done")
