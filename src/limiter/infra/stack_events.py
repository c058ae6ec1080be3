"""What CloudFormation reports while it works, and which of it is the cause of a failure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..exceptions import StackFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from .stack_summary import StackSummary

_STARTS = frozenset({"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "IMPORT_IN_PROGRESS"})
_CANCELLED = re.compile(r"\bcancell?ed\b", re.IGNORECASE)
_DENIED = re.compile(r"not authorized to perform:? ([\w-]+:\w+)")


@dataclass(frozen=True, slots=True)
class StackEvent:
    """One change of one resource; `resource` is its logical id, which for the stack itself is the stack's name."""

    event_id: str
    timestamp: datetime | None
    resource: str
    resource_type: str
    status: str
    reason: str = ""
    of_stack: bool = False

    @property
    def starts_operation(self) -> bool:
        """Whether an operation on the stack begins with it."""
        return self.of_stack and self.status in _STARTS

    @property
    def failed(self) -> bool:
        """Whether a resource failed by itself, rather than being cancelled because another one did."""
        return self.status.endswith("_FAILED") and not _CANCELLED.search(self.reason)


def read_event(answer: Mapping[str, Any]) -> StackEvent:
    """The event in one entry of DescribeStackEvents."""
    return StackEvent(
        event_id=answer["EventId"],
        timestamp=answer.get("Timestamp"),
        resource=answer.get("LogicalResourceId", ""),
        resource_type=answer.get("ResourceType", ""),
        status=answer.get("ResourceStatus", ""),
        reason=answer.get("ResourceStatusReason", ""),
        of_stack=answer.get("PhysicalResourceId") == answer.get("StackId"),
    )


def take_new(newest_first: Sequence[StackEvent], seen: str | None) -> tuple[list[StackEvent], bool]:
    """The events of one page that are new, and whether that was all of them.

    New is what happened after the event `seen`; without one, what belongs to the operation that began last.
    """
    new: list[StackEvent] = []
    for event in newest_first:
        if event.event_id == seen:
            return new, True
        new.append(event)
        if seen is None and event.starts_operation:
            return new, True
    return new, False


class Watch:
    """Remembers the events of an operation and passes each on, once and in order."""

    def __init__(self, on_event: Callable[[StackEvent], None] | None = None) -> None:
        self._on_event = on_event
        self.seen: str | None = None
        self.events: list[StackEvent] = []

    def begin(self, seen: str | None) -> None:
        """Expect the events of the next operation, which come after the event `seen`."""
        self.seen = seen
        self.events = []

    def feed(self, events: Iterable[StackEvent]) -> None:
        """Take events, oldest first."""
        for event in events:
            self.seen = event.event_id
            self.events.append(event)
            if self._on_event is not None:
                self._on_event(event)


def first_failure(events: Iterable[StackEvent]) -> StackEvent | None:
    """The event, of an operation's in order, that the failure began with.

    1. The first resource that failed by itself. 2. Failing that, the first resource that failed at all. 3. Failing that, the
    first reason that the stack gives for giving up.
    """
    listed = list(events)
    resources = [event for event in listed if not event.of_stack]
    candidates = (
        *(event for event in resources if event.failed),
        *(event for event in resources if event.status.endswith("_FAILED")),
        *(event for event in listed if event.of_stack and event.reason and ("ROLLBACK" in event.status or event.failed)),
    )
    return next(iter(candidates), None)


def failure(stack: StackSummary, events: Iterable[StackEvent], what: str) -> StackFailed:
    """The error for a stack that `what` (such as "deploying") left in its present status."""
    event = first_failure(events)
    reason = event.reason if event else stack.reason
    resource = event.resource if event and not event.of_stack else None
    subject = f"{resource} ({event.resource_type})" if event and resource else "CloudFormation"
    message = f"{what} stack {stack.name!r} failed and left it in {stack.status}: {subject}: {reason or 'no reason is given'}"
    return StackFailed(message + _remedy(stack, reason), stack.name, stack.status, resource, reason)


def _remedy(stack: StackSummary, reason: str) -> str:
    if denied := _DENIED.search(reason):
        return f"; allow {denied[1]} to whoever deploys"
    if "already exists" in reason:
        return f"; to take over a table that exists, keep it and adopt it: limiter deploy {stack.name} --retain --adopt"
    if stack.status == "UPDATE_ROLLBACK_FAILED":
        return f"; remove the cause, then: aws cloudformation continue-update-rollback --stack-name {stack.name}"
    if "deletion protection" in reason.lower():
        return f"; end it first: limiter deploy {stack.name} --no-deletion-protection"
    return "; remove the cause and run the same command again"
