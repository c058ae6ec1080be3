"""A DynamoDB client in this process: as much as an acquire calls, without a network. For one thread."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError
from support import expressions

Item = dict[str, Any]


class StubClient:
    """Responds to UpdateItem, GetItem and BatchGetItem from a dictionary."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, ...], Item] = {}

    def update_item(self, **parameters: Any) -> Item:
        """Apply the update if its condition holds."""
        place = _place(parameters["Key"])
        item = self.items.get(place, {})
        if not expressions.holds(parameters, item):
            failed = {"Error": {"Code": "ConditionalCheckFailedException", "Message": ""}, "Item": item}
            raise ClientError(failed, "UpdateItem")  # type: ignore[arg-type]
        self.items[place] = parameters["Key"] | expressions.apply(parameters, item)
        return {"Attributes": self.items[place], "ResponseMetadata": {}}

    def get_item(self, **parameters: Any) -> Item:
        """Read an item."""
        item = self.items.get(_place(parameters["Key"]))
        return {"ResponseMetadata": {}} | ({} if item is None else {"Item": item})

    def batch_get_item(self, **parameters: Any) -> Item:
        """Read the items that exist."""
        asked = parameters["RequestItems"].items()
        found = {table: [self.items.get(_place(key)) for key in request["Keys"]] for table, request in asked}
        present = {table: [item for item in items if item is not None] for table, items in found.items()}
        return {"Responses": present, "UnprocessedKeys": {}, "ResponseMetadata": {}}


def _place(key: Item) -> tuple[str, ...]:
    return tuple(value["S"] for value in key.values())
