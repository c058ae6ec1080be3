"""The settings of a stack, the template, and the template's parameters for the settings."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..aws.schema import PARTITION_KEY, bucket_key
from ..core.records import BucketKey
from ..exceptions import ValidationError
from .ownership import check_tags
from .regions import check_regions, check_settings, in_regions

if TYPE_CHECKING:
    from collections.abc import Mapping

BILLING_MODES = {"on-demand": "PAY_PER_REQUEST", "provisioned": "PROVISIONED"}
TABLE_CLASSES = {"standard": "STANDARD", "infrequent-access": "STANDARD_INFREQUENT_ACCESS"}
_CHOICES = {"billing_mode": BILLING_MODES, "table_class": TABLE_CLASSES}
PATTERNS = {
    "kms_key": r"^$|^aws/dynamodb$|^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/.+$",
    "namespace": r"^[A-Za-z0-9 ._:;@/=+,~!()%-]*$",
    "name_prefix": r"^[A-Za-z0-9+=,.@_-]*$",
    "iam_path": r"^/([!-~]{1,510}/)?$",
    "permissions_boundary": r"^$|^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/.+$",
    "alarm_topic_arn": r"^$|^arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:.+$",
    "alarm_email": r"^$|^[^@ ]+@[^@ ]+$",
    "dashboard_namespace": r"^[A-Za-z0-9._/#:-]{1,255}$",
}
"""The template's own patterns, checked before the call to CloudFormation; a namespace is given to it as it begins a key."""

LEAST_UNITS = {"max_read_units": 1, "max_write_units": 1, "warm_read_units": 12_000, "warm_write_units": 4_000}
"""The fewest units per second of a maximum and of warm throughput; 0 stands for none."""

_MAX_REGION, _MAX_POLICY_NAME, _MAX_ROLE_NAME = 14, 128, 64
_DELETED = "DeletionPolicy: Delete # `limiter template --retain` says Retain\n"
_RETAINED = "DeletionPolicy: Retain\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class StackSettings:
    """The settings of a stack. None keeps the current value of an existing stack, and is the default of a new one.

    - `billing_mode`: "on-demand" (default) or "provisioned".
    - `read_capacity`, `write_capacity`: units per second with provisioned billing.
    - `max_read_units`, `max_write_units`: the most units per second with on-demand billing. DynamoDB throttles beyond them. 0
      (default) sets no maximum.
    - `warm_read_units` (12,000 or more), `warm_write_units` (4,000 or more): units per second that the table serves at once. 0
      (default) leaves them to DynamoDB, which charges for raising them and does not lower them again.
    - `table_class`: "standard" (default) or "infrequent-access".
    - `point_in_time_recovery`: keeps backups of the last 35 days.
    - `deletion_protection`: refuses to delete the table.
    - `retain`: keeps the table when the stack is deleted.
    - `kms_key`: "" (default; a key that AWS owns), "aws/dynamodb", or the ARN of a key.
    - `policies`: creates the managed policies *acquire*, *read* and *admin* (default: true).
    - `namespace`: creates three more policies, restricted to this namespace.
    - `name_prefix`, `iam_path`: prefix of the names, and path, of policies and roles.
    - `permissions_boundary`: ARN of the policy that bounds the roles.
    - `trusted_principals` (ARNs or account numbers), `trusted_services`: who may assume the roles; creates a role per policy.
    - `alarms`: creates alarms, which go to `alarm_topic_arn`, or to a new topic with the subscriber `alarm_email`.
    - `dashboard`: creates a CloudWatch dashboard; `dashboard_namespace` is the namespace of the metrics of `limiter.contrib.emf`.
    - `tags`: all custom tags.
    - `regions`, `witness`: three regions, or two and a witness, of one table that is consistent in all of them. The stack is
      deployed in one of `regions`. They cannot be changed, and such a table has neither `billing_mode`, `read_capacity`,
      `write_capacity` nor `kms_key`.
    """

    billing_mode: str | None = None
    read_capacity: int | None = None
    write_capacity: int | None = None
    max_read_units: int | None = None
    max_write_units: int | None = None
    warm_read_units: int | None = None
    warm_write_units: int | None = None
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
    dashboard: bool | None = None
    dashboard_namespace: str | None = None
    tags: Mapping[str, str] | None = None
    regions: tuple[str, ...] | None = None
    witness: str | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            _check_choice(name, getattr(self, name), choices)
        for name in ("read_capacity", "write_capacity"):
            _check_capacity(name, getattr(self, name))
        for name, least in LEAST_UNITS.items():
            _check_units(name, getattr(self, name), least)
        for name, pattern in PATTERNS.items():
            value = getattr(self, name)
            _check_pattern(name, value, pattern, as_in_keys(value) if name == "namespace" and isinstance(value, str) else value)
        for name in ("trusted_principals", "trusted_services"):
            _check_list(name, getattr(self, name))
        if self.name_prefix is not None and len(self.name_prefix) > 32:
            raise ValidationError(
                f"name_prefix can have at most 32 characters, not {len(self.name_prefix)}: {self.name_prefix!r}"
            )
        if self.tags is not None:
            check_tags(self.tags)
        if self.regions is not None or self.witness is not None:
            check_regions(self.regions or (), self.witness)
            check_settings(self)


