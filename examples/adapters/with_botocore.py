"""A client of boto3 whose processes make at most 5 calls of one operation a second together.

python examples/adapters/with_botocore.py
"""

import boto3

from limiter import Limit, SyncRateLimiter, SyncRepository
from limiter.contrib.botocore import guard

limiter = SyncRateLimiter(SyncRepository("my-app"), [Limit.per_second("requests", 5)])

if __name__ == "__main__":
    client = boto3.client("dynamodb")  # in production the service with the quota, such as sesv2 and its SendEmail
    guard(client, limiter, ["DescribeTable"], entity="account", resource="dynamodb", timeout=10)
    with limiter:
        print([client.describe_table(TableName="my-app")["Table"]["TableName"] for _ in range(7)])
