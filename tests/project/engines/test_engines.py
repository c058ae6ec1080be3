"""What the limiter relies on, asked of every engine through a plain client."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.engines import Engine

KEY = {"pk": {"S": "bucket"}}
NOW = 1_800_000_000_000_000_000
PROCESSES = 4
TIMES = 50
ALLOWANCE = 120


class Table:
    """One item of one table, by a plain client."""

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name

    def put(self, **numbers: int) -> None:
        item = KEY | {name: {"N": str(value)} for name, value in numbers.items()}
        self.client.put_item(TableName=self.name, Item=item)

    def get(self, key: str = "bucket") -> dict[str, int]:
        reply = self.client.get_item(TableName=self.name, Key={"pk": {"S": key}}, ConsistentRead=True)
        return read_numbers(reply["Item"])

    def update(self, expression: str, condition: str | None = None, **values: int) -> dict[str, int]:
        """The item after the update."""
        reply = self.client.update_item(
            TableName=self.name,
            Key=KEY,
            UpdateExpression=expression,
            ExpressionAttributeValues={f":{name}": {"N": str(value)} for name, value in values.items()},
            ReturnValues="ALL_NEW",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
            **({"ConditionExpression": condition} if condition else {}),
        )
        return read_numbers(reply["Attributes"])

    @property
    def refusal(self) -> type[Exception]:
        """What a failed condition raises."""
        error: type[Exception] = self.client.exceptions.ConditionalCheckFailedException
        return error


def read_numbers(item: dict[str, Any]) -> dict[str, int]:
    return {name: int(value["N"]) for name, value in item.items() if "N" in value}


@pytest.fixture
def table(server_engine: Engine, table_name: str) -> Iterator[Table]:
    """A table of its own on each server."""
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=30, max_pool_connections=20)
    client = boto3.client("dynamodb", endpoint_url=server_engine.endpoint_url, config=config)
    client.create_table(
        TableName=table_name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    yield Table(client, table_name)
    client.delete_table(TableName=table_name)
    client.close()


def test_failed_condition_returns_the_item(table: Table) -> None:
    """A failed condition returns the whole item and changes nothing."""
    table.put(tat=NOW, since=NOW - 5)
    with pytest.raises(table.refusal) as caught:
        table.update("SET tat = tat + :cost", "tat <= :ceiling", cost=1, ceiling=NOW - 1)
    assert read_numbers(caught.value.response["Item"]) == {"tat": NOW, "since": NOW - 5}
    assert table.get() == {"tat": NOW, "since": NOW - 5}


def test_failed_condition_on_an_absent_item_returns_none(table: Table) -> None:
    """A failed condition on an item that does not exist returns no item and creates none."""
    with pytest.raises(table.refusal) as caught:
        table.update("SET tat = tat + :cost", "tat > :now", cost=1, now=NOW)
    assert not caught.value.response.get("Item")
    assert "Item" not in table.client.get_item(TableName=table.name, Key=KEY)


@pytest.mark.parametrize(
    ("low", "high", "admitted"),
    [
        (NOW, NOW, True),
        (NOW - 1, NOW + 1, True),
        (NOW + 1, NOW + 2, False),
        (NOW - 2, NOW - 1, False),
        # Compared as text, 9 would be above 18...
        (9, 10 * NOW, True),
    ],
)
def test_between_is_exact_on_nineteen_digits(table: Table, low: int, high: int, admitted: bool) -> None:
    """BETWEEN tells neighbouring nanoseconds apart, both ends included."""
    table.put(tat=NOW)
    if admitted:
        assert table.update("SET tat = tat + :cost", "tat BETWEEN :low AND :high", low=low, high=high, cost=7)["tat"] == NOW + 7
    else:
        with pytest.raises(table.refusal):
            table.update("SET tat = tat + :cost", "tat BETWEEN :low AND :high", low=low, high=high, cost=7)


@pytest.mark.engines("dynoxide", "dynamodb-local")
def test_empty_between_is_an_error(table: Table) -> None:
    """A BETWEEN whose upper bound is below the lower one is a ValidationException, not a failed condition."""
    table.put(tat=NOW)
    with pytest.raises(table.client.exceptions.ClientError) as caught:
        table.update("SET tat = tat + :cost", "tat BETWEEN :low AND :high", low=NOW + 1, high=NOW, cost=7)
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_right_hand_sides_see_the_old_item(table: Table) -> None:
    """All assignments of one SET read the item as it was before."""
    table.put(tat=NOW, booked=1)
    updated = table.update("SET tat = tat + :cost, booked = tat + :offset", cost=100, offset=5)
    assert updated == {"tat": NOW + 100, "booked": NOW + 5}


def test_idle_mode_creates_the_item(table: Table) -> None:
    """`attribute_not_exists(tat) OR tat <= :now` admits an absent item, and ALL_NEW returns what it became."""
    idle = "attribute_not_exists(tat) OR tat <= :now"
    assert table.update("SET tat = :new, since = :now", idle, new=NOW + 9, now=NOW) == {"tat": NOW + 9, "since": NOW}


def test_two_limits_are_decided_together(table: Table) -> None:
    """One failing limit of two refuses both."""
    table.put(a=NOW, b=NOW)
    both = "(a BETWEEN :now AND :high) AND (b BETWEEN :later AND :high)"
    with pytest.raises(table.refusal):
        table.update("SET a = a + :cost, b = b + :cost", both, now=NOW, later=NOW + 1, high=NOW + 2, cost=1)
    assert table.get() == {"a": NOW, "b": NOW}


@pytest.mark.parametrize("big", [10**38 - 2, 10**37 + 1])
def test_integers_are_exact_to_38_digits(table: Table, big: int) -> None:
    """Addition and subtraction lose no digit of a 38-digit integer."""
    table.put(tat=big)
    assert table.update("SET tat = tat + :cost", cost=1) == {"tat": big + 1}
    assert table.update("SET tat = tat - :cost", cost=2) == {"tat": big - 1}
    assert table.get() == {"tat": big - 1}


def test_remove_and_negative_numbers(table: Table) -> None:
    """A number may become negative, and REMOVE in the same write takes another away."""
    table.put(tat=5, booked=1)
    assert table.update("SET tat = tat - :cost REMOVE booked", cost=9) == {"tat": -4}


def test_processes_lose_no_write(server_engine: Engine, table: Table) -> None:
    """Four processes on one item lose no increment, and together get at most the allowance."""
    assert server_engine.endpoint_url is not None
    script = str(Path(__file__).parents[2] / "support" / "incrementer.py")
    command = [sys.executable, script, server_engine.endpoint_url, table.name, str(TIMES), str(ALLOWANCE)]
    workers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)]
    try:
        granted = [int(worker.communicate(timeout=60)[0]) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert sum(granted) == ALLOWANCE
    assert table.get("allowance") == {"amount": ALLOWANCE}
    assert table.get("counter") == {"amount": PROCESSES * TIMES}


def test_threads_lose_no_write(table: Table) -> None:
    """Eight threads on one client lose no increment."""
    table.put(tat=NOW)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: table.update("SET tat = tat + :cost", cost=1), range(200)))
    assert table.get() == {"tat": NOW + 200}
