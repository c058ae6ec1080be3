"""The JSON documents of the command. Their names and meanings are stable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.limits import KINDS, Access
from .buckets import use_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..core.records import Limits
    from ..infra.change_set import Change, Plan
    from ..infra.drift import Drift
    from ..infra.stack_events import StackEvent
    from ..infra.stack_summary import StackSummary
    from ..models import BaseLimit, Decision, Entity, LimitStatus
    from .buckets import Seen
    from .holders import SlotUse

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


def use_document(use: SlotUse | None) -> dict[str, int] | None:
    """Return the document of the use of a limit's slots; None of a limit that has no slots."""
    return None if use is None else {"held": use.held, "holders": use.holders, "expired": use.expired}


def status_document(status: LimitStatus, use: SlotUse | None) -> dict[str, Any]:
    """Return the document of one limit's status, and of the use of its slots."""
    return {
        "entity_id": status.entity_id,
        "resource": status.resource,
        "limit": limit_document(status.limit),
        "requested": status.requested,
        "available": status.available,
        "exceeded": status.exceeded,
        "retry_after": status.retry_after,
        "reset_after": status.reset_after,
        "slots": use_document(use),
    }


def decision_document(decision: Decision, seen: Mapping[tuple[str, str], Seen]) -> dict[str, Any]:
    """Return the document of a decision, with what some of its buckets, by entity and resource, tell besides."""
    return {
        "allowed": decision.allowed,
        "retry_after": decision.retry_after,
        "paused": [
            {"entity_id": entity, "resource": resource, "seconds": each.paused_for}
            for (entity, resource), each in seen.items()
            if each.paused_for is not None
        ],
        "statuses": [status_document(each, use_in(seen, each)) for each in decision.statuses],
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
