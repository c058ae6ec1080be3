"""Change sets: how to ask for one, and what it says would happen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..exceptions import ReplacementRefused
from .ownership import own_tags, users_tags
from .settings import stack_parameters
from .template import render

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .settings import StackSettings
    from .stack_summary import StackSummary

Action = Literal["Add", "Modify", "Remove", "Import", "Dynamic"]
Replacement = Literal["never", "possible", "always"]

NAME_PREFIX = "dynamodb-limiter-"
_TABLE = "AWS::DynamoDB::Table"
_REPLACEMENT: dict[str, Replacement] = {"True": "always", "Conditional": "possible"}
_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
UNCHANGED = {"Status": "FAILED", "StatusReason": _NO_CHANGES[1]}
"""What DescribeChangeSet says when nothing would change."""


@dataclass(frozen=True, slots=True)
class Change:
    """What would happen to one resource; `resource` is its logical id, `properties` are those that change."""

    resource: str
    resource_type: str
    action: Action
    replacement: Replacement = "never"
    properties: tuple[str, ...] = ()

    @property
    def destroys_table(self) -> bool:
        """Whether a table and what it holds would be deleted."""
        return self.resource_type == _TABLE and (self.action == "Remove" or self.replacement == "always")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a deploy would do. `recreates` says that it would first delete a stack whose creation had failed.

    `changed` can be true without any `changes`, as when only the tags of the stack itself change.
    """

    stack: str
    creates: bool
    changed: bool
    changes: tuple[Change, ...] = ()
    recreates: bool = False

    @property
    def replacements(self) -> tuple[Change, ...]:
        """The changes that replace, or may replace, a resource by a new one."""
        return tuple(change for change in self.changes if change.replacement != "never")


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a deploy did. `changed` is false when there was nothing to do."""

    stack: StackSummary
    changed: bool
    changes: tuple[Change, ...] = ()


def change_set_request(
    name: str, change_set: str, stack: StackSummary | None, settings: StackSettings, *, adopt: bool
) -> dict[str, Any]:
    """The parameters of CreateChangeSet for the stack `name`, which exists as `stack`, or does not."""
    retain = settings.retain if settings.retain is not None else stack is not None and stack.retains_table
    tags = settings.tags if settings.tags is not None else users_tags(stack.tags if stack else {})
    request: dict[str, Any] = {
        "StackName": name,
        "ChangeSetName": change_set,
        "ClientToken": change_set,
        "ChangeSetType": "UPDATE" if stack and stack.phase == "ready" else "CREATE",
        "TemplateBody": render(retain=retain),
        "Parameters": stack_parameters(settings, stack.parameters if stack and stack.phase == "ready" else {}),
        "Tags": [{"Key": key, "Value": value} for key, value in {**tags, **own_tags(retain=retain)}.items()],
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
    }
    if adopt:
        request["ImportExistingResources"] = True
    return request


def is_finished(answer: Mapping[str, Any]) -> bool:
    """Whether CloudFormation has finished comparing, as DescribeChangeSet says."""
    return answer["Status"] in {"CREATE_COMPLETE", "FAILED"}


def is_failed(answer: Mapping[str, Any]) -> bool:
    """Whether CloudFormation could not make the change set; it also calls it failed when nothing changes."""
    return bool(answer["Status"] == "FAILED")


def is_unchanged(answer: Mapping[str, Any]) -> bool:
    """Whether nothing would change."""
    return is_failed(answer) and any(text in answer.get("StatusReason", "") for text in _NO_CHANGES)


def read_changes(entries: Iterable[Mapping[str, Any]]) -> tuple[Change, ...]:
    """The changes in the entries of DescribeChangeSet."""
    return tuple(_read_change(entry["ResourceChange"]) for entry in entries if "ResourceChange" in entry)


def _read_change(change: Mapping[str, Any]) -> Change:
    targets = [detail.get("Target", {}) for detail in change.get("Details", ())]
    # The same property comes once for each of the causes of its change.
    properties = {target.get("Name") or target.get("Attribute", "") for target in targets}
    return Change(
        resource=change["LogicalResourceId"],
        resource_type=change.get("ResourceType", ""),
        action=change["Action"],
        replacement=_REPLACEMENT.get(change.get("Replacement", ""), "never"),
        properties=tuple(sorted(properties - {""})),
    )


def check_table_survives(name: str, changes: Iterable[Change]) -> None:
    """Raise `ReplacementRefused` when a change would delete a table."""
    for change in changes:
        if change.destroys_table:
            cause = f" (because of {', '.join(change.properties)})" if change.properties else ""
            raise ReplacementRefused(
                f"deploying stack {name!r} would replace or remove its table{cause}, and with it every limit, entity and bucket; "
                f"nothing was changed. Deploy a stack of another name and move over to it"
            )
