"""`limiter deploy` and `limiter plan`: a stack and its settings."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import click

from .exit_codes import CHANGES, OK
from .imitation import noted
from .options import REGIONS, aws_options, read_regions, stack_argument, timeout_option
from .output import Table, progress, say, show

if TYPE_CHECKING:
    from ..infra.change_set import Change, Plan
    from ..infra.settings import StackSettings
    from .groups import Function
    from .options import Target

_SETTINGS = (
    click.option(
        "--billing-mode", type=click.Choice(["on-demand", "provisioned"]), help="Billing mode of the table.  [default: on-demand]"
    ),
    click.option("--read-capacity", type=int, metavar="UNITS", help="Read units per second with provisioned billing."),
    click.option("--write-capacity", type=int, metavar="UNITS", help="Write units per second with provisioned billing."),
    click.option("--max-read-units", type=int, metavar="UNITS", help="Most read units per second on demand; 0 for no maximum."),
    click.option("--max-write-units", type=int, metavar="UNITS", help="Most write units per second on demand; 0 for no maximum."),
    click.option(
        "--warm-read-units", type=int, metavar="UNITS", help="Read units per second that the table serves at once, from 12000."
    ),
    click.option(
        "--warm-write-units", type=int, metavar="UNITS", help="Write units per second that the table serves at once, from 4000."
    ),
    click.option("--table-class", type=click.Choice(["standard", "infrequent-access"]), help="Table class.  [default: standard]"),
    click.option("--point-in-time-recovery/--no-point-in-time-recovery", default=None, help="Keep backups of the last 35 days."),
    click.option("--deletion-protection/--no-deletion-protection", default=None, help="Refuse to delete the table."),
    click.option("--retain/--no-retain", default=None, help="Keep the table when the stack is deleted."),
    click.option(
        "--kms-key", metavar="ARN", help='Encrypt with this key, with "aws/dynamodb", or with "" for a key that AWS owns.'
    ),
    click.option(
        "--policies/--no-policies", default=None, help="Create the managed policies acquire, read and admin.  [default: policies]"
    ),
    click.option(
        "--policy-namespace", "policy_namespace", metavar="NAME", help="Create three more policies, restricted to this namespace."
    ),
    click.option("--name-prefix", metavar="TEXT", help="Prefix for the names of policies and roles."),
    click.option("--iam-path", metavar="PATH", help="IAM path of policies and roles.  [default: /]"),
    click.option("--permissions-boundary", metavar="ARN", help="Permissions boundary of the roles."),
    click.option(
        "--trusted-principal",
        "trusted_principals",
        multiple=True,
        metavar="ARN",
        help="Principal that may assume the roles; may be given several times.",
    ),
    click.option(
        "--trusted-service",
        "trusted_services",
        multiple=True,
        metavar="NAME",
        help="Service that may assume the roles; may be given several times.",
    ),
    click.option("--alarms/--no-alarms", default=None, help="Create alarms for throttling, errors and hot keys."),
    click.option("--alarm-topic-arn", metavar="ARN", help="Topic for the alarms.  [default: a new topic in the stack]"),
    click.option("--alarm-email", metavar="ADDRESS", help="Address subscribed to the new topic."),
    click.option("--dashboard/--no-dashboard", default=None, help="Create a CloudWatch dashboard."),
    click.option(
        "--dashboard-namespace",
        metavar="NAME",
        help="CloudWatch namespace of the metrics of decisions that the dashboard shows.  [default: limiter]",
    ),
    click.option(
        "--tag",
        "tags",
        multiple=True,
        metavar="KEY=VALUE",
        help="Custom tag; replaces all custom tags of the stack. May be given several times.",
    ),
    *REGIONS,
    click.option("--adopt", is_flag=True, help="Take over an existing table of this name; needs --retain."),
)


def settings_options(function: Function) -> Function:
    """Give a command an option for every setting of a stack."""
    return reduce(lambda command, option: option(command), reversed(_SETTINGS), function)


@click.command()
@stack_argument
@settings_options
@timeout_option
@aws_options
def deploy(stack: str, target: Target, timeout: float, adopt: bool, **chosen: Any) -> None:
    """Create or update a stack. Exits with 0 when there is nothing to change.

    Options you omit keep their current values. The command waits for a running operation first, so running it again resumes an
    interrupted deploy. It never touches a stack of this name that the limiter did not deploy.
    """
    from ..infra.sync_stack_manager import SyncStackManager
    from .documents import change_document, stack_document

    settings = read_settings(chosen)
    manager = SyncStackManager(stack, **target.aws())
    with noted("deploy", target):
        try:
            done = manager.deploy(settings, adopt=adopt, timeout=timeout, on_event=progress)
        except KeyboardInterrupt:
            say("CloudFormation continues the operation. Run the same command again to wait for it.")
            raise
        say(_outcome(stack, changed=done.changed, embedded=target.embedded))
    changes = [change_document(change) for change in done.changes]
    document = {"changed": done.changed, "changes": changes, "stack": stack_document(done.stack)}
    show(target.output, document, Table(("output", "value"), sorted(done.stack.outputs.items())))


def _outcome(stack: str, *, changed: bool, embedded: bool) -> str:
    """Return what a deploy has done, in one sentence."""
    if changed:
        return f"Deployed stack {stack}."
    known = "exists; whether it is as these settings say is unknown" if embedded else "is up to date"
    return f"Stack {stack} {known}; nothing was changed."


@click.command()
@stack_argument
@settings_options
@timeout_option
@aws_options
def plan(stack: str, target: Target, timeout: float, adopt: bool, **chosen: Any) -> int:
    """Show what `deploy` with the same options would change, and which resources it would replace. Changes nothing.

    Exits with 0 when nothing would change, and with 5 when something would.
    """
    from ..infra.sync_stack_manager import SyncStackManager
    from .documents import plan_document

    manager = SyncStackManager(stack, **target.aws())
    with noted("plan", target):
        found = manager.plan(read_settings(chosen), adopt=adopt, timeout=timeout, on_event=progress)
        say(_summary(found, embedded=target.embedded))
    document = plan_document(found)
    if target.embedded and not found.changed:
        document["changed"] = None
    show(target.output, document, changes_table(found.changes))
    return CHANGES if found.changed else OK


def _summary(plan: Plan, *, embedded: bool) -> str:
    """Return the plan in one sentence."""
    if plan.recreates:
        return f"The creation of stack {plan.stack} has failed; it would be deleted and created again."
    if plan.creates:
        return f"Stack {plan.stack} does not exist; it would be created."
    if embedded:
        known = "would change; which resources is unknown" if plan.changed else "exists; whether it would change is unknown"
        return f"Stack {plan.stack} {known}."
    if not plan.changed:
        return f"Stack {plan.stack} is up to date; nothing would change."
    if not plan.changes:
        return f"Only the tags of stack {plan.stack} itself would change."
    return f"Stack {plan.stack} would change."


def changes_table(changes: tuple[Change, ...]) -> Table:
    """Make a table of the changes in a change set."""
    replacement = {"never": "", "possible": "perhaps", "always": "yes"}
    rows = [
        (each.resource, each.resource_type, each.action, replacement[each.replacement], each.properties or None)
        for each in changes
    ]
    return Table(("resource", "type", "action", "replaced", "properties"), rows, expendable=("type",))


def read_settings(chosen: dict[str, Any]) -> StackSettings:
    """Return the settings that the options choose; omitted ones are None."""
    from ..infra.settings import StackSettings

    given = dict(chosen)
    given["namespace"] = given.pop("policy_namespace")
    given["tags"] = dict(map(_read_tag, given["tags"])) or None
    given["regions"] = read_regions(given["regions"])
    for name in ("trusted_principals", "trusted_services"):
        given[name] = tuple(each for each in given[name] if each) if given[name] else None
    return StackSettings(**given)


def _read_tag(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--tag")
    return key, value
