"""`limiter doctor`: checks everything that can prevent the limiter from working."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ..aws.clock import ServerClock
from .exit_codes import FAILED, OK
from .findings import (
    Finding,
    has_failed,
    imitated,
    judge_clock,
    judge_permissions,
    judge_throttling,
    judge_transport,
    judge_ttl,
    judge_versions,
)
from .imitation import noted
from .options import aws_options, stack_argument
from .output import Table, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from .options import Target

MARKS = {"ok": "ok", "warning": "warning", "failed": "FAILED", "unknown": "?"}
METRICS = ("WriteThrottleEvents", "ReadThrottleEvents", "WriteKeyRangeThroughputThrottleEvents")
PAGES = 8
"""Pages of the table, of 1 MB each, in which buckets are looked for."""
LEVELS = {
    "acquire": ("GetItem", "BatchGetItem", "UpdateItem"),
    "read": ("GetItem", "BatchGetItem", "Query", "DescribeTable", "DescribeTimeToLive"),
    "admin": ("GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"),
    "admin of all namespaces": ("Scan",),
}


@click.command()
@click.option("--all-buckets", is_flag=True, help="Examine every bucket of the namespace; reads the whole table.")
@stack_argument
@aws_options
def doctor(stack: str, target: Target, all_buckets: bool) -> int:
    """Check everything that can prevent the limiter from working with a stack. Exits with 1 when a check fails.

    Checks credentials, region, table, permissions of each policy level, buckets, clock, deletion of idle buckets, throttling,
    versions and transport. Changes nothing: write permissions are tried with a condition that no item meets, which costs a few
    write units.

    Of the buckets, names those that are paused, those with a limit that was opened by a clock far ahead, those in which one name
    is in use at two rates or periods at once, those with slots that expired more than an hour ago, and those that hold what makes
    no sense. Reads at most 8 MB of the table for that, unless --all-buckets is given.
    """
    with noted("doctor", target):
        findings = Examination(stack, target, all_buckets=all_buckets).findings()
    rows = [(MARKS[each.result], each.subject, each.detail, each.remedy) for each in findings]
    document = [
        {"result": each.result, "subject": each.subject, "detail": each.detail, "remedy": each.remedy} for each in findings
    ]
    show(target.output, document, Table(("", "what", "found", "remedy"), rows))
    return FAILED if has_failed(findings) else OK


class Examination:
    """Makes the calls, each of which needs the calls before it to have succeeded."""

    def __init__(self, stack: str, target: Target, *, all_buckets: bool = False) -> None:
        from ..infra.ownership import check_stack_name

        self._stack = check_stack_name(stack)
        self._target = target
        self._all_buckets = all_buckets
        self._session = target.session()
        self._clock = ServerClock()
        self._strong = False

    def findings(self) -> list[Finding]:
        """Return all findings; those that the embedded engine cannot prove are unknown."""
        found = self._found()
        return [imitated(each) for each in found] if self._target.embedded else found

    def _found(self) -> list[Finding]:
        first = self._region()
        if first.result == "failed":
            return [first]
        identity = self._identity()
        if identity.result == "failed":
            return [first, identity]
        found = [first, identity, *self._table()]
        if found[-1].result == "failed":
            return [*found[:-1], self._skew(), found[-1]]
        found += [*self._permissions(), *self._buckets()]
        return [*found, self._skew(), self._time_to_live(), *self._throttling(), self._versions(), self._transport(), _runtime()]

    def _client(self, service: str) -> Any:
        from ..aws.client import ClientOptions, sync_open_client

        options = ClientOptions(
            region=self._target.region,
            endpoint_url=self._target.endpoint_url,
            session=self._session,
            connect_timeout=5.0,
            read_timeout=10.0,
            attempts=2,
        )
        return sync_open_client(service, options)

    def _region(self) -> Finding:
        region = self._target.region or self._session.region_name
        if region:
            endpoint = f", endpoint {self._target.endpoint_url}" if self._target.endpoint_url else ""
            return Finding("ok", "region", f"{region}{endpoint}")
        if self._target.endpoint_url:
            return Finding("ok", "region", f"us-east-1, for the endpoint {self._target.endpoint_url}")
        return Finding("failed", "region", "none configured", "pass --region, or set AWS_DEFAULT_REGION")

    def _identity(self) -> Finding:
        credentials = self._session.get_credentials()
        if credentials is None:
            remedy = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or attach a role"
            return Finding("failed", "credentials", "none found", remedy)
        try:
            answer = self._client("sts").get_caller_identity()
        except Exception as error:  # every error is a finding
            return self._error(error, "credentials", "sts:GetCallerIdentity", fatal=_is_refusal(error))
        return Finding("ok", "credentials", f"{answer['Arn']} in account {answer['Account']}, from {credentials.method}")

    def _table(self) -> list[Finding]:
        try:
            answer = self._timed(partial(self._client("dynamodb").describe_table, TableName=self._stack))
        except Exception as error:  # every error is a finding
            # Credentials that may only acquire must not describe the table; that is no failure.
            denied = "AccessDenied" in _code(error)
            return [self._error(error, "table", "DescribeTable", fatal=not denied)]
        table = answer["Table"]
        self._strong = table.get("MultiRegionConsistency") == "STRONG"
        detail = f"{table['TableStatus']}, {table.get('ItemCount', 0)} items, {table.get('TableSizeBytes', 0)} bytes"
        protection = "on" if table.get("DeletionProtectionEnabled") else "off"
        found = [Finding("ok", "deletion protection", protection)]
        if table["TableStatus"] in {"ACTIVE", "UPDATING"}:
            return [*found, Finding("ok", "table", detail)]
        return [*found, Finding("failed", "table", detail, "wait until it is active")]

    def _permissions(self) -> list[Finding]:
        from .probes import probes

        calls = probes(self._client("dynamodb"), self._stack, self._target.namespace)
        outcome = {action: self._allowed(action, call) for action, call in calls.items()}
        return [
            judge_permissions(
                level,
                [action for action in actions if outcome[action] is False],
                [action for action in actions if outcome[action] is None],
            )
            for level, actions in LEVELS.items()
        ]

    def _buckets(self) -> list[Finding]:
        from .findings import judge_buckets
        from .scanning import scan_buckets

        try:
            states, whole = scan_buckets(
                self._client("dynamodb"), self._stack, self._target.namespace, pages=None if self._all_buckets else PAGES
            )
        except Exception as error:  # every error is a finding
            return [self._error(error, "buckets", "Scan")]
        return judge_buckets(states, self._clock(), whole=whole)

    def _allowed(self, action: str, call: Callable[[], Any]) -> bool | None:
        """Tell whether a call is allowed; None when it failed for another reason."""
        from ..exceptions import PermissionDenied

        try:
            self._timed(call)
        except Exception as error:  # its meaning is the result
            if _code(error) == "ConditionalCheckFailedException":
                return True
            return False if isinstance(self._explained(error, action), PermissionDenied) else None
        return True

    def _timed(self, call: Callable[[], Any]) -> Any:
        """Make a call to the table, and learn its time from the response or the error."""
        sent, answer = self._clock.monotonic(), None
        try:
            answer = call()
        except Exception as error:
            answer = getattr(error, "response", None)
            raise
        finally:
            self._clock.observe_answer(answer, sent)
        return answer

    def _skew(self) -> Finding:
        return judge_clock(self._clock.skew, self._clock.error)

    def _time_to_live(self) -> Finding:
        from ..aws.schema import TTL_ATTRIBUTE

        try:
            answer = self._client("dynamodb").describe_time_to_live(TableName=self._stack)
        except Exception as error:  # every error is a finding
            return self._error(error, "deletion of idle buckets", "DescribeTimeToLive")
        return judge_ttl(answer, TTL_ATTRIBUTE, self._stack, strong=self._strong)

    def _throttling(self) -> list[Finding]:
        now = datetime.now(UTC)
        try:
            client = self._client("cloudwatch")
            return [judge_throttling(metric, _hour(client, self._stack, metric, now)) for metric in METRICS]
        except Exception as error:  # every error is a finding
            return [self._error(error, "throttling", "cloudwatch:GetMetricStatistics")]

    def _versions(self) -> Finding:
        from .._version import __version__
        from ..aws.schema import VERSION
        from ..exceptions import LimiterError, StackNotFound
        from ..infra.sync_stack_manager import SyncStackManager

        try:
            found = SyncStackManager(self._stack, **self._target.aws()).status()
        except StackNotFound:
            remedy = "fine on a local engine, or when the table was created by another tool"
            return Finding("warning", "versions", f"installed {__version__}; the table exists, but no stack", remedy)
        except LimiterError as error:
            return Finding("unknown", "versions", str(error))
        return judge_versions(__version__, found.version, VERSION, found.schema_version, self._stack)

    def _transport(self) -> Finding:
        from ..sync_repository import SyncRepository

        target = self._target
        repository = SyncRepository(self._stack, region=target.region, endpoint_url=target.endpoint_url, session=self._session)
        try:
            repository.prepare()
            return judge_transport(repository.transport)
        except Exception as error:  # any error is the finding
            return self._error(error, "transport", "opening a client")
        finally:
            repository.close()

    def _error(self, error: Exception, subject: str, action: str, *, fatal: bool = False) -> Finding:
        return Finding("failed" if fatal else "unknown", subject, str(self._explained(error, action)))

    def _explained(self, error: Exception, action: str) -> Exception:
        from ..aws.errors import translate

        return translate(error, self._stack, action)


def _hour(client: Any, table: str, metric: str, now: datetime) -> list[float]:
    answer = client.get_metric_statistics(
        Namespace="AWS/DynamoDB",
        MetricName=metric,
        Dimensions=[{"Name": "TableName", "Value": table}],
        StartTime=now - timedelta(hours=1),
        EndTime=now,
        Period=3600,
        Statistics=["Sum"],
    )
    return [point["Sum"] for point in answer["Datapoints"]]


def _runtime() -> Finding:
    import boto3

    return Finding("ok", "runtime", f"Python {sys.version.split()[0]}, boto3 {boto3.__version__}")


def _code(error: Exception) -> str:
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def _is_refusal(error: Exception) -> bool:
    return bool(_code(error)) or "Credentials" in type(error).__name__ or "Token" in type(error).__name__
