"""The template says what the code and the documentation say, and CloudFormation's own linter finds nothing."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError

from limiter import StackManager
from limiter.aws import queries, schema
from limiter.contrib.emf import METRICS
from limiter.infra.settings import (
    BILLING_MODES,
    PATTERNS,
    TABLE_CLASSES,
    TEMPLATE_FIELDS,
    StackSettings,
    chosen_parameters,
    parameter_name,
)

if TYPE_CHECKING:
    from support.engines import Engine

LEVELS = {
    "Acquire": {"GetItem", "BatchGetItem", "UpdateItem"},
    "Read": {"GetItem", "BatchGetItem", "Query"},
    "Admin": {
        "GetItem",
        "BatchGetItem",
        "Query",
        "PutItem",
        "UpdateItem",
        "DeleteItem",
        "BatchWriteItem",
        "Scan",
    },
}
MAX_TEMPLATE = 51_200


class Loader(yaml.SafeLoader):
    """Reads CloudFormation's tags as the functions that they are short for."""


def function(loader: Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    """The long form of a function."""
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type] # the third kind of node
    if suffix == "GetAtt":
        value = value.split(".")
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", function)  # type: ignore[no-untyped-call] # untyped in its stubs


def load(text: str) -> dict[str, Any]:
    """A template as data."""
    loaded: dict[str, Any] = yaml.load(text, Loader)  # noqa: S506 - a safe loader with CloudFormation's tags
    return loaded


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    """The template as data."""
    return load(StackManager.template())


@pytest.fixture(scope="module")
def table(template: dict[str, Any]) -> dict[str, Any]:
    """The properties of the table."""
    properties: dict[str, Any] = template["Resources"]["Table"]["Properties"]
    return properties


def statements(template: dict[str, Any], policy: str) -> list[dict[str, Any]]:
    """The statements of a policy."""
    found: list[dict[str, Any]] = template["Resources"][policy]["Properties"]["PolicyDocument"]["Statement"]
    return found


def test_the_table_is_the_one_that_the_code_expects(table: dict[str, Any]) -> None:
    """Keys, attributes and indexes are those of `queries.table_definition`, and the name is the stack's."""
    expected = queries.table_definition("my-app")
    (index,) = table["GlobalSecondaryIndexes"]
    kept = {name: value for name, value in index.items() if name != "ProvisionedThroughput"}
    assert [kept] == expected["GlobalSecondaryIndexes"]
    assert table["AttributeDefinitions"] == expected["AttributeDefinitions"]
    assert table["KeySchema"] == expected["KeySchema"]
    assert table["TableName"] == {"Ref": "AWS::StackName"}
    assert table["TimeToLiveSpecification"] == {"AttributeName": schema.TTL_ATTRIBUTE, "Enabled": True}


def test_the_default_costs_nothing_extra(template: dict[str, Any]) -> None:
    """By default: on demand without bounds, no backups, no protection, AWS's own key, no alarms, no dashboard, no roles."""
    defaults = {name: parameter["Default"] for name, parameter in template["Parameters"].items()}
    chosen = {name: value for name, value in defaults.items() if value not in {"", "false", 0}}
    assert chosen == {
        "BillingMode": queries.table_definition("my-app")["BillingMode"],
        "ReadCapacity": 5,
        "WriteCapacity": 5,
        "TableClass": "STANDARD",
        "Policies": "true",
        "IamPath": "/",
        "DashboardNamespace": "limiter",
    }


def test_nothing_but_what_is_announced(template: dict[str, Any]) -> None:
    """No function, stream or bucket: one table, policies, and on request roles, alarms and a dashboard."""
    kinds = {resource["Type"] for resource in template["Resources"].values()}
    assert kinds == {
        "AWS::DynamoDB::Table",
        "AWS::IAM::ManagedPolicy",
        "AWS::IAM::Role",
        "AWS::CloudWatch::Alarm",
        "AWS::CloudWatch::Dashboard",
        "AWS::SNS::Topic",
        "AWS::SNS::Subscription",
    }
    assert "StreamSpecification" not in template["Resources"]["Table"]["Properties"]


