"""`create_table`: the template's table on an engine, and plain words where that cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.engines import free_port, plain_client

from limiter import ConfigurationError, RateLimiterUnavailable, ValidationError
from limiter.testing import create_table

if TYPE_CHECKING:
    from support.engines import Engine


def test_a_table_can_be_created_again(server_engine: Engine, table_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It needs no region on an engine, and leaves a table that exists as it is."""
    client = plain_client(str(server_engine.endpoint_url))
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    for _ in range(2):
        create_table(table_name, endpoint_url=server_engine.endpoint_url)
    table = client.describe_table(TableName=table_name)["Table"]
    assert [key["AttributeName"] for key in table["KeySchema"]] == ["pk", "sk"]
    assert [index["IndexName"] for index in table["GlobalSecondaryIndexes"]] == ["listing"]


def test_no_server_answers() -> None:
    """An engine that does not run is named."""
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(RateLimiterUnavailable, match=url):
        create_table("my-app", endpoint_url=url)


@pytest.mark.parametrize(
    ("missing", "needed"),
    [(["AWS_DEFAULT_REGION"], "AWS_DEFAULT_REGION"), (["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], "AWS_PROFILE")],
    ids=["region", "credentials"],
)
def test_what_is_missing_is_named(missing: list[str], needed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a region, or without credentials, the error says how to give them."""
    for name in missing:
        monkeypatch.delenv(name)
    with pytest.raises(ConfigurationError, match=needed):
        create_table("my-app")


@pytest.mark.parametrize("name", ["", "a/b", "x" * 256, None])
def test_an_unusable_name_is_refused_before_any_call(name: str) -> None:
    """The name is checked at the door."""
    with pytest.raises(ValidationError, match="invalid table name"):
        create_table(name)
