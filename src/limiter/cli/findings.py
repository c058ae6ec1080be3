"""The findings of `limiter doctor`, each with its remedy. The judgement, without the calls."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..aws.clock import MAX_SKEW

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..aws.transport import TransportInUse
    from ..core.records import BucketKey
    from ..core.state import BucketState

Result = Literal["ok", "warning", "failed", "unknown"]

REFUSES_REQUESTS = 300.0
"""Seconds of clock skew from which AWS refuses signatures."""
MOST_NOTES = 20
"""Notes of buckets that are shown at most; the others are counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    result: Result
    subject: str
    detail: str
    remedy: str = ""


def judge_clock(skew: float | None, error: float | None) -> Finding:
    """Judge the skew of this machine's clock, in seconds ahead of the table's servers; None when no response told a time."""
    if skew is None or error is None:
        return Finding("unknown", "clock", "no response carried a time")
    detail = f"{skew:+.1f} s from the table's clock, accurate to {error:.1f} s"
    if abs(skew) <= MAX_SKEW:
        return Finding("ok", "clock", detail)
    remedy = "synchronise the clock (NTP, chrony, Amazon Time Sync): limits use the table's clock, but signatures use this one"
    return Finding("failed" if abs(skew) >= REFUSES_REQUESTS else "warning", "clock", detail, remedy)


def judge_ttl(answer: Mapping[str, Any], attribute: str, stack: str, *, strong: bool = False) -> Finding:
    """Judge whether idle buckets are deleted, according to DescribeTimeToLive.

    A table that is consistent in several Regions has no time to live; `strong` tells that this is one.
    """
    if strong:
        detail = "a table that is consistent in several regions has no time to live"
        return Finding("warning", "deletion of idle buckets", detail, f"run `limiter sweep {stack}` on a schedule")
    described = answer["TimeToLiveDescription"]
    status = described.get("TimeToLiveStatus", "DISABLED")
    if status in {"ENABLED", "ENABLING"} and described.get("AttributeName") == attribute:
        return Finding("ok", "deletion of idle buckets", f"{status.lower()} on {attribute!r}")
    where = f" on {described['AttributeName']!r}" if "AttributeName" in described else ""
    remedy = f"limiter deploy {stack}, or: aws dynamodb update-time-to-live --table-name {stack} --time-to-live-specification "
    return Finding(
        "failed",
        "deletion of idle buckets",
        f"{status.lower()}{where}: idle buckets are never deleted",
        f"{remedy}Enabled=true,AttributeName={attribute}",
    )


def judge_throttling(metric: str, sums: Sequence[float]) -> Finding:
    """Judge the throttling that CloudWatch counted in the last hour."""
    total = sum(sums)
    subject = {"WriteThrottleEvents": "throttled writes", "ReadThrottleEvents": "throttled reads"}.get(metric, "hot keys")
    if not total:
        return Finding("ok", subject, "none in the last hour")
    remedy = "raise the capacity, or deploy with --billing-mode on-demand, or ask AWS for a higher quota"
    if subject == "hot keys":
        remedy = "one bucket gets more than 1,000 writes a second: consume more units per call, or split the entity"
    return Finding("warning", subject, f"{total:g} in the last hour", remedy)


def judge_versions(installed: str, deployed: str | None, known: int, layout: int | None, stack: str) -> Finding:
    """Judge whether this release and the stack are compatible."""
    detail = f"installed {installed}, stack deployed by {deployed or 'an unknown version'} with table layout {layout or '?'}"
    if layout is not None and layout > known:
        return Finding("failed", "versions", detail, 'pip install --upgrade "dynamodb-limiter"')
    if deployed != installed:
        return Finding("warning", "versions", detail, f"review `limiter plan {stack}`, then run `limiter deploy {stack}`")
    return Finding("ok", "versions", detail)


def judge_permissions(level: str, missing: Sequence[str], unknown: Sequence[str]) -> Finding:
    """Judge a policy level by the actions that the credentials lack, and those that could not be tried."""
    subject = f"permissions: {level}"
    if missing:
        actions = ", ".join(f"dynamodb:{action}" for action in missing)
        result: Result = "failed" if level == "acquire" else "warning"
        return Finding(result, subject, f"lacks {actions}", f"attach the stack's policy {level!r}, if these credentials need it")
    if unknown:
        return Finding("unknown", subject, f"could not try {', '.join(unknown)}")
    return Finding("ok", subject, "all actions allowed")


def judge_buckets(states: Mapping[BucketKey, BucketState], now: int, *, whole: bool) -> list[Finding]:
    """Judge what buckets hold at `now`, in nanoseconds since the epoch; `whole` says that no other buckets exist."""
    from .buckets import notes

    rest = "" if whole else "; `limiter doctor --all-buckets` examines the others"
    found = [
        Finding("warning", f"bucket {shlex.join((key.entity_id, key.resource))}", *_of_bucket(key, note))
        for key, state in sorted(states.items())
        for note in notes(state, now)
    ]
    counted = f"{len(states):,} examined, {len(found):,} with something to know{rest}"
    return [Finding("ok", "buckets", counted), *found[:MOST_NOTES]]


def _of_bucket(key: BucketKey, note: tuple[str, str]) -> tuple[str, str]:
    """Return what is wrong with a bucket and the remedy, whose command names the bucket."""
    detail, remedy = note
    return detail, remedy.replace("ENTITY RESOURCE", shlex.join((key.entity_id, key.resource)))


def judge_transport(found: TransportInUse | None) -> Finding:
    """Return how this process would make the frequent calls; another one may have patched botocore, or pass a client."""
    if found is None:
        return Finding("unknown", "transport", "no client was opened")
    detail = f"{found.name}, since {found.reason}" if found.reason else found.name
    return Finding("ok", "transport", f"{detail}; limiter.stats().transport tells what a program uses")


_IMITATED = {
    "credentials": "the embedded engine accepts all credentials",
    "permissions": "the embedded engine allows every action",
    "deletion of idle buckets": "the embedded engine deletes none",
    "throttled writes": "the embedded engine throttles nothing",
    "throttled reads": "the embedded engine throttles nothing",
    "hot keys": "the embedded engine throttles nothing",
}


def imitated(finding: Finding) -> Finding:
    """Return a finding as it stands on the embedded engine, on which a successful call proves nothing about AWS."""
    detail = _IMITATED.get(finding.subject.partition(":")[0])
    # The engine never enables time to live, so that failure is none.
    if detail is None or (finding.result != "ok" and finding.subject != "deletion of idle buckets"):
        return finding
    return Finding("unknown", finding.subject, detail)


def has_failed(findings: Sequence[Finding]) -> bool:
    """Tell whether any check failed."""
    return any(finding.result == "failed" for finding in findings)
