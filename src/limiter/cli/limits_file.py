"""Reads files of limits: the stored limits and entities of a namespace.

version: 1
limits: [requests=100/minute]                        # of the namespace
schedule:                                            # by the time of the week, in place of these limits
  - {when: "mon-fri 09:00-17:00", zone: Europe/Berlin, limits: [requests=500/minute]}
resources:
  gpt-4: [tokens=10000/minute burst 50000]           # of a resource
  search:
    limits: unlimited                                # in place of limits: unlimited or blocked
    schedule: [{when: "22:00-06:00", zone: UTC, limits: blocked}]
entities:
  acme: {cascade: true, name: Acme Ltd.}             # a stored entity
  user-42:
    parent: acme                                     # a stored entity with a parent
    metadata: {tier: gold}
    limits: [requests=20/minute]                     # of an entity, for any resource
    resources:
      gpt-4: [tokens=2000/minute]                    # of an entity, for one resource

An entry below `entities` stores the entity when it has `parent`, `cascade`, `name` or `metadata`, when it is empty, or when
another entry names it as parent. An entry with limits only stores these limits, for which no entity needs to be stored.
`limits_export` writes such files.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

from ..core.limits import Access, check_level
from ..core.records import Limits, LimitsKey, scheduled
from ..core.schedule import check_schedule
from ..core.validation import check_metadata, check_name
from ..exceptions import ValidationError
from ..models import Entity
from .amounts import read_limit
from .limits_changes import Stored
from .limits_export import VERSION, load_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..core.schedule import Schedule
    from ..models import BaseLimit

T = TypeVar("T")

MAX_BYTES = 4 * 1024 * 1024
_MAX_DEPTH = 8
_ENTITY_KEYS = ("parent", "cascade", "name", "metadata")
_LEVEL_KEYS = ("limits", "schedule")
_WINDOW_KEYS = ("when", "zone", "limits")
_BOOLEANS = {"true": True, "false": False}
_CONSTANTS = {str(access): access for access in Access}


def load(text: str, file: str) -> Stored:
    """Return what a file holds; raises `ValidationError` that names the file, the line and the mistake."""
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise ValidationError(f"{file} is larger than {MAX_BYTES} bytes; split it into one file for each namespace")
    yaml = load_yaml()
    # The scanner in C where it is installed; the one in Python takes a minute for the largest file.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_events(yaml.parse(text, loader), file)
        root = yaml.compose(text, loader)
    except UnicodeEncodeError as error:
        raise ValidationError(f"{file} contains lone surrogates; save it as valid UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else file
        raise ValidationError(f"{where}: {getattr(error, 'problem', None) or error}") from error
    if root is None:
        raise ValidationError(f"{file} is empty; it needs at least `version: {VERSION}`")
    return _Reader(file).read(root)


def _check_events(events: Any, file: str) -> None:
    """Refuse aliases, tags and deep nesting, which could exhaust memory or run code, before anything is built."""
    depth = 0
    for event in events:
        line = event.start_mark.line + 1
        name = type(event).__name__
        if name == "AliasEvent" or getattr(event, "anchor", None):
            raise ValidationError(
                f"{file}:{line}: anchors and aliases (& and *) are not supported; put the text in quotes if it is meant literally"
            )
        if getattr(event, "tag", None):
            raise ValidationError(
                f"{file}:{line}: tags such as {event.tag} are not supported; put the text in quotes if it is meant literally"
            )
        depth += {"MappingStartEvent": 1, "SequenceStartEvent": 1, "MappingEndEvent": -1, "SequenceEndEvent": -1}.get(name, 0)
        if depth > _MAX_DEPTH:
            raise ValidationError(f"{file}:{line}: nested more than {_MAX_DEPTH} levels deep")


class _Reader:
    """Reads the nodes of a file, which carry their lines."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._stored = Stored()

    def read(self, root: Any) -> Stored:
        parts = self._mapping(root, ("version", *_LEVEL_KEYS, "resources", "entities"))
        version = parts.get("version")
        if version is None or getattr(version, "value", None) != VERSION:
            raise self._error(version or root, f"the file needs `version: {VERSION}`")
        self._read_limits(parts, None)
        self._read_resources(parts, None)
        for entity, node in self._named(parts.get("entities"), "entity"):
            own = {} if _is_empty(node) else self._mapping(node, (*_ENTITY_KEYS, *_LEVEL_KEYS, "resources"))
            self._read_entity(own, entity)
            self._read_limits(own, entity)
            self._read_resources(own, entity)
        self._store_parents(parts)
        return self._stored

    def _read_entity(self, parts: dict[str, Any], entity_id: str) -> None:
        if parts and not any(key in parts for key in _ENTITY_KEYS):
            return
        parent, name = (self._id(parts.get(key), key) for key in ("parent", "name"))
        metadata = self._metadata(parts.get("metadata"))
        self._stored.entities[entity_id] = Entity(entity_id, parent, self._cascade(parts.get("cascade")), name, metadata)

    def _store_parents(self, parts: dict[str, Any]) -> None:
        """Store the entities that others name as their parent, and that have entries with limits only."""
        parents = {each.parent_id for each in self._stored.entities.values()}
        for entity, _ in self._named(parts.get("entities"), "entity"):
            if entity in parents:
                self._stored.entities.setdefault(entity, Entity(entity))

    def _id(self, node: Any, what: str) -> str | None:
        return None if node is None else self._checked(node, check_name, what, self._scalar(node, what))

    def _cascade(self, node: Any) -> bool:
        if node is None:
            return True
        value = _BOOLEANS.get(self._scalar(node, "cascade").lower())
        if value is None:
            raise self._error(node, f"cascade must be true or false, not {node.value!r}")
        return value

    def _metadata(self, node: Any) -> dict[str, str]:
        items = self._items(node) if node is not None else {}
        values = {name: self._scalar(value, f"the value of {name!r}") for name, (_, value) in items.items()}
        return self._checked(node, check_metadata, values)

    def _scalar(self, node: Any, what: str) -> str:
        if type(node).__name__ != "ScalarNode":
            raise self._error(node, f"{what} must be a text")
        text: str = node.value
        return text

    def _read_limits(self, parts: dict[str, Any], entity: str | None) -> None:
        if any(key in parts for key in _LEVEL_KEYS):
            self._read_level(parts, LimitsKey(entity))

    def _read_resources(self, parts: dict[str, Any], entity: str | None) -> None:
        for resource, node in self._named(parts.get("resources"), "resource"):
            is_mapping = type(node).__name__ == "MappingNode"
            level = self._mapping(node, _LEVEL_KEYS) if is_mapping else {"limits": node}
            if "limits" not in level and "schedule" not in level:
                raise self._error(node, f"expected the keys {' and '.join(_LEVEL_KEYS)}")
            self._read_level(level, LimitsKey(entity, resource))

    def _read_level(self, parts: dict[str, Any], key: LimitsKey) -> None:
        if "limits" not in parts:
            raise self._error(parts["schedule"], "a schedule needs `limits` beside it, which apply outside its windows")
        level: Limits = self._limits(parts["limits"])
        schedule = self._schedule(parts["schedule"]) if "schedule" in parts else None
        self._stored.levels[key] = level if schedule is None else scheduled(level, schedule)

    def _named(self, node: Any, what: str) -> Iterator[tuple[str, Any]]:
        if node is None:
            return
        for name, (key, value) in self._items(node).items():
            self._checked(key, check_name, what, name)
            yield name, value

    def _limits(self, node: Any) -> Limits:
        """Return the limits of a list, or what stands in their place."""
        if type(node).__name__ == "ScalarNode" and node.value in _CONSTANTS:
            return _CONSTANTS[node.value]
        if type(node).__name__ != "SequenceNode" or not node.value:
            raise self._error(node, "expected a list of limits, such as [requests=100/minute], or `unlimited` or `blocked`")
        return self._checked(node, check_level, [self._limit(each) for each in node.value])

    def _limit(self, node: Any) -> BaseLimit:
        if type(node).__name__ != "ScalarNode":
            raise self._error(node, "expected a limit, such as tokens=10000/minute burst 50000")
        if node.value in _CONSTANTS:
            raise self._error(node, f"write `{node.value}` in place of a list of limits, and not in one")
        return self._checked(node, read_limit, node.value)

    def _schedule(self, node: Any) -> Schedule:
        if type(node).__name__ != "SequenceNode" or not node.value:
            raise self._error(node, f"expected a list of windows, each with {_in_words(_WINDOW_KEYS)}")
        return self._checked(node, check_schedule, [self._window(each) for each in node.value])

    def _window(self, node: Any) -> tuple[str, str, Limits]:
        parts = self._mapping(node, _WINDOW_KEYS)
        if missing := [key for key in _WINDOW_KEYS if key not in parts]:
            raise self._error(node, f"the window has no {missing[0]!r}; it needs {_in_words(_WINDOW_KEYS)}")
        when, zone = (self._scalar(parts[key], key) for key in ("when", "zone"))
        window = (when, zone, self._limits(parts["limits"]))
        self._checked(node, check_schedule, [window])
        return window

    def _mapping(self, node: Any, known: tuple[str, ...]) -> dict[str, Any]:
        items = self._items(node)
        for name, (key, _) in items.items():
            if name not in known:
                near = get_close_matches(name, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise self._error(key, f"unknown key {name!r}; expected one of: {', '.join(known)}{hint}")
        return {name: value for name, (_, value) in items.items()}

    def _items(self, node: Any) -> dict[str, tuple[Any, Any]]:
        if type(node).__name__ != "MappingNode":
            raise self._error(node, "expected a mapping of names to values")
        items: dict[str, tuple[Any, Any]] = {}
        for key, value in node.value:
            if type(key).__name__ != "ScalarNode":
                raise self._error(key, "a name must be a text")
            if key.value in items:
                raise self._error(key, f"{key.value!r} is given twice")
            items[key.value] = (key, value)
        return items

    def _checked(self, node: Any, check: Callable[..., T], *arguments: Any) -> T:
        try:
            return check(*arguments)
        except ValidationError as error:
            raise self._error(node, str(error)) from error

    def _error(self, node: Any, message: str) -> ValidationError:
        return ValidationError(f"{self._file}:{node.start_mark.line + 1}: {message}")


def _is_empty(node: Any) -> bool:
    return type(node).__name__ == "ScalarNode" and not node.value


def _in_words(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