_OTHERS = frozenset({"retain", "tags", "regions", "witness"})
TEMPLATE_FIELDS = tuple(field.name for field in fields(StackSettings) if field.name not in _OTHERS)


def render_template(*, retain: bool = False, regions: tuple[str, ...] = (), witness: str | None = None) -> str:
    """Return the CloudFormation template; with `retain`, the table is kept when the stack is deleted.

    With `regions`, it is one table in these Regions, consistent in all of them; a `witness` stands in for the third. A deletion
    policy and Regions cannot depend on a parameter, so there are several templates.
    """
    text = Path(__file__).with_name("template.yaml").read_text(encoding="utf-8")
    if regions or witness is not None:
        text = in_regions(text, regions, witness)
    head, found, rest = text.partition(_DELETED)
    if not found:
        raise AssertionError("the template has lost the line that says whether the table is kept")
    return head + (_RETAINED if retain else found) + rest


def parameter_name(field: str) -> str:
    """Return the template's parameter for a field, such as PointInTimeRecovery for `point_in_time_recovery`."""
    return "".join(part.capitalize() for part in field.split("_"))


def chosen_parameters(settings: StackSettings) -> dict[str, str]:
    """Return the template's parameters that the settings choose."""
    values = {name: getattr(settings, name) for name in TEMPLATE_FIELDS}
    return {parameter_name(name): _parameter_value(name, value) for name, value in values.items() if value is not None}


def stack_parameters(settings: StackSettings, previous: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the parameters of a change set: chosen values, and previous values of the stack for the rest."""
    chosen = chosen_parameters(settings)
    known = {parameter_name(name) for name in TEMPLATE_FIELDS}
    kept = sorted(known & previous.keys() - chosen.keys())
    given = [{"ParameterKey": key, "ParameterValue": value} for key, value in sorted(chosen.items())]
    return given + [{"ParameterKey": key, "UsePreviousValue": True} for key in kept]


def check_names(stack: str, settings: StackSettings, previous: Mapping[str, str]) -> None:
    """Raise `ValidationError` when the template's names of policies or roles would be too long for IAM."""
    parameters = {**previous, **chosen_parameters(settings)}
    prefix = parameters.get("NamePrefix", "")
    if not prefix or parameters.get("Policies", "true") == "false":
        return
    length = len(prefix) + len(stack) + _MAX_REGION + len("---")
    roles = parameters.get("TrustedPrincipals") or parameters.get("TrustedServices")
    if roles and length + len("acquire") > _MAX_ROLE_NAME:
        over = length + len("acquire") - _MAX_ROLE_NAME
        raise ValidationError(
            f"name_prefix {prefix!r} is too long: names of roles would exceed {_MAX_ROLE_NAME} characters by {over}; shorten it"
        )
    if length + len("namespace-acquire") > _MAX_POLICY_NAME:
        raise ValidationError(
            f"name_prefix {prefix!r} is too long: names of policies would exceed {_MAX_POLICY_NAME} characters; shorten it"
        )


def _parameter_value(name: str, value: Any) -> str:
    if name in _CHOICES:
        return _CHOICES[name][value]
    if isinstance(value, bool):
        return "true" if value else "false"
    if name == "namespace":
        return as_in_keys(value)
    return ",".join(value) if isinstance(value, tuple) else str(value)


def as_in_keys(namespace: str) -> str:
    """Return a namespace as it begins the keys of its items, which is what a policy compares with."""
    key: str = bucket_key(BucketKey(namespace, "", ""))[PARTITION_KEY]["S"]
    return key.partition("#")[0]


def _check_choice(name: str, value: object, choices: Mapping[str, str]) -> None:
    if value is not None and value not in choices:
        raise ValidationError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def _check_capacity(name: str, value: object) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValidationError(f"{name} must be an integer of at least 1 (units per second), not {value!r}")


def _check_units(name: str, value: object, least: int) -> None:
    usable = value is None or (isinstance(value, int) and not isinstance(value, bool) and (value == 0 or value >= least))
    if not usable:
        raise ValidationError(f"{name} must be 0 (none) or an integer of at least {least} (units per second), not {value!r}")


def _check_pattern(name: str, value: object, pattern: str, given: object) -> None:
    # `$` also matches before a final line break, which CloudFormation refuses.
    if given is not None and (not isinstance(given, str) or "\n" in given or not re.search(pattern, given)):
        raise ValidationError(f"invalid {name} {value!r}: it must match {pattern}")


def _check_list(name: str, value: object) -> None:
    usable = isinstance(value, tuple) and all(isinstance(each, str) and each and "," not in each for each in value)
    if value is not None and not usable:
        raise ValidationError(f"{name} must be a tuple of names without commas, not {value!r}")
