"""The names of what is stored, and what is stored under them: buckets, levels of limits, entities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .limits import Access, Limit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..models import Entity


class BucketKey(NamedTuple):
    """Which bucket: a namespace, an entity and a resource."""

    namespace: str
    entity_id: str
    resource: str


class LimitsKey(NamedTuple):
    """One level of stored limits: an entity's, a resource's, or with both None the namespace's."""

    entity_id: str | None = None
    resource: str | None = None


class EntityKey(NamedTuple):
    """One stored entity."""

    entity_id: str


@dataclass(frozen=True, slots=True)
class EntityRecord:
    """A stored entity, and the ancestors that it had when its place was last written, its parent first.

    The ancestors are a hint that lets a whole chain be read at once; what counts is each entity's own parent.
    """

    entity: Entity
    ancestors: tuple[str, ...] = ()


def missing_ancestor(seen: Mapping[str, str | None]) -> str | None:
    """Who is named as a parent by the last of a chain, given as each ancestor's parent, and does not exist; None otherwise."""
    return next((parent for parent in seen.values() if parent is not None and parent not in seen), None)


RecordKey = LimitsKey | EntityKey
Limits = tuple[Limit, ...] | Access
Record = Limits | EntityRecord
