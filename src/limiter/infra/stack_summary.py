"""A stack and its table as AWS describes them, and what the status allows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from .ownership import RETAIN_TAG, VERSION_TAG, is_own, schema_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

Phase = Literal["review", "moving", "ready", "dead", "stuck", "gone"]
"""What can be done with a stack.

review: a change set exists, but no resource; moving: an operation is running; ready: it can be updated; dead: its creation or
deletion failed, and it can only be deleted; stuck: an operator has to intervene; gone: it is deleted.
"""

SUCCEEDED = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"})
_READY = SUCCEEDED | {"UPDATE_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"}
_DEAD = frozenset({"CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"})


@dataclass(frozen=True, slots=True)
class TableSummary:
    """A table as DynamoDB describes it. DynamoDB updates `size_bytes` and `items` about every six hours."""

    status: str
    size_bytes: int
    items: int
    deletion_protection: bool


@dataclass(frozen=True, slots=True)
class StackSummary:
    """A stack that the limiter deployed. `table` is None when it does not exist or must not be described."""

    name: str
    stack_id: str
    status: str
    reason: str = ""
    created: datetime | None = None
    updated: datetime | None = None
    tags: Mapping[str, str] = field(default_factory=dict, hash=False)
    parameters: Mapping[str, str] = field(default_factory=dict, hash=False)
    outputs: Mapping[str, str] = field(default_factory=dict, hash=False)
    termination_protection: bool = False
    table: TableSummary | None = None

    @property
    def phase(self) -> Phase:
        """What can be done with the stack."""
        return phase(self.status)

    @property
    def own(self) -> bool:
        """Whether the limiter deployed it."""
        return is_own(self.tags)

    @property
    def version(self) -> str | None:
        """The version of the limiter that deployed it last; None when the tags record none."""
        return self.tags.get(VERSION_TAG)

    @property
    def schema_version(self) -> int | None:
        """The version of the table's layout; None when the tags record none."""
        return schema_version(self.tags)

    @property
    def retains_table(self) -> bool:
        """Whether the table is kept when the stack is deleted."""
        return self.tags.get(RETAIN_TAG) == "true"


def phase(status: str) -> Phase:
    """Return what can be done with a stack in this status."""
    if status == "REVIEW_IN_PROGRESS":
        return "review"
    if status == "DELETE_COMPLETE":
        return "gone"
    if status.endswith("_IN_PROGRESS"):
        return "moving"
    if status in _READY:
        return "ready"
    return "dead" if status in _DEAD else "stuck"


def read_stack(answer: Mapping[str, Any]) -> StackSummary:
    """Return the stack in one entry of DescribeStacks."""
    return StackSummary(
        name=answer["StackName"],
        stack_id=answer.get("StackId", answer["StackName"]),
        status=answer["StackStatus"],
        reason=answer.get("StackStatusReason", ""),
        created=answer.get("CreationTime"),
        updated=answer.get("LastUpdatedTime"),
        tags=read_tags(answer.get("Tags", ())),
        parameters={each["ParameterKey"]: each.get("ParameterValue", "") for each in answer.get("Parameters", ())},
        outputs={each["OutputKey"]: each["OutputValue"] for each in answer.get("Outputs", ())},
        termination_protection=bool(answer.get("EnableTerminationProtection")),
    )


def read_table(answer: Mapping[str, Any]) -> TableSummary:
    """Return the table in the response of DescribeTable."""
    table = answer["Table"]
    return TableSummary(
        status=table["TableStatus"],
        size_bytes=table.get("TableSizeBytes", 0),
        items=table.get("ItemCount", 0),
        deletion_protection=bool(table.get("DeletionProtectionEnabled")),
    )


def read_tags(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return AWS's list of tags as a dict."""
    return {tag["Key"]: tag["Value"] for tag in tags}


def physical_ids(resources: Iterable[Mapping[str, Any]], kind: str) -> list[str]:
    """Return the physical ids of the existing resources of one type, as ListStackResources has them."""
    existing = (each for each in resources if each.get("ResourceType") == kind and each["ResourceStatus"] != "DELETE_COMPLETE")
    return [each["PhysicalResourceId"] for each in existing if each.get("PhysicalResourceId")]


def is_empty(resources: Iterable[Mapping[str, Any]]) -> bool:
    """Tell whether none of a stack's resources exists any more, as ListStackResources has them."""
    return all(resource["ResourceStatus"] == "DELETE_COMPLETE" for resource in resources)
