"""What a level of limits holds, as values, texts and documents: limits, or a constant in their place, and a schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.records import Limits, ScheduledLimits, plain_limits, scheduled, windows_of
from ..core.schedule import check_schedule
from .amounts import limit_texts, read_limits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..core.schedule import Window
    from ..sync_limiter import SyncRateLimiter

Level = Limits | ScheduledLimits


def read_windows(given: Iterable[tuple[str, str, str]]) -> tuple[Window, ...]:
    """Return the windows that triples of when, zone and one limit state; those of one window belong together."""
    texts: dict[tuple[str, str], list[str]] = {}
    for when, zone, limit in given:
        texts.setdefault((when, zone), []).append(limit)
    return check_schedule([(*place, read_limits(each) or ()) for place, each in texts.items()]).windows


def read_levels(limiter: SyncRateLimiter) -> dict[Any, Level]:
    """Read every stored level by its key. Reads the whole table."""
    from ..exceptions import UnreadableItem

    keys = limiter.repository.levels()
    records, _ = limiter.repository.read_records(keys)
    found: dict[Any, Level] = {}
    for key in keys:
        record = records[key]
        if isinstance(record, UnreadableItem):
            raise record
        if (plain := plain_limits(record)) is not None:
            found[key] = scheduled(plain, check_schedule(windows_of(record)))
    return found


def level_texts(level: Level | None) -> tuple[str, ...]:
    """Return the parts of a level as people read them: its limits, then its windows."""
    plain = plain_limits(level)
    return () if plain is None else (*limit_texts(plain), *map(window_text, windows_of(level)))


def window_text(window: Window) -> str:
    """Return a window in words."""
    return f"during {window.when} in {window.zone}: {' and '.join(sorted(limit_texts(window.limits)))}"


def window_documents(windows: Iterable[Window]) -> list[dict[str, Any]]:
    """Return the document of each window."""
    from .documents import limit_documents

    return [{"when": each.when, "zone": each.zone, "limits": limit_documents(each.limits)} for each in windows]
