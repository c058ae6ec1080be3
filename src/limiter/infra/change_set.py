"""Change sets: the request for one, and the changes in its description."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..exceptions import ReplacementRefused, ValidationError
from .ownership import own_tags, regions_in, users_tags
from .regions import check_settings, shown_regions
from .settings import render_template, stack_parameters

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .settings import StackSettings
    from .stack_summary import StackSummary

Action = Literal["Add", "Modify", "Remove", "Import", "Dynamic"]
Replacement = Literal["never", "possible", "always"]

NAME_PREFIX = "dynamodb-limiter-"
_TABLES = frozenset({"AWS::DynamoDB::Table", "AWS::DynamoDB::GlobalTable"})
_REPLACEMENT: dict[str, Replacement] = {"True": "always", "Conditional": "possible"}
_NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
UNCHANGED = {"Status": "FAILED", "StatusReason": _NO_CHANGES[1]}
"""The response of DescribeChangeSet when nothing would change."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one resource. `resource` is its logical id, `properties` are the properties that change."""

    resource: str
    resource_type: str
    action: Action
    replacement: Replacement = "never"
    properties: tuple[str, ...] = ()

    @property
    def destroys_table(self) -> bool:
        """Whether a table would be deleted with its items."""
        return self.resource_type in _TABLES and (self.action == "Remove" or self.replacement == "always")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a deploy would do. With `recreates`, it would first delete a stack whose creation has failed.

    `changed` can be true without any `changes`, for example when only the tags of the stack itself change.
    """

    stack: str
    creates: bool
    changed: bool
    changes: tuple[Change, ...] = ()
    recreates: bool = False

    @property
    def replacements(self) -> tuple[Change, ...]:
        """The changes that replace a resource, or may replace it."""
        return tuple(change for change in self.changes if change.replacement != "never")


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a deploy did. `changed` is false when there was nothing to change."""

    stack: StackSummary
    changed: bool
    changes: tuple[Change, ...] = ()


def change_set_request(
    name: str, change_set: str, stack: StackSummary | None, settings: StackSettings, *, adopt: bool
) -> dict[str, Any]:
    """Return the parameters of CreateChangeSet for the stack `name`; `stack` is None when it does not exist."""
    retain = settings.retain if settings.retain is not None else stack is not None and stack.retains_table
    tags = settings.tags if settings.tags is not None else users_tags(stack.tags if stack else {})
    regions, witness = _regions(name, stack if stack and stack.phase == "ready" else None, settings)
    own = own_tags(retain=retain, regions=regions, witness=witness)
    request: dict[str, Any] = {
        "StackName": name,
        "ChangeSetName": change_set,
        "ClientToken": change_set,
        "ChangeSetType": "UPDATE" if stack and stack.phase == "ready" else "CREATE",
        "TemplateBody": render_template(retain=retain, regions=regions, witness=witness),
        "Parameters": stack_parameters(settings, stack.parameters if stack and stack.phase == "ready" else {}),
        "Tags": [{"Key": key, "Value": value} for key, value in {**tags, **own}.items()],
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
    }
    if adopt:
        request["ImportExistingResources"] = True
    return request


def _regions(name: str, stack: StackSummary | None, settings: StackSettings) -> tuple[tuple[str, ...], str | None]:
    """Return the Regions and the witness of the table; raises `ValidationError` if those of an existing one would change."""
    regions, witness = settings.regions or (), settings.witness
    if stack is None:
        return regions, witness
    present = regions_in(stack.tags)
    if settings.regions is not None and (set(regions), witness) != (set(present[0]), present[1]):
        raise ValidationError(
            f"the regions of a table cannot be changed, and stack {name!r} has {shown_regions(*present)}: deploy a stack with "
            f"another name and migrate to it"
        )
    if present[0]:
        check_settings(settings)
    return present


def is_finished(answer: Mapping[str, Any]) -> bool:
    """Tell whether CloudFormation has finished the comparison, according to DescribeChangeSet."""
    return answer["Status"] in {"CREATE_COMPLETE", "FAILED"}


def is_failed(answer: Mapping[str, Any]) -> bool:
    """Tell whether the change set failed; CloudFormation also reports a change set without changes as failed."""
    return bool(answer["Status"] == "FAILED")


def is_unchanged(answer: Mapping[str, Any]) -> bool:
    """Tell whether nothing would change."""
    return is_failed(answer) and any(text in answer.get("StatusReason", "") for text in _NO_CHANGES)


def read_changes(entries: Iterable[Mapping[str, Any]]) -> tuple[Change, ...]:
    """Return the changes in the entries of DescribeChangeSet."""
    return tuple(_read_change(entry["ResourceChange"]) for entry in entries if "ResourceChange" in entry)


def _read_change(change: Mapping[str, Any]) -> Change:
    targets = [detail.get("Target", {}) for detail in change.get("Details", ())]
    # The same property is listed once for each cause of its change.
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
                f"deploying stack {name!r} would replace or remove its table{cause}, and delete every limit, entity and bucket; "
                f"nothing was changed. Deploy a stack with another name and migrate to it"
            )
