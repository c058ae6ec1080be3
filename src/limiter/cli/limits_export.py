"""Writes files of limits, so that they read back equal and show every character."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..core.limits import Access, Limit
from ..core.records import LimitsKey, plain_limits, windows_of
from ..core.visible import visible
from ..exceptions import ConfigurationError, LimiterError, ValidationError
from .limits_changes import Stored, key_name, place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..core.records import Limits
    from ..models import BaseLimit, Entity
    from .limits_levels import Level

VERSION = "1"
_LINE = 1_000
"""Characters after which a line is broken."""


def dump(stored: Stored) -> str:
    """Return the file that `limits_file.load` reads back as what is stored."""
    yaml = load_yaml()
    text: str = yaml.dump(file_document(stored), Dumper=_dumper(yaml), sort_keys=False, width=_LINE, allow_unicode=True)
    return text


def file_document(stored: Stored) -> dict[str, Any]:
    """Return what the file holds."""
    document: dict[str, Any] = {"version": int(VERSION)}
    levels = sorted(stored.levels, key=place)
    names = {key.entity_id for key in levels if key.entity_id is not None} | stored.entities.keys()
    entries: dict[str | None, dict[str, Any]] = {name: _entity_entry(name, stored.entities) for name in sorted(names)}
    entries[None] = document
    for key in levels:
        entry = _level_entry(stored.levels[key], key)
        if key.resource is None:
            entries[key.entity_id] |= entry
        else:
            whole = entry if "schedule" in entry else entry["limits"]
            entries[key.entity_id].setdefault("resources", {})[key.resource] = whole
    del entries[None]
    return {**document, "entities": entries} if entries else document


def _level_entry(level: Level, key: LimitsKey) -> dict[str, Any]:
    windows = windows_of(level)
    entry: dict[str, Any] = {"limits": _limits_entry(plain_limits(level) or (), key)}
    if windows:
        entry["schedule"] = [
            {"when": each.when, "zone": each.zone, "limits": _limits_entry(each.limits, key)} for each in windows
        ]
    return entry


def _limits_entry(limits: Limits, key: LimitsKey) -> str | list[str]:
    return str(limits) if isinstance(limits, Access) else [_text(limit, key) for limit in limits]


def _entity_entry(name: str, entities: Mapping[str, Entity]) -> dict[str, Any]:
    entity = entities.get(name)
    if entity is None:
        return {}
    entry: dict[str, Any] = {"parent": entity.parent_id} if entity.parent_id is not None else {}
    entry["cascade"] = entity.cascade
    if entity.name is not None:
        entry["name"] = entity.name
    return {**entry, "metadata": dict(sorted(entity.metadata.items()))} if entity.metadata else entry


def _text(limit: BaseLimit, key: LimitsKey) -> str:
    """Return the limit as text; raises `LimiterError` when `Limit.parse` would not read it back, as with blanks in its name."""
    text = str(limit)
    with suppress(ValidationError):
        if Limit.parse(text) == limit:
            return text
    raise LimiterError(
        f"limit {text!r} in the {key_name(key)} cannot be written as text; rename it to a name without surrounding blanks"
    )


def _dumper(yaml: Any) -> Any:
    """Return a dumper that escapes texts with characters that have no look of their own, or change the look of others."""

    class Dumper(yaml.SafeDumper):  # type: ignore[misc] # PyYAML is imported when it is needed
        def write_double_quoted(self, text: str, split: bool = True) -> None:
            self.allow_unicode = visible(text) == text
            super().write_double_quoted(text, split)
            self.allow_unicode = True

    def represent(dumper: Any, text: str) -> Any:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if visible(text) == text else '"')

    Dumper.add_representer(str, represent)
    return Dumper


def load_yaml() -> Any:
    """Return the module of PyYAML; raises `ConfigurationError` where it is not installed."""
    try:
        import yaml
    except ImportError as error:
        raise ConfigurationError('files of limits need PyYAML: pip install "dynamodb-limiter[cli]"') from error
    return yaml
