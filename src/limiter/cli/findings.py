"""What `limiter doctor` finds out, each with its remedy: the judgement, without the calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..aws.clock import MAX_SKEW

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..aws.transport import TransportInUse

Result = Literal["ok", "warning", "failed", "unknown"]

REFUSES_REQUESTS = 300.0
"""Seconds of clock skew from which AWS does not accept signatures."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    result: Result
    subject: str
    detail: str
    remedy: str = ""


def judge_clock(skew: float | None, error: float | None) -> Finding:
    """The seconds that this machine's clock is ahead of that of the table's servers, as far as their answers tell."""
    if skew is None or error is None:
        return Finding("unknown", "clock", "no answer carried a time")
    detail = f"{skew:+.1f} s from the table's, give or take {error:.1f} s"
    if abs(skew) <= MAX_SKEW:
        return Finding("ok", "clock", detail)
    remedy = "synchronise the clock (NTP, chrony, Amazon Time Sync): limits go by the table's time, but signatures by this one"
    return Finding("failed" if abs(skew) >= REFUSES_REQUESTS else "warning", "clock", detail, remedy)


def judge_ttl(answer: Mapping[str, Any], attribute: str, stack: str) -> Finding:
    """Whether idle buckets are deleted, as DescribeTimeToLive says."""
    described = answer["TimeToLiveDescription"]
    status = described.get("TimeToLiveStatus", "DISABLED")
    if status in {"ENABLED", "ENABLING"} and described.get("AttributeName") == attribute:
        return Finding("ok", "deletion of idle buckets", f"{status.lower()} on {attribute!r}")
    remedy = f"limiter deploy {stack}, or: aws dynamodb update-time-to-live --table-name {stack} --time-to-live-specification "
    return Finding(
        "failed",
        "deletion of idle buckets",
        f"{status.lower()} on {described.get('AttributeName')!r}: the table grows without end",
        f"{remedy}Enabled=true,AttributeName={attribute}",
    )


def judge_throttling(metric: str, sums: Sequence[float]) -> Finding:
    """What CloudWatch counted in the last hour."""
    total = sum(sums)
    subject = {"WriteThrottleEvents": "throttled writes", "ReadThrottleEvents": "throttled reads"}.get(metric, "hot keys")
    if not total:
        return Finding("ok", subject, "none in the last hour")
    remedy = "raise the capacity, or deploy with --billing-mode on-demand, or ask AWS for a higher quota"
    if subject == "hot keys":
        remedy = "one bucket gets over 1,000 writes a second: take more units per call, or split the entity"
    return Finding("warning", subject, f"{total:g} in the last hour", remedy)


def judge_versions(installed: str, deployed: str | None, known: int, layout: int | None, stack: str) -> Finding:
    """Whether this release and the stack suit each other."""
    detail = f"installed {installed}, stack deployed by {deployed or 'an unknown version'} with table layout {layout or '?'}"
    if layout is not None and layout > known:
        return Finding("failed", "versions", detail, 'pip install --upgrade "dynamodb-limiter"')
    if deployed != installed:
        return Finding("warning", "versions", detail, f"limiter plan {stack}, and if it suits you: limiter deploy {stack}")
    return Finding("ok", "versions", detail)


def judge_permissions(level: str, missing: Sequence[str], unknown: Sequence[str]) -> Finding:
    """Which actions of a policy level these credentials lack."""
    subject = f"permissions: {level}"
    if missing:
        actions = ", ".join(f"dynamodb:{action}" for action in missing)
        result: Result = "failed" if level == "acquire" else "warning"
        return Finding(result, subject, f"lacks {actions}", f"attach the stack's policy {level!r}, if these credentials need it")
    if unknown:
        return Finding("unknown", subject, f"could not try {', '.join(unknown)}")
    return Finding("ok", subject, "all actions allowed")


def judge_transport(found: TransportInUse | None) -> Finding:
    """How this process would make the frequent calls; another one may have patched botocore, or pass a client."""
    if found is None:
        return Finding("unknown", "transport", "no client was opened")
    detail = f"{found.name}, since {found.reason}" if found.reason else found.name
    return Finding("ok", "transport", f"{detail}; limiter.stats().transport tells what a program uses")


def has_failed(findings: Sequence[Finding]) -> bool:
    """Whether something stands in the way."""
    return any(finding.result == "failed" for finding in findings)
