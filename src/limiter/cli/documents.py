"""The JSON documents of the command. Their names and meanings are stable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.limits import KINDS, Access

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..core.records import Limits
    from ..infra.change_set import Change, Plan
    from ..infra.drift import Drift
    from ..infra.stack_events import StackEvent
    from ..infra.stack_summary import StackSummary
    from ..models import BaseLimit, Decision, Entity, LimitStatus

_NUMBERS = ("refill_amount", "refill_period", "period", "zone", "seconds", "ttl")
"""What the kinds of limits have besides: a rate, a calendar quota, a session and slots."""


def stack_document(stack: StackSummary) -> dict[str, Any]:
    """Return the document of a stack and its table."""
    table = stack.table
    return {
        "name": stack.name,
        "stack_id": stack.stack_id,
        "status": stack.status,
        "reason": stack.reason,
        "version": stack.version,
        "schema_version": stack.schema_version,
        "created": stack.created,
        "updated": stack.updated,
        "retains_table": stack.retains_table,
        "termination_protection": stack.termination_protection,
        "parameters": dict(stack.parameters),
        "outputs": dict(stack.outputs),
        "tags": dict(stack.tags),
        "table": None
        if table is None
        else {
            "status": table.status,
            "size_bytes": table.size_bytes,
            "items": table.items,
            "deletion_protection": table.deletion_protection,
        },
    }


def change_document(change: Change) -> dict[str, Any]:
    """Return the document of a resource's change."""
    return {
        "resource": change.resource,
        "type": change.resource_type,
        "action": change.action,
        "replacement": change.replacement,
        "properties": list(change.properties),
    }


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return the document of a plan."""
    return {
        "stack": plan.stack,
        "creates": plan.creates,
        "recreates": plan.recreates,
        "changed": plan.changed,
        "changes": [change_document(change) for change in plan.changes],
    }


def event_document(event: StackEvent) -> dict[str, Any]:
    """Return the document of a stack's event."""
    return {
        "timestamp": event.timestamp,
        "resource": event.resource,
        "type": event.resource_type,
        "status": event.status,
        "reason": event.reason,
    }


def drift_document(drift: Drift) -> dict[str, Any]:
    """Return the document of a stack's drift."""
    return {
        "stack": drift.stack,
        "in_sync": drift.in_sync,
        "resources": [
            {
                "resource": each.resource,
                "type": each.resource_type,
                "status": each.status,
                "differences": [
                    {"path": one.path, "expected": one.expected, "actual": one.actual, "kind": one.kind}
                    for one in each.differences
                ],
            }
            for each in drift.resources
        ],
    }


def limit_document(limit: BaseLimit) -> dict[str, Any]:
    """Return the document of a limit: as text, and in numbers as far as its kind has them."""
    kind = next(name for name, kind in KINDS.items() if isinstance(limit, kind))
    document = {"text": str(limit), "name": limit.name, "kind": kind, "capacity": limit.capacity, "enforce": limit.enforce}
    return document | {name: getattr(limit, name) for name in _NUMBERS if hasattr(limit, name)}


def limit_documents(limits: Limits) -> list[dict[str, Any]]:
    """Return the document of each limit; of a level without limits, its text."""
    return [{"text": str(limits)}] if isinstance(limits, Access) else [limit_document(limit) for limit in limits]


def status_document(status: LimitStatus) -> dict[str, Any]:
    """Return the document of one limit's status."""
    return {
        "entity_id": status.entity_id,
        "resource": status.resource,
        "limit": limit_document(status.limit),
        "requested": status.requested,
        "available": status.available,
        "exceeded": status.exceeded,
        "retry_after": status.retry_after,
        "reset_after": status.reset_after,
    }


def decision_document(decision: Decision, paused: Mapping[tuple[str, str], float]) -> dict[str, Any]:
    """Return the document of a decision, with the seconds for which buckets are paused yet, by entity and resource."""
    return {
        "allowed": decision.allowed,
        "retry_after": decision.retry_after,
        "paused": [
            {"entity_id": entity, "resource": resource, "seconds": seconds} for (entity, resource), seconds in paused.items()
        ],
        "statuses": [status_document(status) for status in decision.statuses],
    }


def entity_document(entity: Entity) -> dict[str, Any]:
    """Return the document of an entity."""
    return {
        "entity_id": entity.entity_id,
        "parent_id": entity.parent_id,
        "cascade": entity.cascade,
        "name": entity.name,
        "metadata": dict(entity.metadata),
    }
