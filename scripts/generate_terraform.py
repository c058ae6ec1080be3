"""Write the Terraform configuration of the table and its policies, which follows from the CloudFormation template.

`examples/terraform/main.tf` is generated completely, as `terraform fmt` would leave it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "src"))

from limiter.infra.settings import render_template  # noqa: E402 - found by the line above

if TYPE_CHECKING:
    from collections.abc import Sequence

TARGET = ROOT / "examples" / "terraform" / "main.tf"
LEVELS = ("Acquire", "Read", "Admin")
RESOURCES = {
    "Table.Arn": "aws_dynamodb_table.limiter.arn",
    "${Table.Arn}/index/listing": '"${aws_dynamodb_table.limiter.arn}/index/listing"',
}
KEY_TYPES = {"HASH": "hash_key", "RANGE": "range_key"}

HEAD = """\
# A table for dynamodb-limiter, and the policies to use it.
# Written by scripts/generate_terraform.py from the CloudFormation template.

variable "name" {
  description = "The table's name, which programs pass to Repository."
  type        = string
  default     = "my-app"
}

variable "point_in_time_recovery" {
  description = "Keep backups of the last 35 days."
  type        = bool
  default     = false
}

variable "deletion_protection" {
  description = "Refuse to delete the table."
  type        = bool
  default     = false
}
"""


class Loader(yaml.SafeLoader):
    """Reads the arguments of CloudFormation's functions in place of the functions."""


def argument(loader: Loader, suffix: str, node: yaml.Node) -> Any:
    """Return what a function is applied to."""
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True)  # type: ignore[arg-type] # the third kind of node


Loader.add_multi_constructor("!", argument)


def configuration() -> str:
    """Return the configuration."""
    resources = yaml.load(render_template(), Loader)["Resources"]  # noqa: S506 - a safe loader, see above
    table = resources["Table"]["Properties"]
    policies = [policy(level, resources[f"{level}Policy"]["Properties"]) for level in LEVELS]
    return "\n".join([HEAD, table_resource(table), *policies, outputs()])


def table_resource(table: dict[str, Any]) -> str:
    """Return the table."""
    (index,) = table["GlobalSecondaryIndexes"]
    attributes = [
        block("attribute", {"name": each["AttributeName"], "type": each["AttributeType"]})
        for each in table["AttributeDefinitions"]
    ]
    ttl = table["TimeToLiveSpecification"]
    keys = {KEY_TYPES[each["KeyType"]]: each["AttributeName"] for each in table["KeySchema"]}
    parts = [
        fields(
            {
                "name": Reference("var.name"),
                "billing_mode": "PAY_PER_REQUEST",
                **keys,
                "deletion_protection_enabled": Reference("var.deletion_protection"),
            }
        ),
        *attributes,
        block(
            "global_secondary_index",
            {"name": index["IndexName"], "projection_type": index["Projection"]["ProjectionType"]},
            key_schema(index),
        ),
        block("ttl", {"attribute_name": ttl["AttributeName"], "enabled": ttl["Enabled"]}),
        block("point_in_time_recovery", {"enabled": Reference("var.point_in_time_recovery")}),
    ]
    return wrapped('resource "aws_dynamodb_table" "limiter"', "\n\n".join(parts))


def key_schema(index: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of an index."""
    return {KEY_TYPES[each["KeyType"]]: each["AttributeName"] for each in index["KeySchema"]}


class Reference(str):
    """An expression of Terraform, which takes no quotes."""

    __slots__ = ()


def policy(level: str, properties: dict[str, Any]) -> str:
    """Return a policy with its document."""
    name = level.lower()
    statements = [statement(each) for each in properties["PolicyDocument"]["Statement"]]
    document = wrapped(f'data "aws_iam_policy_document" "{name}"', "\n\n".join(statements))
    body = fields(
        {"name": Reference(f'"${{var.name}}-{name}"'), "policy": Reference(f"data.aws_iam_policy_document.{name}.json")}
    )
    return document + "\n" + wrapped(f'resource "aws_iam_policy" "{name}"', body)


def statement(each: dict[str, Any]) -> str:
    """Return one statement of a policy's document."""
    resources = each["Resource"] if isinstance(each["Resource"], list) else [each["Resource"]]
    actions = "\n".join(f'  "{action}",' for action in each["Action"])
    places = "\n".join(f"  {RESOURCES[place]}," for place in resources)
    return wrapped("statement", f'sid = "{each["Sid"]}"\nactions = [\n{actions}\n]\nresources = [\n{places}\n]').rstrip("\n")


def outputs() -> str:
    """Return the outputs: the table's ARN and those of the policies."""
    arns = {"table_arn": "aws_dynamodb_table.limiter.arn"}
    arns |= {f"{level.lower()}_policy_arn": f"aws_iam_policy.{level.lower()}.arn" for level in LEVELS}
    return "\n".join(wrapped(f'output "{name}"', fields({"value": Reference(value)})) for name, value in arns.items())


def block(head: str, values: dict[str, Any], more: dict[str, Any] | None = None) -> str:
    """Return a block inside of a resource."""
    return wrapped(head, fields({**values, **(more or {})})).rstrip("\n")


def fields(values: dict[str, Any]) -> str:
    """Return arguments with their equals signs aligned."""
    width = max(map(len, values))
    return "\n".join(f"{name:{width}} = {expression(value)}" for name, value in values.items())


def expression(value: Any) -> str:
    """Return a value as Terraform writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, Reference) else f'"{value}"'


def wrapped(head: str, body: str) -> str:
    """Return a block of its head and its body, indented."""
    lines = "\n".join(f"  {line}" if line else "" for line in body.split("\n"))
    return f"{head} {{\n{lines}\n}}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the configuration, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the configuration is out of date")
    options = parser.parse_args(arguments)
    text = configuration()
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    print(TARGET.relative_to(ROOT).as_posix())
    if not options.check:
        TARGET.parent.mkdir(exist_ok=True)
        TARGET.write_text(text, encoding="utf-8")
    return int(options.check)


if __name__ == "__main__":
    sys.exit(main())