@pytest.mark.parametrize(("level", "confined"), list(itertools.product(LEVELS, [False, True])))
def test_policies_allow_exactly_what_their_level_needs(template: dict[str, Any], level: str, confined: bool) -> None:
    """Each level has its actions on items and no other; only the table-wide admin may scan."""
    items, *others = statements(template, f"{'Namespace' if confined else ''}{level}Policy")
    expected = LEVELS[level] - ({"Scan"} if confined else set())
    assert sorted(items["Action"]) == sorted(f"dynamodb:{action}" for action in expected)
    described = {action for other in others for action in other["Action"]}
    assert described == (set() if level == "Acquire" else {"dynamodb:DescribeTable", "dynamodb:DescribeTimeToLive"})


@pytest.mark.parametrize("level", LEVELS)
def test_resources_are_the_table_and_its_index(template: dict[str, Any], level: str) -> None:
    """No policy reaches another table; `acquire` does not reach the index."""
    table_arn, index_arn = {"Fn::GetAtt": ["Table", "Arn"]}, {"Fn::Sub": "${Table.Arn}/index/listing"}
    for policy in (f"{level}Policy", f"Namespace{level}Policy"):
        items, *others = statements(template, policy)
        assert items["Resource"] == ([table_arn] if level == "Acquire" else [table_arn, index_arn])
        assert all(other["Resource"] == table_arn for other in others)


@pytest.mark.parametrize("level", LEVELS)
def test_a_namespace_confines_every_action_on_items(template: dict[str, Any], level: str) -> None:
    """All leading keys have to be the namespace's, and a request without any, such as a scan, is not allowed."""
    items, *others = statements(template, f"Namespace{level}Policy")
    assert items["Condition"] == {
        "ForAllValues:StringLike": {"dynamodb:LeadingKeys": [{"Fn::Sub": "${Namespace}#*"}]},
        "Null": {"dynamodb:LeadingKeys": "false"},
    }
    assert all(action.startswith("dynamodb:Describe") for other in others for action in other["Action"])
    assert "Condition" not in statements(template, f"{level}Policy")[0]


@pytest.mark.parametrize("level", LEVELS)
def test_a_role_has_one_level(template: dict[str, Any], level: str) -> None:
    """A role has the policy of its level, confined when there is a namespace, and the key's when there is one."""
    policy = {"Fn::If": ["HasNamespace", {"Ref": f"Namespace{level}Policy"}, {"Ref": f"{level}Policy"}]}
    role = template["Resources"][f"{level}Role"]
    assert role["Properties"]["ManagedPolicyArns"] == {"Fn::If": ["HasOwnKey", [policy, {"Ref": "KeyPolicy"}], [policy]]}
    assert role["Condition"] == "HasRoles"


def test_every_key_is_in_its_namespace() -> None:
    """The condition of the policies fits the keys that the code writes."""
    key = schema.bucket_key(schema.BucketKey("tenant", "user", "resource"))
    assert key["pk"]["S"].startswith("tenant#")
    for query in (queries.children_query("tenant", "user"), queries.limited_entities_query("tenant", "resource")):
        assert any(value["S"].startswith("tenant#") for value in query["ExpressionAttributeValues"].values())


def test_no_wildcard_fits_into_a_namespace() -> None:
    """A namespace that a policy would read as a pattern or a variable is refused."""
    for text in ("*", "a*", "a?", "${aws:username}", "a\n"):
        assert not re.fullmatch(PATTERNS["namespace"], text)


@pytest.mark.parametrize("namespace", ["tenant", "a#b", "#", "50%", "a%23b", "%25", "a b(c)"])
def test_a_namespace_is_given_to_the_template_as_in_keys(template: dict[str, Any], namespace: str) -> None:
    """The policies then confine to its keys, with any sign in its name, and the template takes what it is given."""
    (given,) = chosen_parameters(StackSettings(namespace=namespace)).values()
    assert re.fullmatch(template["Parameters"]["Namespace"]["AllowedPattern"], given)
    key = schema.bucket_key(schema.BucketKey(namespace, "user", "resource"))
    assert key["pk"]["S"] == f"{given}#user"


def test_arns_are_of_every_partition(template: dict[str, Any]) -> None:
    """No resource or output spells out a partition, so the template is good for China and GovCloud."""
    built = {"Resources": template["Resources"], "Outputs": template["Outputs"]}
    assert "arn:aws" not in str(built)
    assert "amazonaws.com" not in str(built)
    for name in ("KmsKey", "PermissionsBoundary", "AlarmTopicArn"):
        service = {"KmsKey": "kms:cn-north-1:123456789012:key/x", "AlarmTopicArn": "sns:cn-north-1:123456789012:t"}
        rest = service.get(name, "iam::123456789012:policy/p")
        for partition in ("aws", "aws-cn", "aws-us-gov"):
            assert re.fullmatch(template["Parameters"][name]["AllowedPattern"], f"arn:{partition}:{rest}")


