"""Help for tests of programs that use the limiter."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from . import schema
from .validation import check_endpoint, check_table_name


def create_table(table_name: str, *, endpoint_url: str | None = None, region: str | None = None, client: Any = None) -> None:
    """Create the template's table on an engine without CloudFormation; a table that exists is left as it is.

    Made for DynamoDB Local, `limiter local` and their like. On AWS use `limiter deploy`, whose stack also carries policies.
    """
    check_table_name(table_name)
    if client is None:
        import boto3

        client = boto3.client("dynamodb", endpoint_url=check_endpoint(endpoint_url), region_name=region)
    with suppress(client.exceptions.ResourceInUseException):
        client.create_table(**schema.table_definition(table_name))
    client.get_waiter("table_exists").wait(TableName=table_name, WaiterConfig={"Delay": 0.1, "MaxAttempts": 600})
    status = client.describe_time_to_live(TableName=table_name)["TimeToLiveDescription"]["TimeToLiveStatus"]
    if status == "DISABLED":
        ttl = {"AttributeName": schema.TTL_ATTRIBUTE, "Enabled": True}
        client.update_time_to_live(TableName=table_name, TimeToLiveSpecification=ttl)
