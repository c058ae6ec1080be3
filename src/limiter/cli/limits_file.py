"""The file of `limits plan` and `limits apply`, and what applying it would change: the judgement, without the calls.

version: 1
limits: [requests=100/minute]                        # the namespace's
resources:
  gpt-4: [tokens=10000/minute burst 50000]           # a resource's
entities:
  user-42:
    limits: [requests=20/minute]                     # an entity's, for any resource
    resources:
      gpt-4: [tokens=2000/minute]                    # an entity's, for one resource
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ..core.limits import Limit, check_level
from ..core.records import LimitsKey
from ..core.validation import check_name
from ..exceptions import ConfigurationError, LimiterError, ValidationError
from .amounts import read_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

T = TypeVar("T")
Levels = dict[LimitsKey, tuple[Limit, ...]]
Action = Literal["add", "change", "remove"]

MAX_BYTES = 4 * 1024 * 1024
_MAX_DEPTH = 8
_VERSION = "1"


@dataclass(frozen=True, slots=True)
class LevelChange:
    """What would happen to one level."""

    key: LimitsKey
    action: Action
    before: tuple[Limit, ...] = ()
    after: tuple[Limit, ...] = ()

    @property
    def destroys(self) -> bool:
        """Whether something that is stored would be lost."""
        return self.action != "add"


def changes(
    stored: Mapping[LimitsKey, tuple[Limit, ...]], wanted: Mapping[LimitsKey, tuple[Limit, ...]], *, prune: bool
) -> list[LevelChange]:
    """What makes the stored levels the wanted ones; what is stored and not wanted stays unless `prune`."""
    found = [_change(key, stored.get(key, ()), limits) for key, limits in wanted.items()]
    if prune:
        found += [LevelChange(key, "remove", limits) for key, limits in stored.items() if key not in wanted]
    return sorted((each for each in found if each is not None), key=lambda each: level_name(each.key))


def _change(key: LimitsKey, before: tuple[Limit, ...], after: tuple[Limit, ...]) -> LevelChange | None:
    if sorted(map(str, before)) == sorted(map(str, after)):
        return None
    return LevelChange(key, "change" if before else "add", before, after)


def level_name(key: LimitsKey) -> str:
    """A level as people read it."""
    if key == LimitsKey():
        return "namespace"
    parts = [f"entity {key.entity_id}"] if key.entity_id is not None else []
    return ", ".join([*parts, *([f"resource {key.resource}"] if key.resource is not None else [])])


def diff_lines(change: LevelChange) -> Iterator[str]:
    """One change as lines of a diff."""
    before, after = set(map(str, change.before)), set(map(str, change.after))
    yield f"{ {'add': '+', 'change': '~', 'remove': '-'}[change.action] } {level_name(change.key)}"
    yield from (f"    - {limit}" for limit in map(str, change.before) if limit not in after)
    yield from (f"    + {limit}" for limit in map(str, change.after) if limit not in before)


def dump(levels: Mapping[LimitsKey, tuple[Limit, ...]]) -> str:
    """The file that `load` reads back as these levels."""
    text: str = _yaml().safe_dump(file_document(levels), sort_keys=False, allow_unicode=True, width=1_000)
    return text


def file_document(levels: Mapping[LimitsKey, tuple[Limit, ...]]) -> dict[str, Any]:
    """What the file of these levels holds."""
    document: dict[str, Any] = {"version": int(_VERSION)}
    for key in sorted(levels, key=lambda key: (key.entity_id is not None, key.entity_id or "", key.resource or "")):
        place = document
        if key.entity_id is not None:
            place = document.setdefault("entities", {}).setdefault(key.entity_id, {})
        texts = [_text(limit, key) for limit in levels[key]]
        if key.resource is None:
            place["limits"] = texts
        else:
            place.setdefault("resources", {})[key.resource] = texts
    return document


def _text(limit: Limit, key: LimitsKey) -> str:
    """The limit as text; raises `LimiterError` when `Limit.parse` would not read it back, as with blanks around its name."""
    text = str(limit)
    with suppress(ValidationError):
        if Limit.parse(text) == limit:
            return text
    raise LimiterError(
        f"the limit {text!r} of {level_name(key)} cannot be written as text; give it a name without blanks around it"
    )


def load(text: str, file: str) -> Levels:
    """The levels in a file; raises `ValidationError` that names the file, the line and what is wrong there."""
    if len(text.encode(errors="replace")) > MAX_BYTES:
        raise ValidationError(f"{file} is larger than {MAX_BYTES} bytes; divide it by namespaces")
    yaml = _yaml()
    # The scanner in C, where there is one: that in Python takes a minute for the largest file.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_events(yaml.parse(text, loader), file)
        root = yaml.compose(text, loader)
    except UnicodeEncodeError as error:
        raise ValidationError(f"{file} holds lone surrogates") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else file
        raise ValidationError(f"{where}: {getattr(error, 'problem', None) or error}") from error
    if root is None:
        raise ValidationError(f"{file} is empty; the least is `version: {_VERSION}`")
    return _Reader(file).read(root)


def _check_events(events: Any, file: str) -> None:
    """Refuse what could grow without bounds or run code, before anything is built: aliases, tags, deep nesting."""
    depth = 0
    for event in events:
        line = event.start_mark.line + 1
        name = type(event).__name__
        if name == "AliasEvent" or getattr(event, "anchor", None):
            raise ValidationError(f"{file}:{line}: anchors and aliases (& and *) are not allowed; quote the text if it is one")
        if getattr(event, "tag", None):
            raise ValidationError(f"{file}:{line}: tags such as {event.tag} are not allowed; quote the text if it is one")
        depth += {"MappingStartEvent": 1, "SequenceStartEvent": 1, "MappingEndEvent": -1, "SequenceEndEvent": -1}.get(name, 0)
        if depth > _MAX_DEPTH:
            raise ValidationError(f"{file}:{line}: nested more than {_MAX_DEPTH} deep")


class _Reader:
    """Reads the nodes of a file, and knows their lines."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._levels: Levels = {}

    def read(self, root: Any) -> Levels:
        parts = self._mapping(root, ("version", "limits", "resources", "entities"))
        version = parts.get("version")
        if version is None or getattr(version, "value", None) != _VERSION:
            raise self._error(version or root, f"the file needs `version: {_VERSION}`, which says how to read it")
        self._read_limits(parts, None)
        self._read_resources(parts, None)
        for entity, node in self._named(parts.get("entities"), "entity"):
            own = self._mapping(node, ("limits", "resources"))
            self._read_limits(own, entity)
            self._read_resources(own, entity)
        return self._levels

    def _read_limits(self, parts: dict[str, Any], entity: str | None) -> None:
        if "limits" in parts:
            self._levels[LimitsKey(entity)] = self._limits(parts["limits"])

    def _read_resources(self, parts: dict[str, Any], entity: str | None) -> None:
        for resource, node in self._named(parts.get("resources"), "resource"):
            self._levels[LimitsKey(entity, resource)] = self._limits(node)

    def _named(self, node: Any, what: str) -> Iterator[tuple[str, Any]]:
        if node is None:
            return
        for name, (key, value) in self._items(node).items():
            self._checked(key, check_name, what, name)
            yield name, value

    def _limits(self, node: Any) -> tuple[Limit, ...]:
        if type(node).__name__ != "SequenceNode" or not node.value:
            raise self._error(node, "here has to be a list of limits, such as [requests=100/minute]")
        return self._checked(node, check_level, [self._limit(each) for each in node.value])

    def _limit(self, node: Any) -> Limit:
        if type(node).__name__ != "ScalarNode":
            raise self._error(node, "a limit is a text such as tokens=10000/minute burst 50000")
        return self._checked(node, read_limit, node.value)

    def _mapping(self, node: Any, known: tuple[str, ...]) -> dict[str, Any]:
        items = self._items(node)
        for name, (key, _) in items.items():
            if name not in known:
                raise self._error(key, f"unknown key {name!r}; here can be {', '.join(known)}")
        return {name: value for name, (_, value) in items.items()}

    def _items(self, node: Any) -> dict[str, tuple[Any, Any]]:
        if type(node).__name__ != "MappingNode":
            raise self._error(node, "here has to be a mapping of names")
        items: dict[str, tuple[Any, Any]] = {}
        for key, value in node.value:
            if type(key).__name__ != "ScalarNode":
                raise self._error(key, "a name has to be a text")
            if key.value in items:
                raise self._error(key, f"{key.value!r} is there twice")
            items[key.value] = (key, value)
        return items

    def _checked(self, node: Any, check: Callable[..., T], *arguments: Any) -> T:
        try:
            return check(*arguments)
        except ValidationError as error:
            raise self._error(node, str(error)) from error

    def _error(self, node: Any, message: str) -> ValidationError:
        return ValidationError(f"{self._file}:{node.start_mark.line + 1}: {message}")


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ConfigurationError('files of limits need PyYAML: pip install "dynamodb-limiter[cli]"') from error
    return yaml
