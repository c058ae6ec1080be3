"""Judges recorded histories: every interval of every limit, every refusal, every refund."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.units import NANOSECONDS
from ..exceptions import ValidationError
from . import reader
from .capacity import judge_capacity
from .joins import judge_chains, judge_order, judge_refunds
from .refusals import judge_refusals
from .slots import judge_slots
from .uses import Doubt
from .verdict import Verdict

if TYPE_CHECKING:
    import os
    from collections.abc import Collection

    from .verdict import Finding, Span

PROMISES = ("capacity", "refusals", "refunds", "order", "chains")
"""The promises that can be judged: the names that `skip` accepts."""
DENIAL_TTL = 1.0
"""Seconds for which a limiter remembers a refusal by default."""


def judge(
    *paths: str | os.PathLike[str], clock_error: float = 0.0, denial_ttl: float = DENIAL_TTL, skip: Collection[str] = ()
) -> Verdict:
    """Judge the records that `record()` has written; all files are one history.

    `clock_error` is the seconds by which the clocks of two processes may differ. `denial_ttl` is the longest of the limiters', in
    seconds: a limiter that remembers a refusal sees a refund that much later. `skip` names promises that are not judged:
    `refusals` if processes were killed, because their last charges are in no record.

    Raises `ValidationError` for a file that is no record, and for a promise that is not known.
    """
    for name in skip:
        if name not in PROMISES:
            raise ValidationError(f"unknown promise {name!r} to skip; expected some of: {', '.join(PROMISES)}")
    return judge_history(reader.read(paths), clock_error=clock_error, denial_ttl=denial_ttl, skip=skip)


def judge_history(
    history: reader.History, *, clock_error: float = 0.0, denial_ttl: float = DENIAL_TTL, skip: Collection[str] = ()
) -> Verdict:
    """Judge a history that was read from files, or entered line by line."""
    with reader.collector_paused():
        findings, worst = _judged(history, Doubt(round(clock_error * NANOSECONDS), round(denial_ttl * NANOSECONDS)), skip)
    return Verdict(
        events=history.events,
        decisions=history.decisions,
        degraded=history.degraded,
        failed=history.failed,
        cut=history.cut,
        limits=len(history.accounts),
        findings=tuple(findings),
        worst=max(worst, key=lambda span: span.units / span.capacity, default=None),
    )


def _judged(history: reader.History, doubt: Doubt, skip: Collection[str]) -> tuple[list[Finding], list[Span]]:
    findings: list[Finding] = []
    worst: list[Span] = []
    if "capacity" not in skip:
        for judge_all in (judge_capacity, judge_slots):
            found, spans = judge_all(history, doubt.clock_error)
            findings += found
            worst += spans
    if "refusals" not in skip:
        findings += judge_refusals(history, doubt)
    if "refunds" not in skip:
        findings += judge_refunds(history)
    if "order" not in skip:
        findings += judge_order(history, doubt.clock_error)
    if "chains" not in skip:
        findings += judge_chains(history)
    return findings, worst
