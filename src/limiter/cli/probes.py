"""Calls that show which actions the credentials may perform, and change nothing."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ..aws import queries, schema
from ..core.records import LimitsKey

if TYPE_CHECKING:
    from collections.abc import Callable

# No item has this name, since ids contain no control characters.
_NOWHERE = "limiter-doctor\x7f"
_NEVER = "attribute_exists(#k) AND attribute_not_exists(#k)"


def probes(client: Any, table: str, namespace: str) -> dict[str, Callable[[], Any]]:
    """Return a call for each action. Writes change nothing: their conditions are never met, or their item cannot exist."""
    key = schema.record_key(namespace, LimitsKey(_NOWHERE, _NOWHERE))
    never = {"ConditionExpression": _NEVER, "ExpressionAttributeNames": {"#k": schema.PARTITION_KEY}}
    query = queries.partition_query(namespace, _NOWHERE, "l")
    return {
        "GetItem": partial(client.get_item, TableName=table, Key=key),
        "BatchGetItem": partial(client.batch_get_item, RequestItems={table: {"Keys": [key]}}),
        "Query": partial(client.query, TableName=table, **query),
        "DescribeTable": partial(client.describe_table, TableName=table),
        "DescribeTimeToLive": partial(client.describe_time_to_live, TableName=table),
        "UpdateItem": partial(client.update_item, TableName=table, Key=key, UpdateExpression="REMOVE nothing", **never),
        "PutItem": partial(client.put_item, TableName=table, Item=key, **never),
        "DeleteItem": partial(client.delete_item, TableName=table, Key=key, **never),
        "Scan": partial(client.scan, TableName=table, Limit=1),
        "BatchWriteItem": partial(client.batch_write_item, RequestItems={table: [{"DeleteRequest": {"Key": key}}]}),
    }
