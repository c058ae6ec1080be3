"""`limiter audit`: judges recorded decisions."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from .exit_codes import FAILED, OK
from .groups import FORMATS
from .output import Table, say, show

if TYPE_CHECKING:
    from ..audit import Verdict

MOST_SHOWN = 20
"""Findings that are shown to people; JSON has them all."""


@click.command(short_help="Judge recorded decisions.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
@click.option(
    "--clock-error",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="By how much the clocks of two processes may differ.",
)
@click.option(
    "--denial-ttl",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="The longest denial_ttl of the limiters.",
)
@click.option(
    "--skip",
    multiple=True,
    type=click.Choice(("capacity", "refusals", "refunds", "order", "chains")),
    help="A promise that is not judged; may be given several times.",
)
@click.option(
    "--output",
    "-o",
    type=click.Choice(FORMATS),
    envvar="LIMITER_OUTPUT",
    show_envvar=True,
    default="table",
    show_default=True,
    help="A table for people, JSON for programs, or tab-separated text.",
)
def audit(files: tuple[str, ...], clock_error: float, denial_ttl: float, skip: tuple[str, ...], output: str) -> int:
    """Judge the decisions in FILE..., written by `on_decision=record(path)`; all files are one history.

    Says whether every promise was kept, and names the span of time that came nearest to its limit. Status 1: one was broken.
    """
    from ..audit import judge

    verdict = judge(*files, clock_error=clock_error, denial_ttl=denial_ttl, skip=skip)
    show(output, document(verdict), table(verdict))
    if output == "table":
        for finding in verdict.findings[:MOST_SHOWN]:
            say(str(finding))
        if len(verdict.findings) > MOST_SHOWN:
            say(f"and {len(verdict.findings) - MOST_SHOWN} more; --output json shows them all")
    return OK if verdict else FAILED


def document(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as JSON."""
    return {"kept": bool(verdict), **asdict(verdict)}


def table(verdict: Verdict) -> Table:
    """Return the verdict as rows of names and values."""
    rows: list[tuple[str, Any]] = [
        ("verdict", "all promises were kept" if verdict else f"broken promises: {len(verdict.findings)}"),
        ("decisions", verdict.decisions),
        ("events", verdict.events),
        ("limits", verdict.limits),
    ]
    rows += [(name, count) for name, count in _not_judged(verdict) if count]
    if verdict.worst is not None:
        rows.append(("worst span", str(verdict.worst)))
    return Table(("name", "value"), rows, header=False)


def _not_judged(verdict: Verdict) -> tuple[tuple[str, int], ...]:
    return ("without the table", verdict.degraded), ("failed", verdict.failed), ("incomplete lines", verdict.cut)
