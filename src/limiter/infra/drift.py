"""Drift: how a stack's resources differ from what was deployed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..exceptions import LimiterError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Difference:
    """One property that differs from what was deployed; `kind` is ADD, REMOVE or NOT_EQUAL."""

    path: str
    expected: str
    actual: str
    kind: str


@dataclass(frozen=True, slots=True)
class DriftedResource:
    """A resource whose `status` is MODIFIED or DELETED."""

    resource: str
    resource_type: str
    status: str
    differences: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True)
class Drift:
    """The resources that differ from what was deployed, as far as CloudFormation can tell."""

    stack: str
    resources: tuple[DriftedResource, ...] = ()

    @property
    def in_sync(self) -> bool:
        """Whether no resource differs."""
        return not self.resources


def check_detected(stack: str, answer: Mapping[str, Any]) -> None:
    """Raise `LimiterError` when the detection failed, according to DescribeStackDriftDetectionStatus."""
    if answer["DetectionStatus"] == "DETECTION_FAILED":
        reason = answer.get("DetectionStatusReason", "no reason given")
        raise LimiterError(f"CloudFormation could not detect the drift of stack {stack!r}: {reason}")


def read_drift(stack: str, entries: Iterable[Mapping[str, Any]]) -> Drift:
    """Return the drift in the entries of DescribeStackResourceDrifts."""
    drifted = (entry for entry in entries if entry["StackResourceDriftStatus"] in {"MODIFIED", "DELETED"})
    return Drift(stack, tuple(map(_read_resource, drifted)))


def _read_resource(entry: Mapping[str, Any]) -> DriftedResource:
    differences = tuple(
        Difference(each["PropertyPath"], each["ExpectedValue"], each["ActualValue"], each["DifferenceType"])
        for each in entry.get("PropertyDifferences", ())
    )
    return DriftedResource(entry["LogicalResourceId"], entry["ResourceType"], entry["StackResourceDriftStatus"], differences)
