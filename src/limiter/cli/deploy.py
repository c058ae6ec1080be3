"""`limiter deploy` and `limiter plan`: a stack and everything that can be chosen about it."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import click

from .options import Function, aws_options, stack_argument, timeout_option
from .output import Table, progress, say, show

if TYPE_CHECKING:
    from ..infra.change_set import Change
    from ..infra.settings import StackSettings
    from .options import Target

_SETTINGS = (
    click.option("--billing-mode", type=click.Choice(["on-demand", "provisioned"]), help="[default: on-demand]"),
    click.option("--read-capacity", type=int, metavar="UNITS", help="Read units per second, when provisioned."),
    click.option("--write-capacity", type=int, metavar="UNITS", help="Write units per second, when provisioned."),
    click.option("--table-class", type=click.Choice(["standard", "infrequent-access"]), help="[default: standard]"),
    click.option("--point-in-time-recovery/--no-point-in-time-recovery", default=None, help="Backups of the last 35 days."),
    click.option("--deletion-protection/--no-deletion-protection", default=None, help="Nobody can delete the table."),
    click.option("--retain/--no-retain", default=None, help="Keep the table when the stack is deleted."),
    click.option("--kms-key", metavar="ARN", help='Encrypt with this key, or "aws/dynamodb", or "" for AWS\'s own.'),
    click.option("--policies/--no-policies", default=None, help="Managed policies acquire, read, admin.  [default: policies]"),
    click.option("--policy-namespace", "policy_namespace", metavar="NAME", help="Three more policies, confined to a namespace."),
    click.option("--name-prefix", metavar="TEXT", help="What the names of policies and roles begin with."),
    click.option("--iam-path", metavar="PATH", help="The path of policies and roles.  [default: /]"),
    click.option("--permissions-boundary", metavar="ARN", help="The policy that bounds the roles."),
    click.option("--trusted-principal", "trusted_principals", multiple=True, metavar="ARN", help="Who may assume the roles."),
    click.option("--trusted-service", "trusted_services", multiple=True, metavar="NAME", help="Services that may do so."),
    click.option("--alarms/--no-alarms", default=None, help="Alarms for throttling, errors and hot keys."),
    click.option("--alarm-topic-arn", metavar="ARN", help="Where alarms go.  [default: a topic of the stack's own]"),
    click.option("--alarm-email", metavar="ADDRESS", help="Who is subscribed to the stack's own topic."),
    click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag of yours; giving one replaces all of them."),
    click.option("--adopt", is_flag=True, help="Take over a table of this name that exists; needs --retain."),
)


def settings_options(function: Function) -> Function:
    """Give a command everything that can be chosen about a stack."""
    return reduce(lambda command, option: option(command), reversed(_SETTINGS), function)


@click.command()
@stack_argument
@settings_options
@timeout_option
@aws_options
def deploy(stack: str, target: Target, timeout: float, adopt: bool, **chosen: Any) -> None:
    """Create the stack STACK, or change it; nothing to change is success.

    What is not mentioned stays as it is. An operation that is under way is waited for first, so that an interrupted deploy is
    resumed by the same command. A stack of this name that the limiter did not deploy is never touched.
    """
    from ..infra.sync_stack_manager import SyncStackManager
    from .documents import change_document, stack_document

    settings = read_settings(chosen)
    manager = SyncStackManager(stack, **target.aws())
    try:
        done = manager.deploy(settings, adopt=adopt, timeout=timeout, on_event=progress)
    except KeyboardInterrupt:
        say("What CloudFormation has begun goes on. Run the same command again to wait for it.")
        raise
    say(f"Stack {stack} is deployed." if done.changed else f"Stack {stack} is up to date; nothing was changed.")
    changes = [change_document(change) for change in done.changes]
    document = {"changed": done.changed, "changes": changes, "stack": stack_document(done.stack)}
    show(target.output, document, Table(("output", "value"), sorted(done.stack.outputs.items())))


@click.command()
@stack_argument
@settings_options
@timeout_option
@aws_options
def plan(stack: str, target: Target, timeout: float, adopt: bool, **chosen: Any) -> None:
    """Show what `deploy` with the same options would do, and which resources it would replace; change nothing."""
    from ..infra.sync_stack_manager import SyncStackManager
    from .documents import plan_document

    manager = SyncStackManager(stack, **target.aws())
    found = manager.plan(read_settings(chosen), adopt=adopt, timeout=timeout, on_event=progress)
    if found.recreates:
        say(f"The creation of stack {stack} had failed: it would be deleted and created anew.")
    elif found.creates:
        say(f"Stack {stack} does not exist: it would be created.")
    elif not found.changed:
        say(f"Stack {stack} is up to date: nothing would be changed.")
    elif not found.changes:
        say(f"Only the tags of stack {stack} itself would change.")
    show(target.output, plan_document(found), changes_table(found.changes))


def changes_table(changes: tuple[Change, ...]) -> Table:
    """The changes of a change set."""
    replacement = {"never": "", "possible": "perhaps", "always": "yes"}
    rows = [
        (each.resource, each.resource_type, each.action, replacement[each.replacement], each.properties or None)
        for each in changes
    ]
    return Table(("resource", "type", "action", "replaced", "properties"), rows)


def read_settings(chosen: dict[str, Any]) -> StackSettings:
    """The settings that the options choose; what was not mentioned is None."""
    from ..infra.settings import StackSettings

    given = dict(chosen)
    given["namespace"] = given.pop("policy_namespace")
    given["tags"] = dict(map(_read_tag, given["tags"])) or None
    for name in ("trusted_principals", "trusted_services"):
        given[name] = tuple(each for each in given[name] if each) if given[name] else None
    return StackSettings(**given)


def _read_tag(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--tag")
    return key, value