def test_settings_and_parameters_are_the_same(template: dict[str, Any]) -> None:
    """Every parameter can be chosen in `StackSettings`, within the same bounds."""
    parameters = template["Parameters"]
    assert {parameter_name(name) for name in TEMPLATE_FIELDS} == set(parameters)
    patterns = {name: each["AllowedPattern"] for name, each in parameters.items() if "AllowedPattern" in each}
    assert {parameter_name(name): pattern for name, pattern in PATTERNS.items()} == patterns
    assert parameters["BillingMode"]["AllowedValues"] == list(BILLING_MODES.values())
    assert parameters["TableClass"]["AllowedValues"] == list(TABLE_CLASSES.values())


def test_retention_is_one_line() -> None:
    """The two templates differ in what happens to the table when its stack is deleted, and in nothing else."""
    deleted, retained = load(StackManager.template()), load(StackManager.template(retain=True))
    assert deleted["Resources"]["Table"].pop("DeletionPolicy") == "Delete"
    assert retained["Resources"]["Table"].pop("DeletionPolicy") == "Retain"
    assert deleted == retained
    assert deleted["Resources"]["Table"]["UpdateReplacePolicy"] == "Retain"


@pytest.mark.parametrize("retain", [False, True])
def test_the_template_fits_into_a_request(retain: bool) -> None:
    """CloudFormation takes 51,200 bytes without a bucket, of which a good part stays free."""
    assert len(StackManager.template(retain=retain).encode()) < MAX_TEMPLATE * 0.75


def test_alarms_watch_the_three_troubles(template: dict[str, Any]) -> None:
    """Throttled writes, errors of DynamoDB and hot keys, all of this table, all to the topic."""
    alarms = [each["Properties"] for each in template["Resources"].values() if each["Type"] == "AWS::CloudWatch::Alarm"]
    metrics = {each.get("MetricName") or each["Metrics"][1]["MetricStat"]["Metric"]["MetricName"] for each in alarms}
    assert metrics == {"WriteThrottleEvents", "WriteKeyRangeThroughputThrottleEvents", "SystemErrors"}
    topic = [{"Fn::If": ["HasGivenTopic", {"Ref": "AlarmTopicArn"}, {"Ref": "AlarmTopic"}]}]
    assert all(alarm["AlarmActions"] == alarm["OKActions"] == topic for alarm in alarms)


def test_the_dashboard_shows_the_table_and_decisions(template: dict[str, Any]) -> None:
    """Units, throttling, hot keys and latency of this table, and metrics of `limiter.contrib.emf`; its charts fill the grid."""
    body = template["Resources"]["TableDashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    assert set(re.findall(r"\$\{([^}]+)\}", body)) == {"AWS::Region", "Table", "DashboardNamespace"}
    widgets = json.loads(body)["widgets"]
    covered = [
        (x, y)
        for each in widgets
        for x in range(each["x"], each["x"] + each["width"])
        for y in range(each["y"], each["y"] + each["height"])
    ]
    assert len(covered) == len(set(covered)) == 24 * (1 + max(y for _, y in covered))
    charts = [each["properties"]["metrics"] for each in widgets]
    series = [line for chart in charts for line in chart]
    assert {line[1] for line in series if line[0] == "AWS/DynamoDB"} == {
        "ConsumedReadCapacityUnits",
        "ConsumedWriteCapacityUnits",
        "ReadKeyRangeThroughputThrottleEvents",
        "ReadThrottleEvents",
        "SuccessfulRequestLatency",
        "WriteKeyRangeThroughputThrottleEvents",
        "WriteThrottleEvents",
    }
    assert all(line[2:4] == ["TableName", "${Table}"] for line in series if line[0] == "AWS/DynamoDB")
    searched = {found for line in series for found in re.findall(r'MetricName="(\w+)"', str(line))}
    assert searched == set(METRICS) - {"WaitTime"}


