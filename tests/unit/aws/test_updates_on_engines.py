"""An engine decides and changes exactly as an update says, for every kind of limit.

The test of `limiter.aws.expressions`.
"""

from __future__ import annotations

import uuid
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from support import count_world, slot_world
from support.bucket_world import Script, play_seed
from support.engines import plain_client

from limiter import Quota
from limiter.aws import schema
from limiter.core.records import BucketKey
from limiter.core.state import EMPTY
from limiter.testing import create_table

if TYPE_CHECKING:
    from support.engines import Engine

    from limiter.core.state import Update

COUNTS = count_world.Script((Quota.per_hour("q", 5), Quota.session("s", 5, 3_600), Quota.total("t", 20)))
TABLES: dict[str, str] = {}
WORLDS: dict[str, list[Update]] = {
    "rates": play_seed(3, Script(steps=60)).updates,
    "rates of one name": play_seed(3, Script(rates=True, steps=120)).updates,
    "other rates of one name": play_seed(9, Script(rates=True, steps=120)).updates,
    "counts": count_world.play(Random(1), COUNTS).updates,  # noqa: S311 - no secret
    "other counts": count_world.play(Random(2), COUNTS).updates,  # noqa: S311
    "slots": slot_world.play(Random(1), slot_world.Script(deletes=False)).updates,  # noqa: S311
    "one slot": slot_world.play(Random(2), slot_world.Script(1, deletes=False)).updates,  # noqa: S311
}


def write(client: Any, table: str, key: BucketKey, update: Update) -> tuple[bool, dict[str, Any]]:
    """Whether the engine applies the update, and the item after it."""
    parameters = schema.update_parameters(update) | {"TableName": table, "Key": schema.bucket_key(key), "ReturnValues": "ALL_NEW"}
    try:
        return True, client.update_item(**parameters, ReturnValuesOnConditionCheckFailure="ALL_OLD")["Attributes"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        return False, error.response.get("Item", {})


@pytest.mark.engines("moto", "dynoxide", "dynamodb-local")
@pytest.mark.parametrize("name", WORLDS)
def test_an_engine_does_what_an_update_says(name: str, server_engine: Engine, table_name: str) -> None:
    """Each update of a world is applied where it holds, fails where it does not, and leaves the state that it says."""
    client = plain_client(str(server_engine.endpoint_url))
    if server_engine.name not in TABLES:
        create_table(table_name, client=client)
        TABLES[server_engine.name] = table_name
    key, state, applied = BucketKey(uuid.uuid4().hex, "user", "api"), EMPTY, 0
    for update in WORLDS[name]:
        holds = update.holds(state)
        found, item = write(client, TABLES[server_engine.name], key, update)
        assert found == holds
        state = update.apply(state) if holds else state
        assert schema.bucket_state(item) == state
        applied += holds
    assert applied > len(WORLDS[name]) // 3
