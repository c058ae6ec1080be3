"""Which of CloudFormation's events is the cause."""

from __future__ import annotations

import pickle

import pytest

from limiter import StackEvent, StackFailed
from limiter.infra.stack_events import failure, first_failure, take_new
from limiter.infra.stack_summary import StackSummary, phase


def event(number: int, status: str, reason: str = "", *, resource: str = "Table", of_stack: bool = False) -> StackEvent:
    """An event."""
    return StackEvent(f"event-{number}", None, resource, "AWS::DynamoDB::Table", status, reason, of_stack)


def test_the_first_failure_that_is_no_cancellation() -> None:
    """Resources that CloudFormation cancels because another one failed come before the cause as often as after it."""
    events = [
        event(1, "CREATE_IN_PROGRESS"),
        event(2, "CREATE_FAILED", "Resource creation cancelled", resource="A"),
        event(3, "CREATE_FAILED", "Resource update canceled", resource="B"),
        event(4, "CREATE_FAILED", "Limit exceeded", resource="C"),
        event(5, "CREATE_FAILED", "Also bad", resource="D"),
    ]
    found = first_failure(events)
    assert found is not None
    assert found.resource == "C"


def test_a_cancellation_is_better_than_nothing() -> None:
    """When all that failed was cancelled, the first of it is named."""
    events = [event(1, "DELETE_FAILED", "Resource deletion cancelled"), event(2, "ROLLBACK_IN_PROGRESS", "x", of_stack=True)]
    assert first_failure(events) == events[0]


def test_the_stack_gives_a_reason_when_no_resource_does() -> None:
    """As when a hook refuses a stack or a user cancels an update."""
    events = [
        event(1, "UPDATE_IN_PROGRESS", "User Initiated", of_stack=True),
        event(2, "UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated cancellation", of_stack=True),
    ]
    assert first_failure(events) == events[1]


def test_nothing_failed() -> None:
    """Without a failure there is no cause."""
    assert first_failure([event(1, "CREATE_COMPLETE")]) is None
    assert first_failure([]) is None


def test_new_events_end_at_the_one_seen() -> None:
    """Events come newest first; what was seen, and all behind it, is old."""
    page = [event(3, "CREATE_COMPLETE"), event(2, "CREATE_IN_PROGRESS"), event(1, "CREATE_IN_PROGRESS", of_stack=True)]
    assert take_new(page, "event-2") == (page[:1], True)
    assert take_new(page, "event-3") == ([], True)
    assert take_new(page, "event-0") == (page, False)


def test_new_events_end_at_the_operations_start() -> None:
    """Without an event to start from, those of the last operation are taken, its first included."""
    page = [event(4, "UPDATE_COMPLETE"), event(3, "UPDATE_IN_PROGRESS", of_stack=True), event(2, "CREATE_COMPLETE")]
    assert take_new(page, None) == (page[:2], True)
    assert take_new(page[2:], None) == (page[2:], False)


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("User x is not authorized to perform: iam:CreateRole on resource y", "allow iam:CreateRole"),
        ("my-app already exists in stack arn", "--retain --adopt"),
        ("Table is protected by deletion protection", "--no-deletion-protection"),
        ("Something else", "run the same command again"),
    ],
)
def test_every_failure_has_a_remedy(reason: str, remedy: str) -> None:
    """The message says what to do next, and the error survives being sent to another process."""
    stack = StackSummary("my-app", "arn", "ROLLBACK_COMPLETE")
    error = failure(stack, [event(1, "CREATE_FAILED", reason)], "deploying")
    assert remedy in str(error)
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert isinstance(copy, StackFailed)
    assert (str(copy), copy.resource, copy.reason, copy.status) == (str(error), "Table", reason, "ROLLBACK_COMPLETE")


def test_every_status_of_a_stack_has_a_phase() -> None:
    """Each status that botocore knows is placed; in particular, none that is settled counts as moving."""
    from botocore.session import get_session

    statuses = get_session().get_service_model("cloudformation").shape_for("StackStatus").enum
    assert {status: phase(status) for status in statuses if phase(status) in {"moving", "review"}}.keys() == {
        status for status in statuses if status.endswith("IN_PROGRESS")
    }
    assert [status for status in statuses if phase(status) == "stuck"] == [
        "UPDATE_FAILED",
        "UPDATE_ROLLBACK_FAILED",
        "IMPORT_ROLLBACK_FAILED",
    ]
