# twin: sync_config_cache.py
"""The limits that apply to an entity and a resource."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .demand import Bucket
from .schema import BucketKey

if TYPE_CHECKING:
    from .models import Limit
    from .repository_protocol import RepositoryProtocol


class ConfigCache:
    """Resolves which buckets a call charges, and by which limits: those of the call, or else the limiter's own."""

    def __init__(self, repository: RepositoryProtocol, defaults: tuple[Limit, ...]) -> None:
        self._repository = repository
        self._defaults = defaults

    async def chain(self, entity_id: str, resource: str, limits: tuple[Limit, ...] | None) -> tuple[Bucket, ...]:
        """The buckets that a call charges, the entity's own first."""
        key = BucketKey(self._repository.namespace, entity_id, resource)
        return (Bucket(key, self._defaults if limits is None else limits),)
