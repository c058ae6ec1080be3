"""What applying a file of limits would change: the comparison, without the calls."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from ..core.records import EntityKey, LimitsKey, plain_limits, windows_of
from ..core.resolution import MAX_DEPTH
from ..exceptions import ValidationError
from .limits_levels import Level, level_texts, read_levels

if TYPE_CHECKING:
    from collections.abc import Iterator, KeysView, Mapping

    from ..core.records import RecordKey
    from ..models import Entity
    from ..sync_limiter import SyncRateLimiter

Levels = dict[LimitsKey, Level]
Action = Literal["add", "change", "remove"]


@dataclass(frozen=True, slots=True)
class Stored:
    """What a namespace stores, apart from its buckets: levels of limits, and entities by their ids."""

    levels: Levels = field(default_factory=dict)
    entities: dict[str, Entity] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one level of limits or of one entity; `before` and `after` show its parts as text."""

    key: RecordKey
    action: Action
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def kind(self) -> Literal["entity", "limits"]:
        """Whether an entity or a level of limits changes."""
        return "entity" if isinstance(self.key, EntityKey) else "limits"

    @property
    def destroys(self) -> bool:
        """Whether something stored would be lost."""
        return self.action != "add"


def read_stored(limiter: SyncRateLimiter) -> Stored:
    """Read everything that is stored in the namespace, apart from its buckets.

    A parent that does not exist is left out: it has no effect.
    """
    entities = {each.entity_id: each for each in limiter.list_stored_entities()}
    orphans = [each for each in entities.values() if each.parent_id is not None and each.parent_id not in entities]
    return Stored(read_levels(limiter), entities | {each.entity_id: replace(each, parent_id=None) for each in orphans})


def changes(stored: Stored, wanted: Stored, *, prune: bool) -> list[Change]:
    """Return the changes from the stored state to the wanted one, in the order in which to apply them.

    What is stored and not wanted stays, unless `prune`. Entities come first, each after its parent; then removals of entities;
    then levels of limits. Raises `ValidationError` when the hierarchy would not be valid.
    """
    entities = wanted.entities if prune else {**stored.entities, **wanted.entities}
    _check_hierarchy(entities, wanted.entities.keys())
    put = sorted(wanted.entities, key=lambda each: (len(_ancestors(each, entities)), each))
    removed = sorted(stored.entities.keys() - entities.keys())
    found = [_entity_change(each, stored.entities.get(each), wanted.entities[each]) for each in put]
    found += [_entity_change(each, stored.entities[each], None) for each in removed]
    # Deleting an entity deletes its limits as well, so those that stay are written again.
    left = {key: limits for key, limits in stored.levels.items() if key.entity_id not in removed}
    for key in sorted({*wanted.levels, *(stored.levels if prune else ())}, key=place):
        before = (left if key in wanted.levels else stored.levels).get(key)
        found.append(_level_change(key, before, wanted.levels.get(key)))
    return [each for each in found if each is not None]


def apply(limiter: SyncRateLimiter, change: Change, wanted: Stored) -> None:
    """Apply one change."""
    if isinstance(change.key, EntityKey):
        if change.action == "remove":
            limiter.delete_entity(change.key.entity_id)
        else:
            limiter.put_entity(wanted.entities[change.key.entity_id])
    elif change.action == "remove":
        limiter.delete_limits(change.key.entity_id, change.key.resource)
    else:
        level, place = wanted.levels[change.key], change.key._asdict()
        limiter.set_limits(plain_limits(level) or (), **place, schedule=windows_of(level))


def place(key: LimitsKey) -> tuple[bool, str, str]:
    """Return the place of a level in a list: the namespace, resources, then entities, each by name."""
    return key.entity_id is not None, key.entity_id or "", key.resource or ""


def key_name(key: RecordKey) -> str:
    """Return the name of a level or an entity as people read it."""
    if isinstance(key, EntityKey):
        return f"entity {key.entity_id}"
    if key == LimitsKey():
        return "limits of the namespace"
    parts = [f"entity {key.entity_id}"] if key.entity_id is not None else []
    return f"limits of {', '.join([*parts, *([f'resource {key.resource}'] if key.resource is not None else [])])}"


def diff_lines(change: Change) -> Iterator[str]:
    """Yield one change as lines of a diff."""
    yield f"{ {'add': '+', 'change': '~', 'remove': '-'}[change.action] } {key_name(change.key)}"
    yield from (f"    - {part}" for part in change.before if part not in change.after)
    yield from (f"    + {part}" for part in change.after if part not in change.before)


def _entity_change(entity_id: str, before: Entity | None, after: Entity | None) -> Change | None:
    if before == after:
        return None
    action: Action = "remove" if after is None else "add" if before is None else "change"
    return Change(EntityKey(entity_id), action, _parts(before), _parts(after))


def _parts(entity: Entity | None) -> tuple[str, ...]:
    if entity is None:
        return ()
    named = [("parent", entity.parent_id), ("name", entity.name)]
    notes = [f"metadata {key}={value}" for key, value in sorted(entity.metadata.items())]
    return (f"cascade={'yes' if entity.cascade else 'no'}", *(f"{key}={value}" for key, value in named if value), *notes)


def _level_change(key: LimitsKey, before: Level | None, after: Level | None) -> Change | None:
    texts = level_texts(before), level_texts(after)
    if sorted(texts[0]) == sorted(texts[1]):
        return None
    return Change(key, "remove" if after is None else "add" if before is None else "change", *texts)


def _check_hierarchy(entities: Mapping[str, Entity], wanted: KeysView[str]) -> None:
    """Raise `ValidationError` when a chain with a wanted entity would have a cycle, a gap, or too many entities."""
    for entity_id in entities:
        ancestors = _ancestors(entity_id, entities)
        if wanted.isdisjoint([entity_id, *ancestors]):
            continue
        if entity_id in ancestors:
            raise ValidationError(f"entity {entity_id!r} would become its own ancestor: {' > '.join([entity_id, *ancestors])}")
        if len(ancestors) >= MAX_DEPTH:
            raise ValidationError(f"the chain of entity {entity_id!r} is too deep; at most {MAX_DEPTH} entities are supported")
        parent = entities[entity_id].parent_id
        if parent is not None and parent not in entities:
            raise ValidationError(f"parent {parent!r} of entity {entity_id!r} is not an entity; add it to the file")


def _ancestors(entity_id: str, entities: Mapping[str, Entity]) -> list[str]:
    """Return the existing ancestors of an entity, the parent first, up to the first one that repeats."""
    found: list[str] = []
    parent = entities[entity_id].parent_id
    while parent is not None and parent in entities and parent not in found:
        found.append(parent)
        parent = entities[parent].parent_id
    return found
