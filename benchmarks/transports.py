"""Compares ways to send UpdateItem to DynamoDB: processor time of this process per call, in turns.

    python -m benchmarks.transports [ENDPOINT ...]

The table is made at each endpoint, by default at an engine that is started here. For https set AWS_CA_BUNDLE. Prints medians in
microseconds, and ratios to the client that the library opens. The ways that the library does not take have its request and its
signature, and connections of another library.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import ssl
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from urllib3 import PoolManager

from benchmarks.servers import TABLE, Servers
from limiter.aws.client import ClientOptions, close_client, open_client, sync_close_client, sync_open_client
from limiter.aws.direct import open_direct
from limiter.aws.sync_direct import sync_open_direct
from limiter.aws.wire import encoded
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from limiter.aws.connections import SyncConnections

WARM, CALLS, ROUNDS = 50, 300, 15
KEY = {"pk": {"S": "benchmark"}, "sk": {"S": "b#api"}}


def parameters() -> dict[str, Any]:
    """Return the parameters of an update as the limiter makes them."""
    return {
        "TableName": TABLE,
        "Key": KEY,
        "ConditionExpression": "(attribute_not_exists(#w) OR #w <> :w) AND (attribute_not_exists(#0) OR #0 <= :1)",
        "UpdateExpression": "SET #w = :w, #0 = :1",
        "ExpressionAttributeNames": {"#w": "w", "#0": "t:requests"},
        "ExpressionAttributeValues": {":w": {"S": os.urandom(4).hex()}, ":1": {"N": "1800000000000000000"}},
        "ReturnValues": "ALL_NEW",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


class Ways:
    """The sync ways, by name."""

    def __init__(self, endpoint: str) -> None:
        self.client = sync_open_client("dynamodb", ClientOptions(endpoint_url=endpoint, connect_timeout=30.0, read_timeout=30.0))
        self.plain = boto3.client("dynamodb", endpoint_url=endpoint)
        self.direct = sync_open_direct(self.client, TABLE)
        address = self.direct.find_address()
        self.requests = address.requests
        self.connections: SyncConnections = address.connections
        self.credentials = boto3.Session().get_credentials().get_frozen_credentials()
        self.bundle = os.environ.get("AWS_CA_BUNDLE")
        self.pool = PoolManager(ca_certs=self.bundle, cert_reqs="CERT_REQUIRED")
        self.connection = self._connection()

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self.requests.host, self.requests.port
        if self.requests.is_secure:
            return http.client.HTTPSConnection(host, port, context=ssl.create_default_context(cafile=self.bundle))
        return http.client.HTTPConnection(host, port)

    def body(self) -> bytes:
        """Return the body of a request."""
        return json.dumps(parameters()).encode()

    def signed(self, body: bytes) -> dict[str, str]:
        """Return its headers, signed by the library."""
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        return self.requests.headers("UpdateItem", body, self.credentials, moment)

    def signed_by_botocore(self, body: bytes) -> dict[str, str]:
        """Return its headers, signed by botocore."""
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "DynamoDB_20120810.UpdateItem"}
        request = AWSRequest("POST", self.requests.url, headers, body)
        SigV4Auth(ReadOnlyCredentials(*self.credentials), "dynamodb", "us-east-1").add_auth(request)
        return dict(request.headers.items()) | {"Host": self.signed(body)["host"]}

    def by_pool(self) -> None:
        """Sends by `urlopen`."""
        body = self.body()
        json.loads(self.pool.urlopen("POST", self.requests.url, body=body, headers=self.signed(body)).data)

    def by_http_client(self) -> None:
        """Sends by `http.client`."""
        body = self.body()
        self.connection.request("POST", "/", body, self.signed(body))
        json.loads(self.connection.getresponse().read())

    def by_wire_and_botocore(self) -> None:
        """Sends by the library's connections, and signs by botocore."""
        body = self.body()
        headers = self.signed_by_botocore(body) | {"Content-Length": str(len(body))}
        json.loads(self.connections.exchange(encoded("POST", "/", headers, body)).body)

    def all(self) -> dict[str, Callable[[], Any]]:
        """Return all ways, the one to compare with first."""
        return {
            "boto3, as the library opens it": lambda: self.client.update_item(**parameters()),
            "boto3, plain": lambda: self.plain.update_item(**parameters()),
            "own signature, urllib3's urlopen": self.by_pool,
            "own signature, http.client": self.by_http_client,
            "botocore's signature, own reader": self.by_wire_and_botocore,
            "direct: own signature, own reader": lambda: self.direct.call("UpdateItem", parameters()),
        }

    def close(self) -> None:
        """Close the connections."""
        self.connection.close()
        self.pool.clear()
        self.plain.close()
        sync_close_client(self.client)


def measure(ways: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Return microseconds of processor time per call, the median of rounds in which the ways take turns."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, call in ways.items():
            calls = CALLS if number else WARM
            began = time.process_time()
            for _ in range(calls):
                call()
            if number:
                found[name].append((time.process_time() - began) / calls * 1e6)
    return {name: statistics.median(each) for name, each in found.items()}


async def measure_async(ways: dict[str, Callable[[], Awaitable[Any]]]) -> dict[str, float]:
    """Return the same for asyncio."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(ROUNDS + 1):
        for name, call in ways.items():
            calls = CALLS if number else WARM
            began = time.process_time()
            for _ in range(calls):
                await call()
            if number:
                found[name].append((time.process_time() - began) / calls * 1e6)
    return {name: statistics.median(each) for name, each in found.items()}


async def async_ways(endpoint: str) -> dict[str, float]:
    """Measure the async ways."""
    client = await open_client("dynamodb", ClientOptions(endpoint_url=endpoint, connect_timeout=30.0, read_timeout=30.0))
    direct = await open_direct(client, TABLE)
    requests, credentials = (await direct.find_address()).requests, boto3.Session().get_credentials().get_frozen_credentials()
    context = ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE")) if requests.is_secure else False
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context), auto_decompress=False)

    async def by_aiohttp() -> None:
        body = json.dumps(parameters()).encode()
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = requests.headers("UpdateItem", body, credentials, moment)
        async with session.post(requests.url, data=body, headers=headers) as response:
            json.loads(await response.read())

    found = await measure_async(
        {
            "aiobotocore, as the library opens it": lambda: client.update_item(**parameters()),
            "own signature, aiohttp": by_aiohttp,
            "direct: own signature, asyncio's transports": lambda: direct.call("UpdateItem", parameters()),
        }
    )
    await session.close()
    await direct.close()
    await close_client(client)
    return found


def report(found: dict[str, float]) -> None:
    """Print a table."""
    base = next(iter(found.values()))
    for name, microseconds in found.items():
        print(f"  {name:45} {microseconds:7.0f} µs  {microseconds / base:.2f}")


def main() -> None:
    """Measure at each endpoint."""
    with Servers() as servers:
        for endpoint in sys.argv[1:] or [servers.engine("dynoxide")]:
            create_table(TABLE, endpoint_url=endpoint, region="us-east-1")
            print(endpoint)
            ways = Ways(endpoint)
            report(measure(ways.all()))
            ways.close()
            report(asyncio.run(async_ways(endpoint)))


if __name__ == "__main__":
    main()
