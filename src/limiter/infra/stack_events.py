"""Events of CloudFormation: how an operation is followed, and which event caused a failure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..exceptions import StackBusy, StackFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from .stack_summary import StackSummary

_STARTS = frozenset({"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "IMPORT_IN_PROGRESS"})
_CANCELLED = re.compile(r"\bcancell?ed\b", re.IGNORECASE)
_DENIED = re.compile(r"not authorized to perform:? ([\w-]+:\w+)")
FIRST_LOOK, SLOWEST_LOOK, GROWTH = 1.0, 5.0, 1.3
"""Seconds before the second look at an operation, the longest time between two looks, and the factor between the two."""


@dataclass(frozen=True, slots=True)
class StackEvent:
    """A change of the status of one resource. `resource` is its logical id; for the stack itself, the stack's name."""

    event_id: str
    timestamp: datetime | None
    resource: str
    resource_type: str
    status: str
    reason: str = ""
    of_stack: bool = False

    @property
    def starts_operation(self) -> bool:
        """Whether an operation on the stack begins with this event."""
        return self.of_stack and self.status in _STARTS

    @property
    def failed(self) -> bool:
        """Whether the resource failed by itself, and was not cancelled because another resource failed."""
        return self.status.endswith("_FAILED") and not _CANCELLED.search(self.reason)


def read_event(answer: Mapping[str, Any]) -> StackEvent:
    """Return the event in one entry of DescribeStackEvents."""
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
    """Return the new events of one page, and whether there are no more on later pages.

    New are the events after the event `seen`; without `seen`, those of the latest operation.
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
    """Collects the events of an operation, and passes each to `on_event` once and in order."""

    def __init__(self, on_event: Callable[[StackEvent], None] | None = None) -> None:
        self._on_event = on_event
        self.seen: str | None = None
        self.events: list[StackEvent] = []

    def begin(self, seen: str | None) -> None:
        """Start with the next operation, whose events come after the event `seen`."""
        self.seen = seen
        self.events = []

    def feed(self, events: Iterable[StackEvent]) -> None:
        """Add events, oldest first."""
        for event in events:
            self.seen = event.event_id
            self.events.append(event)
            if self._on_event is not None:
                self._on_event(event)


class Pacing:
    """Spaces the looks at an operation, until `timeout` seconds have passed since it was made."""

    def __init__(self, stack: str, timeout: float, clock: Callable[[], float]) -> None:
        self._stack = stack
        self._timeout = timeout
        self._clock = clock
        self._end = clock() + timeout

    def delays(self) -> Iterator[float]:
        """Yield the seconds to wait before each next look, more each time; raises `StackBusy` when the time is over."""
        delay = FIRST_LOOK
        while True:
            left = self._end - self._clock()
            if left <= 0:
                raise StackBusy(
                    f"the operation on stack {self._stack!r} took longer than {self._timeout:g} s; it continues in AWS. Run the "
                    f"same command again to keep waiting, or check it with: limiter status {self._stack}"
                )
            yield min(delay, left)
            delay = min(delay * GROWTH, SLOWEST_LOOK)


def first_failure(events: Iterable[StackEvent]) -> StackEvent | None:
    """Return the event that caused the failure of an operation, given its events in order.

    1. The first resource that failed by itself. 2. Without one, the first resource that failed at all. 3. Without one, the
    first reason that the stack gives for its rollback.
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
    """Return the error for a stack that `what`, such as "deploying", left in its present status."""
    event = first_failure(events)
    reason = event.reason if event else stack.reason
    resource = event.resource if event and not event.of_stack else None
    subject = f"{resource} ({event.resource_type})" if event and resource else "CloudFormation"
    message = f"{what} stack {stack.name!r} failed and left it in {stack.status}: {subject}: {reason or 'no reason given'}"
    return StackFailed(message + _remedy(stack, reason), stack.name, stack.status, resource, reason)


def _remedy(stack: StackSummary, reason: str) -> str:
    if denied := _DENIED.search(reason):
        return f"; allow {denied[1]} to the credentials that deploy"
    if "already exists" in reason:
        return f"; to take over the existing table: limiter deploy {stack.name} --retain --adopt"
    if stack.status == "UPDATE_ROLLBACK_FAILED":
        return f"; remove the cause, then: aws cloudformation continue-update-rollback --stack-name {stack.name}"
    if "deletion protection" in reason.lower():
        return f"; remove it first: limiter deploy {stack.name} --no-deletion-protection"
    return "; remove the cause and run the same command again"
