"""What can be chosen about a stack, and the template's parameters that express it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ..exceptions import ValidationError
from .ownership import check_tags

if TYPE_CHECKING:
    from collections.abc import Mapping

BILLING_MODES = {"on-demand": "PAY_PER_REQUEST", "provisioned": "PROVISIONED"}
TABLE_CLASSES = {"standard": "STANDARD", "infrequent-access": "STANDARD_INFREQUENT_ACCESS"}
_CHOICES = {"billing_mode": BILLING_MODES, "table_class": TABLE_CLASSES}
PATTERNS = {
    "kms_key": r"^$|^aws/dynamodb$|^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/.+$",
    "namespace": r"^[A-Za-z0-9 ._:;@/=+,~!()-]*$",
    "name_prefix": r"^[A-Za-z0-9+=,.@_-]*$",
    "iam_path": r"^/([!-~]{1,510}/)?$",
    "permissions_boundary": r"^$|^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/.+$",
    "alarm_topic_arn": r"^$|^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:.+$",
    "alarm_email": r"^$|^[^@ ]+@[^@ ]+$",
}
"""The template's own patterns, so that what CloudFormation would refuse is refused before the call."""

_MAX_REGION, _MAX_POLICY_NAME, _MAX_ROLE_NAME = 14, 128, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """What to choose about a stack. None leaves a stack as it is, and gives a new one the default.

    `billing_mode` is "on-demand" (default) or "provisioned", with `read_capacity` and `write_capacity` in units per second.
    `retain` keeps the table when the stack is deleted. `kms_key` is "" (a key that AWS owns), "aws/dynamodb" or the ARN of a
    key. `policies` (on by default) creates the managed policies *acquire*, *read* and *admin*, and `namespace` three more that
    are confined to it. `trusted_principals` (ARNs, account numbers) and `trusted_services` create a role for each policy.
    `alarms` go to `alarm_topic_arn`, or to a new topic, to which `alarm_email` is subscribed. `tags` are all the tags of yours.
    """

    billing_mode: str | None = None
    read_capacity: int | None = None
    write_capacity: int | None = None
    table_class: str | None = None
    point_in_time_recovery: bool | None = None
    deletion_protection: bool | None = None
    retain: bool | None = None
    kms_key: str | None = None
    policies: bool | None = None
    namespace: str | None = None
    name_prefix: str | None = None
    iam_path: str | None = None
    permissions_boundary: str | None = None
    trusted_principals: tuple[str, ...] | None = None
    trusted_services: tuple[str, ...] | None = None
    alarms: bool | None = None
    alarm_topic_arn: str | None = None
    alarm_email: str | None = None
    tags: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            _check_choice(name, getattr(self, name), choices)
        for name in ("read_capacity", "write_capacity"):
            _check_capacity(name, getattr(self, name))
        for name, pattern in PATTERNS.items():
            _check_pattern(name, getattr(self, name), pattern)
        for name in ("trusted_principals", "trusted_services"):
            _check_list(name, getattr(self, name))
        if self.name_prefix is not None and len(self.name_prefix) > 32:
            raise ValidationError(f"name_prefix can have 32 characters, not {len(self.name_prefix)}: {self.name_prefix!r}")
        if self.tags is not None:
            check_tags(self.tags)


TEMPLATE_FIELDS = tuple(field.name for field in fields(StackSettings) if field.name not in {"retain", "tags"})


def parameter_name(field: str) -> str:
    """The template's parameter for a field, such as PointInTimeRecovery for `point_in_time_recovery`."""
    return "".join(part.capitalize() for part in field.split("_"))


def chosen_parameters(settings: StackSettings) -> dict[str, str]:
    """The template's parameters that the settings choose."""
    values = {name: getattr(settings, name) for name in TEMPLATE_FIELDS}
    return {parameter_name(name): _parameter_value(name, value) for name, value in values.items() if value is not None}


def stack_parameters(settings: StackSettings, previous: Mapping[str, str]) -> list[dict[str, Any]]:
    """The parameters of a change set: chosen ones, and the stack's `previous` ones where nothing was chosen."""
    chosen = chosen_parameters(settings)
    known = {parameter_name(name) for name in TEMPLATE_FIELDS}
    kept = sorted(known & previous.keys() - chosen.keys())
    given = [{"ParameterKey": key, "ParameterValue": value} for key, value in sorted(chosen.items())]
    return given + [{"ParameterKey": key, "UsePreviousValue": True} for key in kept]


def check_names(stack: str, settings: StackSettings, previous: Mapping[str, str]) -> None:
    """Raise `ValidationError` when the names that the template would give to policies and roles are too long for IAM."""
    parameters = {**previous, **chosen_parameters(settings)}
    prefix = parameters.get("NamePrefix", "")
    if not prefix or parameters.get("Policies", "true") == "false":
        return
    length = len(prefix) + len(stack) + _MAX_REGION + len("---")
    roles = parameters.get("TrustedPrincipals") or parameters.get("TrustedServices")
    if roles and length + len("acquire") > _MAX_ROLE_NAME:
        over = length + len("acquire") - _MAX_ROLE_NAME
        raise ValidationError(f"name_prefix {prefix!r} makes names of roles that are {over} characters too long; shorten it")
    if length + len("namespace-acquire") > _MAX_POLICY_NAME:
        raise ValidationError(f"name_prefix {prefix!r} makes names of policies that are too long; shorten it")


def _parameter_value(name: str, value: Any) -> str:
    if name in _CHOICES:
        return _CHOICES[name][value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _check_choice(name: str, value: object, choices: Mapping[str, str]) -> None:
    if value is not None and value not in choices:
        raise ValidationError(f"{name} is one of {', '.join(choices)}, not {value!r}")


def _check_capacity(name: str, value: object) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValidationError(f"{name} is a number of units per second from 1, not {value!r}")


def _check_pattern(name: str, value: object, pattern: str) -> None:
    # `$` matches before a final line break, which CloudFormation does not mean.
    if value is not None and (not isinstance(value, str) or "\n" in value or not re.search(pattern, value)):
        raise ValidationError(f"{name} cannot be {value!r}; the template takes {pattern}")


def _check_list(name: str, value: object) -> None:
    usable = isinstance(value, tuple) and all(isinstance(each, str) and each and "," not in each for each in value)
    if value is not None and not usable:
        raise ValidationError(f"{name} is a tuple of names without commas, not {value!r}")
