"""The configuration for Terraform is the template's table and policies."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import hcl2
import pytest
from support.presence import program

from limiter.aws import queries, schema

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "examples" / "terraform" / "main.tf"
ACTIONS = {
    "acquire": {"GetItem", "BatchGetItem", "UpdateItem"},
    "read": {"GetItem", "BatchGetItem", "Query", "DescribeTable", "DescribeTimeToLive"},
}


def unquoted(value: Any) -> Any:
    """A parsed configuration without the quotes that the parser keeps."""
    if isinstance(value, dict):
        return {name.strip('"'): unquoted(each) for name, each in value.items() if name != "__is_block__"}
    if isinstance(value, list):
        return [unquoted(each) for each in value]
    return value.strip('"') if isinstance(value, str) else value


@pytest.fixture(scope="module")
def configuration() -> dict[tuple[str, str, str], dict[str, Any]]:
    """Each resource and data source, by its kind, type and name."""
    parsed = unquoted(hcl2.loads(FILE.read_text(encoding="utf-8")))
    return {
        (kind, type_, name): body
        for kind in ("resource", "data")
        for each in parsed[kind]
        for type_, named in each.items()
        for name, body in named.items()
    }


def test_it_is_what_the_template_makes_it() -> None:
    """The file is generated; `python scripts/generate_terraform.py` writes it."""
    command = [sys.executable, str(ROOT / "scripts" / "generate_terraform.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_the_table_is_the_one_that_the_code_expects(configuration: dict[tuple[str, str, str], dict[str, Any]]) -> None:
    """Attributes, keys, index and TTL are those of `queries.table_definition`."""
    expected = queries.table_definition("my-app")
    table = configuration["resource", "aws_dynamodb_table", "limiter"]
    (index,) = table["global_secondary_index"]
    (wanted,) = expected["GlobalSecondaryIndexes"]
    attributes = [{"AttributeName": each["name"], "AttributeType": each["type"]} for each in table["attribute"]]
    assert attributes == expected["AttributeDefinitions"]
    for found, keys in ((table, expected["KeySchema"]), (index, wanted["KeySchema"])):
        assert [found["hash_key"], found["range_key"]] == [each["AttributeName"] for each in keys]
    assert (index["name"], index["projection_type"]) == (wanted["IndexName"], wanted["Projection"]["ProjectionType"])
    assert table["ttl"] == [{"attribute_name": schema.TTL_ATTRIBUTE, "enabled": True}]
    assert table["billing_mode"] == expected["BillingMode"]


@pytest.mark.parametrize("level", ACTIONS)
def test_a_policy_allows_what_its_level_needs(configuration: dict[tuple[str, str, str], dict[str, Any]], level: str) -> None:
    """On this table and its index, and on no other; `acquire` does not reach the index."""
    statements = configuration["data", "aws_iam_policy_document", level]["statement"]
    assert {action.removeprefix("dynamodb:") for each in statements for action in each["actions"]} == ACTIONS[level]
    table = "aws_dynamodb_table.limiter.arn"
    reached = {place.replace("${", "").replace("}", "") for each in statements for place in each["resources"]}
    assert reached == {table} | ({f"{table}/index/listing"} if level == "read" else set())


def test_terraform_would_not_format_it_otherwise() -> None:
    """`terraform fmt` leaves the file as it is."""
    terraform = program("terraform", "install it from its vendor")
    done = subprocess.run([terraform, "fmt", "-check", str(FILE)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
