"""Increments one counter, and takes from one allowance, as often as told, and prints how much it was granted.

python incrementer.py ENDPOINT_URL TABLE TIMES ALLOWANCE
"""

import sys
from typing import Any

import boto3
from botocore.config import Config


def main(endpoint_url: str, table: str, times: int, allowance: int) -> int:
    """Do `times` of both writes; return how much of the allowance was granted."""
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=30)
    client = boto3.client("dynamodb", endpoint_url=endpoint_url, config=config)
    return sum(step(client, table, allowance) for _ in range(times))


def step(client: Any, table: str, allowance: int) -> int:
    """Count once and ask for one unit; return 1 if it was granted."""
    client.update_item(
        TableName=table,
        Key={"pk": {"S": "counter"}},
        UpdateExpression="ADD amount :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
    )
    try:
        client.update_item(
            TableName=table,
            Key={"pk": {"S": "allowance"}},
            UpdateExpression="SET amount = if_not_exists(amount, :zero) + :one",
            ConditionExpression="attribute_not_exists(amount) OR amount < :allowance",
            ExpressionAttributeValues={":zero": {"N": "0"}, ":one": {"N": "1"}, ":allowance": {"N": str(allowance)}},
        )
    except client.exceptions.ConditionalCheckFailedException:
        return 0
    return 1


if __name__ == "__main__":
    print(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))  # noqa: T201 - its answer to the test
