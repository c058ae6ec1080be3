"""Settings are checked at the door, and become the template's parameters."""

from __future__ import annotations

from typing import Any

import pytest

from limiter import StackSettings, ValidationError
from limiter.infra.ownership import check_stack_name
from limiter.infra.settings import check_names, stack_parameters


@pytest.mark.parametrize(
    "settings",
    [
        {"billing_mode": "PAY_PER_REQUEST"},
        {"read_capacity": 0},
        {"write_capacity": True},
        {"write_capacity": 2.5},
        {"max_read_units": -1},
        {"max_write_units": True},
        {"warm_read_units": 11_999},
        {"warm_write_units": 1},
        {"dashboard_namespace": "a b"},
        {"table_class": "glacier"},
        {"kms_key": "alias/mine"},
        {"kms_key": "arn:aws:kms:us-east-1:123456789012:alias/mine"},
        {"namespace": "tenant-*"},
        {"namespace": "a\n"},
        {"name_prefix": "x" * 33},
        {"name_prefix": "a b"},
        {"iam_path": "team"},
        {"permissions_boundary": "my-boundary"},
        {"trusted_principals": "arn:aws:iam::1:root"},
        {"trusted_services": ("a,b",)},
        {"trusted_services": ("",)},
        {"alarm_topic_arn": "topic"},
        {"alarm_email": "unknown"},
        {"tags": {"aws:x": "y"}},
        {"tags": {"limiter:version": "y"}},
        {"tags": {"": "y"}},
        {"tags": {"k" * 129: "y"}},
        {"tags": {"key": ""}},
        {"tags": {"key": "v" * 257}},
        {"tags": {f"key-{number}": "v" for number in range(47)}},
    ],
)
def test_bad_settings_are_refused_before_any_call(settings: dict[str, Any]) -> None:
    """What AWS would refuse is refused here, with the setting's name."""
    (name,) = settings
    with pytest.raises(ValidationError, match=name.removesuffix("s")):
        StackSettings(**settings)


def test_parameters_of_all_kinds() -> None:
    """Choices, flags, numbers, lists and texts become the template's strings."""
    settings = StackSettings(
        billing_mode="provisioned",
        write_capacity=100,
        max_write_units=0,
        warm_read_units=12_000,
        dashboard=True,
        table_class="infrequent-access",
        alarms=True,
        policies=False,
        kms_key="aws/dynamodb",
        trusted_services=("ecs-tasks.amazonaws.com", "lambda.amazonaws.com"),
    )
    assert {each["ParameterKey"]: each["ParameterValue"] for each in stack_parameters(settings, {})} == {
        "BillingMode": "PROVISIONED",
        "WriteCapacity": "100",
        "MaxWriteUnits": "0",
        "WarmReadUnits": "12000",
        "Dashboard": "true",
        "TableClass": "STANDARD_INFREQUENT_ACCESS",
        "Alarms": "true",
        "Policies": "false",
        "KmsKey": "aws/dynamodb",
        "TrustedServices": "ecs-tasks.amazonaws.com,lambda.amazonaws.com",
    }


def test_previous_parameters_that_the_template_has_lost() -> None:
    """A parameter of an older template that this one does not know is not asked for again."""
    given = stack_parameters(StackSettings(alarms=True), {"Alarms": "false", "Namespace": "tenant", "Forgotten": "x"})
    assert given == [
        {"ParameterKey": "Alarms", "ParameterValue": "true"},
        {"ParameterKey": "Namespace", "UsePreviousValue": True},
    ]


def test_names_that_iam_would_refuse() -> None:
    """Roles can have 64 characters and policies 128, of which stack and region take their part."""
    roles = StackSettings(name_prefix="p" * 10, trusted_services=("ecs-tasks.amazonaws.com",))
    check_names("a" * 30, roles, {})
    with pytest.raises(ValidationError, match="names of roles would exceed 64 characters by 1"):
        check_names("a" * 31, roles, {})
    policies = StackSettings(name_prefix="p" * 32)
    check_names("a" * 62, policies, {})
    with pytest.raises(ValidationError, match="names of policies would exceed 128 characters"):
        check_names("a" * 63, policies, {})
    check_names("a" * 128, StackSettings(name_prefix="p" * 32, policies=False), {})
    with pytest.raises(ValidationError, match="names of roles"):
        check_names("a" * 60, StackSettings(), {"NamePrefix": "p" * 10, "TrustedPrincipals": "123456789012"})


def test_stack_names() -> None:
    """A name has to suit both CloudFormation and DynamoDB."""
    for name in ("abc", "My-App-1", "a" * 128):
        assert check_stack_name(name) == name
