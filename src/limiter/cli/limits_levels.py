"""What a level of limits holds, as values, texts and documents: limits, or a constant in their place, and a schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..core.limits import Access, Limit, check_level
from ..core.records import Limits, ScheduledLimits, plain_limits, scheduled, windows_of
from ..core.schedule import check_schedule
from .amounts import limit_texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..core.schedule import Window
    from ..models import BaseLimit
    from ..sync_limiter import SyncRateLimiter

Level = Limits | ScheduledLimits


def read_limits(texts: Iterable[str]) -> Limits:
    """Return the limits that texts state, of any kind; a single `unlimited` or `blocked` stands in place of limits."""
    return level_of([Limit.parse(text) for text in texts])


def level_of(parsed: Sequence[BaseLimit | Access]) -> Limits:
    """Return the limits of a level; raises `ValidationError` for those that cannot stand together."""
    if len(parsed) == 1 and isinstance(parsed[0], Access):
        return parsed[0]
    return check_level(parsed)  # type: ignore[arg-type] # it refuses a constant among limits


def read_windows(given: Iterable[tuple[str, str, str]]) -> tuple[Window, ...]:
    """Return the windows that triples of when, zone and one limit state; those of one window belong together."""
    texts: dict[tuple[str, str], list[str]] = {}
    for when, zone, limit in given:
        texts.setdefault((when, zone), []).append(limit)
    return check_schedule([(*place, read_limits(each)) for place, each in texts.items()]).windows


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
