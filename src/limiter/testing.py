"""Helpers for the tests of programs that use the limiter."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from .aws import queries, schema
from .aws.client import ClientOptions, sync_close_client, sync_open_client
from .aws.errors import translate
from .core.validation import check_endpoint, check_table_name


def create_table(table_name: str, *, endpoint_url: str | None = None, region: str | None = None, client: Any = None) -> None:
    """Create the template's table on an engine without CloudFormation; a table that exists stays as it is.

    For DynamoDB Local, `limiter local` and similar engines. On AWS use `limiter deploy`, whose stack also contains policies.
    Region and credentials follow the standard AWS variables and files; with an `endpoint_url`, the region is optional. Raises
    `ConfigurationError` when credentials or a region are missing, and `RateLimiterUnavailable` when the engine does not respond.
    """
    check_table_name(table_name)
    options = ClientOptions(
        region=region, endpoint_url=check_endpoint(endpoint_url), connect_timeout=5.0, read_timeout=60.0, attempts=3
    )
    try:
        used = client or sync_open_client("dynamodb", options)
        try:
            _create(used, table_name)
        finally:
            if client is None:
                sync_close_client(used)
    except Exception as error:
        raise translate(error, table_name, "CreateTable") from error


def _create(client: Any, table_name: str) -> None:
    with suppress(client.exceptions.ResourceInUseException):
        client.create_table(**queries.table_definition(table_name))
    client.get_waiter("table_exists").wait(TableName=table_name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 600})
    status = client.describe_time_to_live(TableName=table_name)["TimeToLiveDescription"]["TimeToLiveStatus"]
    if status == "DISABLED":
        ttl = {"AttributeName": schema.TTL_ATTRIBUTE, "Enabled": True}
        client.update_time_to_live(TableName=table_name, TimeToLiveSpecification=ttl)
