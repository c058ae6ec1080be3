"""Files of limits: reads and writes the stored limits and entities of a namespace.

version: 1
limits: [requests=100/minute]                        # of the namespace
resources:
  gpt-4: [tokens=10000/minute burst 50000]           # of a resource
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
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ..core.limits import Limit, check_level
from ..core.records import LimitsKey
from ..core.validation import check_metadata, check_name
from ..exceptions import ConfigurationError, LimiterError, ValidationError
from ..models import Entity
from .amounts import read_limit
from .limits_changes import Stored, key_name, place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")

MAX_BYTES = 4 * 1024 * 1024
_MAX_DEPTH = 8
_VERSION = "1"
_ENTITY_KEYS = ("parent", "cascade", "name", "metadata")
_BOOLEANS = {"true": True, "false": False}


def dump(stored: Stored) -> str:
    """Return the file that `load` reads back as what is stored."""
    write = partial(_yaml().safe_dump, file_document(stored), sort_keys=False, width=1_000)
    text: str = write(allow_unicode=True)
    if all(line.isprintable() for line in text.split("\n")):
        return text
    # Invisible characters and rare line breaks are not read back unless they are escaped, and could control a terminal.
    escaped: str = write(allow_unicode=False)
    return escaped


def file_document(stored: Stored) -> dict[str, Any]:
    """Return what the file holds."""
    document: dict[str, Any] = {"version": int(_VERSION)}
    levels = sorted(stored.levels, key=place)
    names = {key.entity_id for key in levels if key.entity_id is not None} | stored.entities.keys()
    entries: dict[str | None, dict[str, Any]] = {name: _entity_entry(name, stored.entities) for name in sorted(names)}
    entries[None] = document
    for key in levels:
        texts = [_text(limit, key) for limit in stored.levels[key]]
        if key.resource is None:
            entries[key.entity_id]["limits"] = texts
        else:
            entries[key.entity_id].setdefault("resources", {})[key.resource] = texts
    del entries[None]
    return {**document, "entities": entries} if entries else document


def _entity_entry(name: str, entities: Mapping[str, Entity]) -> dict[str, Any]:
    entity = entities.get(name)
    if entity is None:
        return {}
    entry: dict[str, Any] = {"parent": entity.parent_id} if entity.parent_id is not None else {}
    entry["cascade"] = entity.cascade
    if entity.name is not None:
        entry["name"] = entity.name
    return {**entry, "metadata": dict(sorted(entity.metadata.items()))} if entity.metadata else entry


def _text(limit: Limit, key: LimitsKey) -> str:
    """Return the limit as text; raises `LimiterError` when `Limit.parse` would not read it back, as with blanks in its name."""
    text = str(limit)
    with suppress(ValidationError):
        if Limit.parse(text) == limit:
            return text
    raise LimiterError(
        f"limit {text!r} in the {key_name(key)} cannot be written as text; rename it to a name without surrounding blanks"
    )


def load(text: str, file: str) -> Stored:
    """Return what a file holds; raises `ValidationError` that names the file, the line and the mistake."""
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise ValidationError(f"{file} is larger than {MAX_BYTES} bytes; split it into one file for each namespace")
    yaml = _yaml()
    # The scanner in C where it is installed; the one in Python takes a minute for the largest file.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_events(yaml.parse(text, loader), file)
        root = yaml.compose(text, loader)
    except UnicodeEncodeError as error:
        raise ValidationError(f"{file} contains lone surrogates") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else file
        raise ValidationError(f"{where}: {getattr(error, 'problem', None) or error}") from error
    if root is None:
        raise ValidationError(f"{file} is empty; it needs at least `version: {_VERSION}`")
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
        parts = self._mapping(root, ("version", "limits", "resources", "entities"))
        version = parts.get("version")
        if version is None or getattr(version, "value", None) != _VERSION:
            raise self._error(version or root, f"the file needs `version: {_VERSION}`")
        self._read_limits(parts, None)
        self._read_resources(parts, None)
        for entity, node in self._named(parts.get("entities"), "entity"):
            own = {} if _is_empty(node) else self._mapping(node, (*_ENTITY_KEYS, "limits", "resources"))
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
        if "limits" in parts:
            self._stored.levels[LimitsKey(entity)] = self._limits(parts["limits"])

    def _read_resources(self, parts: dict[str, Any], entity: str | None) -> None:
        for resource, node in self._named(parts.get("resources"), "resource"):
            self._stored.levels[LimitsKey(entity, resource)] = self._limits(node)

    def _named(self, node: Any, what: str) -> Iterator[tuple[str, Any]]:
        if node is None:
            return
        for name, (key, value) in self._items(node).items():
            self._checked(key, check_name, what, name)
            yield name, value

    def _limits(self, node: Any) -> tuple[Limit, ...]:
        if type(node).__name__ != "SequenceNode" or not node.value:
            raise self._error(node, "expected a list of limits, such as [requests=100/minute]")
        return self._checked(node, check_level, [self._limit(each) for each in node.value])

    def _limit(self, node: Any) -> Limit:
        if type(node).__name__ != "ScalarNode":
            raise self._error(node, "expected a limit, such as tokens=10000/minute burst 50000")
        return self._checked(node, read_limit, node.value)

    def _mapping(self, node: Any, known: tuple[str, ...]) -> dict[str, Any]:
        items = self._items(node)
        for name, (key, _) in items.items():
            if name not in known:
                raise self._error(key, f"unknown key {name!r}; expected one of: {', '.join(known)}")
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


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ConfigurationError('files of limits need PyYAML: pip install "dynamodb-limiter[cli]"') from error
    return yaml