def test_bounds_of_throughput_are_left_out_unless_chosen(template: dict[str, Any], table: dict[str, Any]) -> None:
    """0 stands for no maximum and no warm throughput, and a maximum is for billing on demand."""
    nothing = {"Ref": "AWS::NoValue"}
    assert table["OnDemandThroughput"]["Fn::If"][::2] == ["HasMaximum", nothing]
    assert table["WarmThroughput"]["Fn::If"][::2] == ["HasWarmThroughput", nothing]
    for name in ("HasMaxReads", "HasMaxWrites"):
        assert {"Fn::Not": [{"Condition": "IsProvisioned"}]} in template["Conditions"][name]["Fn::And"]


def test_every_output_is_exported(template: dict[str, Any]) -> None:
    """Other stacks import outputs by the stack's name and the output's."""
    for name, output in template["Outputs"].items():
        assert output["Export"] == {"Name": {"Fn::Sub": f"${{AWS::StackName}}-{name}"}}


@pytest.mark.parametrize("retain", [False, True])
def test_cfn_lint_finds_nothing(tmp_path: Path, retain: bool) -> None:
    """AWS's linter has neither errors nor warnings."""
    path = tmp_path / "template.yaml"
    path.write_text(StackManager.template(retain=retain))
    command = [str(Path(sys.executable).with_name("cfn-lint")), "--include-checks", "I", "--", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


def test_the_linter_would_find_something(tmp_path: Path) -> None:
    """A template with a mistake in it is not passed, so the test above can fail."""
    path = tmp_path / "template.yaml"
    path.write_text(StackManager.template().replace("KeyType: HASH", "KeyType: HUSH"))
    command = [str(Path(sys.executable).with_name("cfn-lint")), "--", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode != 0
    assert "HUSH" in done.stdout


EVERYTHING = {
    "Namespace": "tenant",
    "NamePrefix": "corp",
    "TrustedServices": "ecs-tasks.amazonaws.com,lambda.amazonaws.com",
    "KmsKey": "arn:aws:kms:us-east-1:123456789012:key/1234",
    "DeletionProtection": "true",
    "PointInTimeRecovery": "true",
    "MaxWriteUnits": "5000",
    "WarmWriteUnits": "8000",
    "Dashboard": "true",
}


@pytest.mark.engines("moto")
@pytest.mark.parametrize("parameters", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_outputs_on_an_engine(server_engine: Engine, table_name: str, parameters: dict[str, str]) -> None:
    """Outputs are there when what they name is; policies, as an engine renders them, hold the table's own ARN."""
    cloud = boto3.client("cloudformation", "us-east-1", endpoint_url=server_engine.endpoint_url)
    given = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]
    body = StackManager.template()
    cloud.create_stack(StackName=table_name, TemplateBody=body, Parameters=given, Capabilities=["CAPABILITY_NAMED_IAM"])
    listed = cloud.describe_stacks(StackName=table_name)["Stacks"][0]["Outputs"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in listed}
    always = {"TableName", "TableArn", "AcquirePolicyArn", "ReadPolicyArn", "AdminPolicyArn"}
    namespaced = {"NamespaceAcquirePolicyArn", "NamespaceReadPolicyArn", "NamespaceAdminPolicyArn"}
    roles = {"AcquireRoleArn", "ReadRoleArn", "AdminRoleArn", "KeyPolicyArn"}
    chosen = namespaced | roles | {"DashboardName"}
    assert set(outputs) == (always | chosen if parameters else always)
    iam = boto3.client("iam", "us-east-1", endpoint_url=server_engine.endpoint_url)
    version = iam.get_policy_version(PolicyArn=outputs["AcquirePolicyArn"], VersionId="v1")["PolicyVersion"]
    assert version["Document"]["Statement"][0]["Resource"] == [outputs["TableArn"]]
    if parameters:
        version = iam.get_policy_version(PolicyArn=outputs["NamespaceReadPolicyArn"], VersionId="v1")["PolicyVersion"]
        condition = version["Document"]["Statement"][0]["Condition"]
        assert condition["ForAllValues:StringLike"] == {"dynamodb:LeadingKeys": ["tenant#*"]}
        assert outputs["AdminRoleArn"] == f"arn:aws:iam::123456789012:role/corp-{table_name}-us-east-1-admin"
        with pytest.raises(ClientError, match="DeletionProtection"):
            boto3.client("dynamodb", "us-east-1", endpoint_url=server_engine.endpoint_url).delete_table(TableName=table_name)
