"""Decisions as CloudWatch metrics, one line of JSON each, in the embedded metric format that AWS Lambda's log is read for.

    limiter = SyncRateLimiter(repository, limits, on_decision=emit)
    limiter = SyncRateLimiter(repository, limits, on_decision=emit(dimensions={"Service": "checkout"}, by_resource=True))

Needs no other library and makes no call. Outside of AWS Lambda the CloudWatch agent reads the same lines.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..events import DecisionEvent

__all__ = ["emit"]

METRICS = {
    "Decisions": "Count",
    "Refusals": "Count",
    "Degraded": "Count",
    "DecisionTime": "Milliseconds",
    "WaitTime": "Milliseconds",
}
"""The metrics of each line, with CloudWatch's units."""


@overload
def emit(event: DecisionEvent, /) -> None: ...


@overload
def emit(
    *,
    namespace: str = "limiter",
    dimensions: Mapping[str, str] | None = None,
    by_resource: bool = False,
    write: Callable[[str], object] | None = None,
) -> Callable[[DecisionEvent], None]: ...


def emit(
    event: DecisionEvent | None = None,
    /,
    *,
    namespace: str = "limiter",
    dimensions: Mapping[str, str] | None = None,
    by_resource: bool = False,
    write: Callable[[str], object] | None = None,
) -> Callable[[DecisionEvent], None] | None:
    """Write a decision as a line of metrics to standard output; without an event, return a hook that does so, for `on_decision`.

    `namespace` is CloudWatch's. `dimensions` are added to every line. With `by_resource`, CloudWatch keeps metrics for each
    resource too, and charges for each. Entity, resource and the limits that refused are fields of the line in any case, which
    Logs Insights can search. `write` receives a line without its newline, and must not block.
    """
    fixed = dict(dimensions or {})
    sets = [sorted(fixed), *([[*sorted(fixed), "Resource"]] if by_resource else [])]
    hook = partial(_write, namespace, fixed, sets, write or _print)
    return hook if event is None else hook(event)


def _write(
    namespace: str, fixed: dict[str, str], sets: list[list[str]], write: Callable[[str], object], event: DecisionEvent
) -> None:
    metrics = [{"Name": name, "Unit": unit} for name, unit in METRICS.items()]
    line: dict[str, Any] = {
        "_aws": {
            "Timestamp": time.time_ns() // 1_000_000,
            "CloudWatchMetrics": [{"Namespace": namespace, "Dimensions": sets, "Metrics": metrics}],
        },
        **fixed,
        "Resource": event.resource,
        "EntityId": event.entity_id,
        "RefusedBy": []
        if event.allowed
        else sorted({each.limit.name for each in event.statuses if each.exceeded and each.limit.enforce}),
        "Decisions": 1,
        "Refusals": int(not event.allowed),
        "Degraded": int(event.degraded),
        "DecisionTime": round(event.seconds * 1000, 3),
        "WaitTime": round(event.waited * 1000, 3),
    }
    write(json.dumps(line))


def _print(line: str) -> None:
    # One write: lines of several threads do not mix.
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
