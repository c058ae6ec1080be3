"""CloudFormation, as far as the stack manager needs it, following a script: stacks, change sets, events, failures, throttling.

It behaves as the service does where that is a trap: events come newest first and in pages, a stack in review has no tags, a
deleted stack is found by its id only, a change set without changes is a failed one, and executing one deletes all others.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TABLE, POLICY, ROLE = "AWS::DynamoDB::Table", "AWS::IAM::ManagedPolicy", "AWS::IAM::Role"
STACK = "AWS::CloudFormation::Stack"
OWN_TAGS = {"limiter:managed-by": "dynamodb-limiter", "limiter:version": "0.0.1", "limiter:schema-version": "1"}
EPOCH = datetime(2027, 1, 15, tzinfo=UTC)

Entry = tuple[str, str, str]
"""A resource, its status and a reason; the resource "" is the stack itself."""
Step = tuple[str, list[Entry]]
"""The stack's status from here on, and its events."""

SUCCESS: dict[str, list[Step]] = {
    "CREATE": [
        ("CREATE_IN_PROGRESS", [("", "CREATE_IN_PROGRESS", "User Initiated")]),
        ("CREATE_IN_PROGRESS", [("Table", "CREATE_IN_PROGRESS", ""), ("Table", "CREATE_COMPLETE", "")]),
        ("CREATE_COMPLETE", [("", "CREATE_COMPLETE", "")]),
    ],
    "UPDATE": [
        ("UPDATE_IN_PROGRESS", [("", "UPDATE_IN_PROGRESS", "User Initiated")]),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", [("Table", "UPDATE_COMPLETE", "")]),
        ("UPDATE_COMPLETE", [("", "UPDATE_COMPLETE", "")]),
    ],
    "DELETE": [
        ("DELETE_IN_PROGRESS", [("", "DELETE_IN_PROGRESS", "User Initiated")]),
        ("DELETE_COMPLETE", [("Table", "DELETE_COMPLETE", ""), ("", "DELETE_COMPLETE", "")]),
    ],
}


def failed_creation(reason: str, end: str = "ROLLBACK_COMPLETE") -> list[Step]:
    """A creation in which the table fails first and the policies are cancelled in consequence."""
    return [
        ("CREATE_IN_PROGRESS", [("", "CREATE_IN_PROGRESS", "User Initiated"), ("Table", "CREATE_IN_PROGRESS", "")]),
        (
            "ROLLBACK_IN_PROGRESS",
            [
                ("ReadPolicy", "CREATE_FAILED", "Resource creation cancelled"),
                ("Table", "CREATE_FAILED", reason),
                ("AdminPolicy", "CREATE_FAILED", "Resource creation cancelled"),
                ("", "ROLLBACK_IN_PROGRESS", "The following resource(s) failed to create: [Table, ReadPolicy]."),
            ],
        ),
        (end, [("Table", "DELETE_COMPLETE", ""), ("", end, "")]),
    ]


def failed_update(reason: str, end: str = "UPDATE_ROLLBACK_COMPLETE") -> list[Step]:
    """An update in which the table fails and the stack is rolled back."""
    return [
        ("UPDATE_IN_PROGRESS", [("", "UPDATE_IN_PROGRESS", "User Initiated"), ("Table", "UPDATE_FAILED", reason)]),
        ("UPDATE_ROLLBACK_IN_PROGRESS", [("", "UPDATE_ROLLBACK_IN_PROGRESS", "The following resource(s) failed to update")]),
        (end, [("", end, "")]),
    ]


@dataclass
class Stack:
    """A stack as the service holds it."""

    name: str
    stack_id: str
    status: str
    tags: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    template: str = ""
    protected: bool = False
    resources: dict[str, str] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    change_sets: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: deque[Step] = field(default_factory=deque)
    previous: tuple[dict[str, str], dict[str, str], str] | None = None


