"""Reads buckets from a part of the table, so that looking at a large one costs no more than is stated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..aws import queries, schema
from ..core.records import BucketKey

if TYPE_CHECKING:
    from ..core.state import BucketState


def scan_buckets(client: Any, table: str, namespace: str, *, pages: int | None) -> tuple[dict[BucketKey, BucketState], bool]:
    """Return the buckets of a namespace in the first `pages` of the table, and whether those were all; None reads all."""
    states: dict[BucketKey, BucketState] = {}
    parameters = {"TableName": table, **queries.buckets_scan(namespace)}
    while True:
        answer = client.scan(**parameters)
        for item in answer["Items"]:
            states[BucketKey(namespace, schema.entity_of(item), schema.resource_of(item))] = schema.bucket_state(item)
        last = answer.get("LastEvaluatedKey")
        pages = None if pages is None else pages - 1
        if not last or pages == 0:
            return states, not last
        parameters["ExclusiveStartKey"] = last
