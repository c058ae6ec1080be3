"""The template for a table in several regions, and the settings that lead to it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from limiter import StackManager, StackSettings, ValidationError
from limiter.aws import queries
from limiter.infra import regions
from limiter.infra.ownership import own_tags, regions_in
from limiter.infra.settings import TEMPLATE_FIELDS, parameter_name

THREE = ("us-east-1", "us-east-2", "us-west-2")
TWO, WITNESS = THREE[:2], THREE[2]
LEVELS = ("Acquire", "Read", "Admin")


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's tags as plain values."""


def plain(loader: Loader, suffix: str, node: yaml.Node) -> Any:
    """What a function is applied to, with its name."""
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {suffix: loader.construct_sequence(node, deep=True)}
    return {suffix: loader.construct_mapping(node, deep=True)}  # type: ignore[arg-type] # the third kind of node


Loader.add_multi_constructor("!", plain)  # type: ignore[no-untyped-call] # untyped in its stubs


def load(**options: Any) -> dict[str, Any]:
    """A template as data."""
    loaded: dict[str, Any] = yaml.load(StackManager.template(**options), Loader)  # noqa: S506 - a safe loader
    return loaded


def test_the_table_is_one_that_limits_can_be_exact_on() -> None:
    """Strong consistency, the keys and the index that the code expects, and no time to live, which such a table refuses."""
    table = load(regions=TWO, witness=WITNESS)["Resources"]["Table"]
    properties, expected = table["Properties"], queries.table_definition("my-app")
    assert table["Type"] == "AWS::DynamoDB::GlobalTable"
    assert properties["MultiRegionConsistency"] == "STRONG"
    assert properties["GlobalTableWitnesses"] == [{"Region": WITNESS}]
    assert [each["Region"] for each in properties["Replicas"]] == [*TWO]
    assert "TimeToLiveSpecification" not in properties
    assert {
        name: properties[name] for name in ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
    } == {name: expected[name] for name in ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")}
    three = load(regions=THREE)["Resources"]["Table"]["Properties"]
    assert [each["Region"] for each in three["Replicas"]] == [*THREE]
    assert "GlobalTableWitnesses" not in three


@pytest.mark.parametrize("level", LEVELS)
def test_policies_reach_every_replica_and_nothing_else(level: str) -> None:
    """The actions are those of one region; the resources are the replicas, and their index where a level reads it."""
    one, several = load()["Resources"], load(regions=TWO, witness=WITNESS)["Resources"]
    arns = [f"arn:${{AWS::Partition}}:dynamodb:{region}:${{AWS::AccountId}}:table/${{Table}}" for region in TWO]
    tables = [{"Sub": arn} for arn in arns]
    indexes = [] if level == "Acquire" else [{"Sub": f"{arn}/index/listing"} for arn in arns]
    for policy in (f"{level}Policy", f"Namespace{level}Policy"):
        before, (items, *others) = (each[policy]["Properties"]["PolicyDocument"]["Statement"] for each in (one, several))
        assert items["Resource"] == tables + indexes
        assert all(other["Resource"] == tables for other in others)
        assert [{**each, "Resource": ""} for each in before] == [{**each, "Resource": ""} for each in (items, *others)]


def test_what_a_table_in_several_regions_does_not_have_is_left_out() -> None:
    """No provisioned capacity and no key; the settings that remain are the template's parameters, and all else is the same."""
    one, several = load(), load(regions=THREE)
    left_out = {parameter_name(name) for name in regions.LEFT_OUT}
    assert set(several["Parameters"]) == {parameter_name(name) for name in TEMPLATE_FIELDS} - left_out
    assert set(one["Resources"]) - set(several["Resources"]) == {"KeyPolicy"}
    assert set(one["Outputs"]) - set(several["Outputs"]) == {"KeyPolicyArn"}
    assert not re.search("Kms|kms|Provisioned|OwnKey", StackManager.template(regions=THREE))
    policy = {"If": ["HasNamespace", {"Ref": "NamespaceReadPolicy"}, {"Ref": "ReadPolicy"}]}
    assert several["Resources"]["ReadRole"]["Properties"]["ManagedPolicyArns"] == [policy]
    same = [name for name in several["Resources"] if "Policy" not in name and "Role" not in name and name != "Table"]
    assert {name: several["Resources"][name] for name in same} == {name: one["Resources"][name] for name in same}


def test_cfn_lint_finds_nothing(tmp_path: Path) -> None:
    """AWS's linter has neither errors nor warnings, and the template fits into a request with room to spare."""
    path = tmp_path / "template.yaml"
    path.write_text(StackManager.template(regions=TWO, witness=WITNESS, retain=True))
    assert "DeletionPolicy: Retain" in path.read_text()
    command = [str(Path(sys.executable).with_name("cfn-lint")), "--include-checks", "I", "--", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)
    assert len(StackManager.template(regions=THREE).encode()) < 51_200 * 0.75


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"regions": TWO}, "us-east-1, us-east-2$"),
        ({"regions": THREE, "witness": "eu-west-1"}, "with the witness eu-west-1"),
        ({"regions": (*TWO, "us-east-1")}, "three different regions"),
        ({"regions": TWO, "witness": "us-east-1"}, "three different regions"),
        ({"witness": WITNESS}, "not one region with the witness"),
        ({"regions": (*TWO, "Oregon")}, "invalid region 'Oregon'"),
        (
            {"regions": THREE, "kms_key": "aws/dynamodb"},
            "kms_key 'aws/dynamodb' is .* one region; leave it out",
        ),
        ({"regions": THREE, "billing_mode": "on-demand"}, "billing_mode"),
    ],
)
def test_wrong_regions_are_named(options: dict[str, Any], words: str) -> None:
    """The message says what a table in several regions needs."""
    with pytest.raises(ValidationError, match=words):
        StackSettings(**options)


def test_tags_remember_the_regions() -> None:
    """So a later deploy keeps them; a stack in one region has no such tag."""
    assert regions_in(own_tags(retain=False, regions=TWO, witness=WITNESS)) == (TWO, WITNESS)
    assert regions_in(own_tags(retain=False, regions=THREE)) == (THREE, None)
    assert regions_in(own_tags(retain=False)) == ((), None)
    assert "limiter:regions" not in own_tags(retain=False)


def test_a_template_that_lost_a_part_is_noticed() -> None:
    """A block that is to be left out has to be there."""
    with pytest.raises(AssertionError, match="KmsKey"):
        regions.in_regions(StackManager.template().replace("  KmsKey:\n", "  Other:\n"), THREE, None)