class Cloud:
    """The services. Every look at a stack moves its operation on by one step; waiting moves the clock."""

    def __init__(self, page_size: int = 100) -> None:
        self.page_size = page_size
        self.now = 0.0
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.stacks: list[Stack] = []
        self.tables: dict[str, dict[str, Any]] = {}
        self.outcomes: dict[str, deque[list[Step]]] = {"CREATE": deque(), "UPDATE": deque(), "DELETE": deque()}
        self.changes: list[dict[str, Any]] | None = None
        self.refusal: str | None = None
        self.holders: dict[str, list[tuple[str, str]]] = {}
        self.drifts: list[dict[str, Any]] = []
        self.drift_status = "DETECTION_COMPLETE"
        self.before: dict[str, deque[Callable[[], None]]] = {}
        self._numbers = itertools.count(1)

    def clock(self) -> float:
        """Seconds."""
        return self.now

    def add(self, name: str, status: str = "CREATE_COMPLETE", *, own: bool = True, **attributes: Any) -> Stack:
        """Add a stack with its table."""
        stack = Stack(name, f"arn:aws:cloudformation:us-east-1:1:stack/{name}/{next(self._numbers)}", status, **attributes)
        stack.tags = {**(OWN_TAGS if own else {}), **stack.tags}
        self.stacks.append(stack)
        if status != "REVIEW_IN_PROGRESS" and "ROLLBACK_COMPLETE" not in status:
            stack.resources["Table"] = "CREATE_COMPLETE"
            self.tables[name] = {"TableStatus": "ACTIVE", "TableSizeBytes": 2048, "ItemCount": 7}
        return stack

    def fail(self, action: str, *errors: Exception) -> None:
        """Respond to the next calls of an action with these errors."""
        for error in errors:
            self.before.setdefault(action, deque()).append(_raiser(error))

    def interfere(self, action: str, do: Callable[[], None]) -> None:
        """Do something right before the next call of an action."""
        self.before.setdefault(action, deque()).append(do)

    def begin(self, stack: Stack, steps: Iterable[Step]) -> None:
        """Begin an operation, which moves on with every look."""
        stack.steps = deque(steps)
        self._advance(stack)

    def count(self, action: str) -> int:
        """Return how often an action was called."""
        return sum(each == action for each, _ in self.calls)

    def last(self, action: str) -> dict[str, Any]:
        """Return the parameters of the last call of an action."""
        return next(parameters for each, parameters in reversed(self.calls) if each == action)

    def respond(self, method: str, parameters: dict[str, Any]) -> Any:
        """Respond to one call."""
        action = "".join(part.capitalize() for part in method.split("_"))
        self.calls.append((action, parameters))
        if queue := self.before.get(action):
            queue.popleft()()
        return getattr(self, f"_{method}")(**parameters)

    def _describe_stacks(self, StackName: str | None = None, NextToken: str = "0") -> Any:  # noqa: N803 - AWS's names
        if StackName is not None:
            stack = self._find(StackName)
            self._advance(stack)
            return {"Stacks": [self._described(stack)]}
        living = [stack for stack in self.stacks if stack.status != "DELETE_COMPLETE"]
        return self._page("Stacks", [self._described(stack) for stack in living], NextToken)

    def _describe_stack_events(self, StackName: str, NextToken: str = "0") -> Any:  # noqa: N803
        return self._page("StackEvents", self._find(StackName).events[::-1], NextToken)

    def _list_stack_resources(self, StackName: str, NextToken: str = "0") -> Any:  # noqa: N803
        resources = self._find(StackName).resources.items()
        found = [
            {
                "LogicalResourceId": name,
                "ResourceType": TABLE if name == "Table" else ROLE if name.endswith("Role") else POLICY,
                "PhysicalResourceId": f"{StackName.rpartition('/')[0].rpartition('/')[2]}-{name}",
                "ResourceStatus": status,
            }
            for name, status in resources
        ]
        return self._page("StackResourceSummaries", found, NextToken)

    def _list_change_sets(self, StackName: str, NextToken: str = "0") -> Any:  # noqa: N803
        return self._page("Summaries", [{"ChangeSetName": name} for name in self._find(StackName).change_sets], NextToken)

    def _create_change_set(self, StackName: str, ChangeSetName: str, ChangeSetType: str, **request: Any) -> Any:  # noqa: N803
        living = [stack for stack in self.stacks if stack.name == StackName and stack.status != "DELETE_COMPLETE"]
        if ChangeSetType == "CREATE" and not living:
            stack = self.add(StackName, "REVIEW_IN_PROGRESS", own=False)
            self._record(stack, ("", "REVIEW_IN_PROGRESS", "User Initiated"))
        else:
            stack = self._find(StackName)
        allowed = stack.status == "REVIEW_IN_PROGRESS" if ChangeSetType == "CREATE" else _can_be_updated(stack.status)
        if not allowed:
            raise refused("ValidationError", f"Stack:{stack.stack_id} is in {stack.status} state and can not be updated.")
        request["looks"] = 1
        stack.change_sets[ChangeSetName] = {**request, "ChangeSetName": ChangeSetName, "type": ChangeSetType}
        return {"Id": ChangeSetName, "StackId": stack.stack_id}

    def _describe_change_set(self, StackName: str, ChangeSetName: str, NextToken: str = "0") -> Any:  # noqa: N803
        stack = self._find(StackName)
        request = self._change_set(stack, ChangeSetName)
        head = {"ChangeSetName": ChangeSetName, "ChangeSetId": ChangeSetName, "StackId": stack.stack_id, "Tags": request["Tags"]}
        if request["looks"]:
            request["looks"] -= 1
            return {**head, "Status": "CREATE_IN_PROGRESS"}
        if self.refusal:
            return {**head, "Status": "FAILED", "StatusReason": self.refusal}
        if request["type"] == "UPDATE" and self._is_unchanged(stack, request):
            reason = "The submitted information didn't contain changes. Submit different information to create a change set."
            return {**head, "Status": "FAILED", "StatusReason": reason}
        action = "Add" if request["type"] == "CREATE" else "Modify"
        changes = [change("Table", TABLE, action)] if self.changes is None else self.changes
        return {**head, "Status": "CREATE_COMPLETE", **self._page("Changes", changes, NextToken)}

    def _delete_change_set(self, StackName: str, ChangeSetName: str) -> Any:  # noqa: N803
        self._find(StackName).change_sets.pop(ChangeSetName, None)
        return {}

    def _execute_change_set(self, StackName: str, ChangeSetName: str, **_: Any) -> Any:  # noqa: N803
        stack = self._find(StackName)
        request = self._change_set(stack, ChangeSetName)
        stack.change_sets.clear()
        stack.previous = (stack.tags, stack.parameters, stack.template)
        stack.template = request["TemplateBody"]
        stack.tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        kept = {each["ParameterKey"] for each in request["Parameters"] if each.get("UsePreviousValue")}
        stack.parameters = {name: value for name, value in stack.parameters.items() if name in kept}
        given = (each for each in request["Parameters"] if "ParameterValue" in each)
        stack.parameters |= {each["ParameterKey"]: each["ParameterValue"] for each in given}
        stack.steps = deque(self._outcome(request["type"]))
        if request["type"] == "CREATE":
            stack.resources["Table"] = "CREATE_COMPLETE"
            self.tables[stack.name] = {"TableStatus": "ACTIVE", "TableSizeBytes": 0, "ItemCount": 0}
        return {}

    def _delete_stack(self, StackName: str, **_: Any) -> Any:  # noqa: N803
        stack = self._find(StackName)
        if stack.steps:
            raise refused("ValidationError", f"Stack [{stack.name}] cannot be deleted while in status {stack.status}")
        if stack.status == "REVIEW_IN_PROGRESS":
            stack.status = "DELETE_COMPLETE"
        elif stack.status != "DELETE_COMPLETE":
            stack.steps = deque(self._outcome("DELETE"))
        return {}

    def _detect_stack_drift(self, StackName: str) -> Any:  # noqa: N803
        return {"StackDriftDetectionId": self._find(StackName).name}

    def _describe_stack_drift_detection_status(self, StackDriftDetectionId: str) -> Any:  # noqa: N803
        if self.count("DescribeStackDriftDetectionStatus") == 1:
            return {"DetectionStatus": "DETECTION_IN_PROGRESS"}
        return {"DetectionStatus": self.drift_status, "DetectionStatusReason": f"of {StackDriftDetectionId}"}

    def _describe_stack_resource_drifts(self, StackName: str, NextToken: str = "0") -> Any:  # noqa: N803
        self._find(StackName)
        return self._page("StackResourceDrifts", self.drifts, NextToken)

    def _describe_table(self, TableName: str) -> Any:  # noqa: N803
        if TableName not in self.tables:
            raise refused("ResourceNotFoundException", f"Requested resource not found: Table: {TableName} not found")
        return {"Table": self.tables[TableName]}

    def _list_entities_for_policy(self, PolicyArn: str, Marker: str = "0") -> Any:  # noqa: N803
        holders = self.holders.get(PolicyArn, [])
        page: dict[str, Any] = {"PolicyRoles": [], "PolicyUsers": [], "PolicyGroups": []}
        for kind, name in holders[int(Marker) : int(Marker) + self.page_size]:
            page[f"Policy{kind}s"].append({f"{kind}Name": name})
        end = int(Marker) + self.page_size
        return {**page, "IsTruncated": True, "Marker": str(end)} if end < len(holders) else {**page, "IsTruncated": False}

    def _find(self, name_or_id: str) -> Stack:
        for stack in self.stacks:
            if stack.stack_id == name_or_id or (stack.name == name_or_id and stack.status != "DELETE_COMPLETE"):
                return stack
        raise refused("ValidationError", f"Stack with id {name_or_id} does not exist")

    def _change_set(self, stack: Stack, name: str) -> dict[str, Any]:
        if name not in stack.change_sets:
            raise refused("ChangeSetNotFound", f"ChangeSet [{name}] does not exist")
        return stack.change_sets[name]

    def _outcome(self, kind: str) -> list[Step]:
        return self.outcomes[kind].popleft() if self.outcomes[kind] else SUCCESS[kind]

    def _advance(self, stack: Stack) -> None:
        if not stack.steps:
            return
        stack.status, entries = stack.steps.popleft()
        if stack.status.startswith("UPDATE_ROLLBACK") and stack.previous:
            stack.tags, stack.parameters, stack.template = stack.previous
        for entry in entries:
            self._record(stack, entry)
            if entry[0] and entry[1] == "DELETE_COMPLETE":
                stack.resources[entry[0]] = "DELETE_COMPLETE"
                self.tables.pop(stack.name, None)

    def _record(self, stack: Stack, entry: Entry) -> None:
        name, status, reason = entry
        event = {
            "EventId": f"event-{next(self._numbers)}",
            "StackId": stack.stack_id,
            "StackName": stack.name,
            "Timestamp": EPOCH + timedelta(seconds=self.now),
            "LogicalResourceId": name or stack.name,
            "PhysicalResourceId": f"{stack.name}-{name}" if name else stack.stack_id,
            "ResourceType": {"": STACK, "Table": TABLE}.get(name, POLICY),
            "ResourceStatus": status,
        }
        stack.events.append({**event, "ResourceStatusReason": reason} if reason else event)

    def _described(self, stack: Stack) -> dict[str, Any]:
        return {
            "StackName": stack.name,
            "StackId": stack.stack_id,
            "StackStatus": stack.status,
            "CreationTime": EPOCH,
            "Tags": [{"Key": key, "Value": value} for key, value in stack.tags.items()],
            "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in stack.parameters.items()],
            "Outputs": [{"OutputKey": "TableName", "OutputValue": stack.name}],
            "EnableTerminationProtection": stack.protected,
        }

    def _is_unchanged(self, stack: Stack, request: dict[str, Any]) -> bool:
        tags = {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        given = {each["ParameterKey"]: each.get("ParameterValue") for each in request["Parameters"]}
        values = {name: stack.parameters.get(name) if value is None else value for name, value in given.items()}
        return (stack.tags, stack.parameters, stack.template) == (tags, values, request["TemplateBody"])

    def _page(self, key: str, entries: list[Any], token: str) -> dict[str, Any]:
        end = int(token) + self.page_size
        page: dict[str, Any] = {key: entries[int(token) : end]}
        return {**page, "NextToken": str(end)} if end < len(entries) else page


def change(resource: str, kind: str, action: str, replacement: str = "False", *properties: str) -> dict[str, Any]:
    """Return an entry of DescribeChangeSet."""
    details = [{"Target": {"Attribute": "Properties", "Name": name}} for name in properties]
    described = {"LogicalResourceId": resource, "ResourceType": kind, "Action": action, "Details": details}
    return {"Type": "Resource", "ResourceChange": {**described, **({"Replacement": replacement} if action == "Modify" else {})}}


def refused(code: str, message: str = "", status: int = 400) -> ClientError:
    """Return an error response of AWS."""
    answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Operation")


def denied(action: str) -> ClientError:
    """Return AWS's response to a caller without the permission."""
    return refused("AccessDenied", f"User: arn:aws:iam::1:user/me is not authorized to perform: {action} on resource: *", 403)


def _can_be_updated(status: str) -> bool:
    return bool(re.fullmatch(r"(CREATE|UPDATE|IMPORT|UPDATE_ROLLBACK)_COMPLETE", status))


class Client:
    """A client whose methods are made by `respond`, called with the method's name and its parameters."""

    def __init__(self, respond: Callable[..., Any]) -> None:
        self.respond = respond

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return partial(self.respond, method)


def _raiser(error: Exception) -> Callable[[], None]:
    def throw() -> None:
        raise error

    return throw
