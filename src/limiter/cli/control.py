"""`limiter adjust`, `reset` and `pause`: changes of a bucket from outside, for every process that shares it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .amounts import allowed_text, limit_option, read_changes, read_limits
from .exit_codes import FAILED, OK
from .holders import SLOT_COLUMNS, slot_cells
from .options import aws_options, confirm, stack_option, yes_option
from .output import Table, cell, counted, say, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..models import LimitStatus
    from ..sync_limiter import SyncRateLimiter
    from .buckets import Seen
    from .options import Target

    Change = Callable[[SyncRateLimiter], None]
    Remark = Callable[[Seen], None]

_COLUMNS = ("limit", "available", "allowed", "retry after s", "full after s", *SLOT_COLUMNS)
_EXPENDABLE = ("full after s", "retry after s")


@click.command()
@click.argument("entity")
@click.argument("resource")
@click.argument("amounts", nargs=-1, required=True, metavar="LIMIT=UNITS...")
@limit_option
@stack_option
@aws_options
def adjust(entity: str, resource: str, stack: str, target: Target, amounts: tuple[str, ...], limits: tuple[str, ...]) -> int:
    """Correct what the bucket of ENTITY for RESOURCE counts as used.

    Positive units are charged, into debt if need be: requests=+1. Negative units are given back, at most until the bucket is
    full: tokens=-500. Parents are not changed. Shows what is available afterwards. Exits with 1 when nothing is counted there,
    because the level is UNLIMITED or BLOCKED.
    """
    changes = read_changes(amounts)
    return _change(target, stack, (entity, resource), limits, lambda limiter: limiter.adjust(entity, resource, changes))


@click.command()
@click.argument("entity")
@click.argument("resource")
@click.argument("names", nargs=-1, metavar="[LIMIT]...")
@limit_option
@yes_option
@stack_option
@aws_options
def reset(
    entity: str, resource: str, stack: str, target: Target, names: tuple[str, ...], limits: tuple[str, ...], yes: bool
) -> int:
    """Make the bucket of ENTITY for RESOURCE as if nothing had been used.

    Resets the limits named LIMIT, or all of them. Leases from before give nothing back, and slots stay held. Parents are not
    changed, and a pause goes on. Asks for confirmation, since what was used is forgotten. Exits with 1 when nothing is counted
    there, because the level is UNLIMITED or BLOCKED.
    """
    what = ", ".join(names) or "all limits"
    confirm(f"Forget what {entity!r} has used of {what} for {resource!r} in namespace {target.namespace!r}?", yes=yes)
    bucket = entity, resource
    return _change(target, stack, bucket, limits, lambda limiter: limiter.reset(*bucket, names or None), _say_held)


@click.command()
@click.argument("entity")
@click.argument("resource")
@click.argument("seconds", type=click.FloatRange(min=0), metavar="SECONDS")
@limit_option
@stack_option
@aws_options
def pause(entity: str, resource: str, seconds: float, stack: str, target: Target, limits: tuple[str, ...]) -> int:
    """Have the bucket of ENTITY for RESOURCE allow nothing for so many SECONDS, in any process; 0 ends a pause.

    A pause never shortens a longer one: end that first. Corrections and refunds are written all the same. Parents are not
    changed. Exits with 1 when a pause has no effect there, because the level is UNLIMITED or BLOCKED.
    """
    return _change(target, stack, (entity, resource), limits, lambda limiter: limiter.pause(entity, resource, seconds))


def _change(
    target: Target, stack: str, bucket: tuple[str, str], texts: tuple[str, ...], change: Change, remark: Remark | None = None
) -> int:
    """Change a bucket and show what it holds then, with a remark on it."""
    from ..core.limits import Access
    from .buckets import look_at

    with target.limiter(stack, read_limits(texts)) as limiter:
        change(limiter)
        applying = limiter.resolve_limits(*bucket)
        if isinstance(applying, Access):
            say(f"Error: the level says {str(applying)!r}, under which nothing is counted; nothing was changed")
            return FAILED
        # Zero units are asked for, so that the statuses show what is available now.
        decision = limiter.check(*bucket, dict.fromkeys((limit.name for limit in applying), 0))
        seen = look_at(limiter, [bucket])[bucket]
    _show(target, bucket, [each for each in decision.statuses if (each.entity_id, each.resource) == bucket], seen)
    if remark is not None:
        remark(seen)
    return OK


def _say_held(seen: Seen) -> None:
    """Say which slots a reset has left as they are."""
    for name, use in seen.uses.items():
        if use.held:
            say(f"Still held of limit {name!r}: {counted(use.held, 'slot')}. Slots are freed when their leases end.")


def _show(target: Target, bucket: tuple[str, str], statuses: list[LimitStatus], seen: Seen) -> None:
    from .documents import status_document

    document = {
        "entity_id": bucket[0],
        "resource": bucket[1],
        "paused_for": seen.paused_for,
        "statuses": [status_document(each, seen.use(each.limit)) for each in statuses],
    }
    rows = [(*_row(each), *slot_cells(seen.use(each.limit))) for each in statuses]
    show(target.output, document, Table(_COLUMNS, rows, expendable=_EXPENDABLE, occasional=SLOT_COLUMNS))
    if seen.paused_for is not None:
        say(f"The bucket is paused for another {cell(seen.paused_for)} s.")


def _row(status: LimitStatus) -> tuple[Any, ...]:
    retry = "never" if status.retry_after is None else status.retry_after
    return str(status.limit), status.available, allowed_text(status), retry, status.reset_after
