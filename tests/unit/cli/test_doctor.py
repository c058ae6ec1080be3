"""`limiter doctor`: each thing that can stand in the way is found, with its remedy.

The test of `limiter.cli.buckets`, `limiter.cli.probes` and `limiter.cli.scanning`.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.scripted_cloudformation import denied, refused

from limiter import BaseLimit, Limit, Quota
from limiter.aws import queries
from limiter.aws.clock import ServerClock
from limiter.cli import doctor
from limiter.cli.findings import (
    Finding,
    has_failed,
    judge_buckets,
    judge_clock,
    judge_permissions,
    judge_throttling,
    judge_ttl,
    judge_versions,
)
from limiter.core.records import BucketKey
from limiter.core.state import BucketState, Level

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("skew", "result"),
    [
        (0, "ok"),
        (1, "ok"),
        (-1, "ok"),
        (1.1, "warning"),
        (-1.1, "warning"),
        (5, "warning"),
        (-5, "warning"),
        (400, "failed"),
        (-400, "failed"),
    ],
)
def test_clock(skew: float, result: str) -> None:
    """Up to a second is fine, more is a warning, and from five minutes on AWS refuses every request."""
    found = judge_clock(skew, 0.5)
    assert found.result == result
    assert (found.result == "ok") == (not found.remedy)


def test_no_time_in_the_answer() -> None:
    """Without a date there is nothing to say about the clock."""
    assert judge_clock(None, None).result == "unknown"


@pytest.mark.parametrize(
    ("described", "result"),
    [
        ({"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}, "ok"),
        ({"TimeToLiveStatus": "ENABLING", "AttributeName": "ttl"}, "ok"),
        ({"TimeToLiveStatus": "ENABLED", "AttributeName": "expires"}, "failed"),
        ({"TimeToLiveStatus": "DISABLED"}, "failed"),
        ({}, "failed"),
    ],
)
def test_time_to_live(described: dict[str, str], result: str) -> None:
    """It has to be on, and on the right attribute; otherwise the remedy is a command."""
    found = judge_ttl({"TimeToLiveDescription": described}, "ttl", "my-app")
    assert found.result == result
    assert result == "ok" or "aws dynamodb update-time-to-live --table-name my-app" in found.remedy


def test_a_table_without_time_to_live_is_swept() -> None:
    """In several regions time to live cannot be turned on, so the remedy is another one."""
    found = judge_ttl({"TimeToLiveDescription": {}}, "ttl", "my-app", strong=True)
    assert (found.result, found.remedy) == ("warning", "run `limiter sweep my-app` on a schedule")


def test_throttling() -> None:
    """None is fine; some is a warning with a remedy that fits its kind."""
    assert judge_throttling("WriteThrottleEvents", []).result == "ok"
    assert "on-demand" in judge_throttling("WriteThrottleEvents", [3.0]).remedy
    assert "split the entity" in judge_throttling("WriteKeyRangeThroughputThrottleEvents", [1.0, 2.0]).remedy


def test_versions() -> None:
    """A newer layout is a failure, another version a reason to look at the plan."""
    assert judge_versions("1.0", "1.0", 1, 1, "my-app").result == "ok"
    assert "limiter plan my-app" in judge_versions("1.1", "1.0", 1, 1, "my-app").remedy
    assert "pip install --upgrade" in judge_versions("1.0", "2.0", 1, 2, "my-app").remedy


def test_permissions() -> None:
    """Only acquiring is indispensable; what is missing is named."""
    assert judge_permissions("acquire", [], []).result == "ok"
    missing = judge_permissions("acquire", ["UpdateItem"], [])
    assert (missing.result, "dynamodb:UpdateItem" in missing.detail) == ("failed", True)
    assert judge_permissions("admin", ["PutItem"], []).result == "warning"
    assert judge_permissions("read", [], ["Query"]).result == "unknown"
    assert has_failed([missing])
    assert not has_failed([judge_permissions("admin", ["PutItem"], [])])


def subjects(document: list[dict[str, str]]) -> dict[str, str]:
    """The result of each subject."""
    return {each["subject"]: each["result"] for each in document}


NOW = 1_800_000_000 * 10**9
HOUR = 3_600 * 10**9
KEY = BucketKey("default", "user", "api")
RATE, QUOTA = Limit.per_minute("tokens", 100), Quota.per_day("tokens", 1_000)
SEVERAL = "limit 'tokens' is counted in several ways at once"
SESSION, TOTAL = Quota.session("tokens", 5, 3_600), Quota.total("tokens", 5)


def level(limit: BaseLimit, used: int = 1, since: int = NOW - 1) -> dict[str, Level]:
    """The level of a limit of which so much is used."""
    return {limit.identity: Level(NOW + used if isinstance(limit, Limit) else used, since)}


@pytest.mark.parametrize(
    ("state", "details"),
    [
        (BucketState(), []),
        (BucketState(level(RATE) | level(Quota.per_day("others", 5))), []),
        (BucketState(level(RATE) | level(QUOTA, used=0)), []),
        (BucketState(level(RATE) | level(QUOTA, since=NOW - 48 * HOUR)), []),
        (BucketState(level(QUOTA, since=NOW + HOUR)), []),
        (BucketState(paused=NOW), []),
        (BucketState(paused=NOW + HOUR), ["paused for another 3600 s"]),
        (
            BucketState(level(QUOTA, since=NOW + 2 * HOUR)),
            ["limit 'tokens' was opened 7200 s ahead of the clock, and counts all use until then as one period"],
        ),
        (
            BucketState(level(RATE, used=3 * HOUR, since=NOW + 2 * HOUR)),
            ["limit 'tokens' was opened 7200 s ahead of the clock, and allows nothing until then"],
        ),
        (
            BucketState(level(RATE) | level(QUOTA)),
            ["limit 'tokens' is counted in several ways at once: 100 per minute; per day in UTC"],
        ),
        (
            BucketState(level(SESSION) | level(TOTAL)),
            ["limit 'tokens' is counted in several ways at once: in all; per session of 3600 s"],
        ),
        (BucketState(unreadable={RATE.identity: "no number", "m:tokens": "no number"}), ["no number"]),
    ],
)
def test_buckets_are_judged(state: BucketState, details: list[str]) -> None:
    """A pause, an opening far ahead, two accounts of one name in use, and what makes no sense are named."""
    first, *found = judge_buckets({KEY: state}, NOW, whole=True)
    assert first.result == "ok"
    assert [each.detail for each in found] == details
    assert all(each.result == "warning" and each.remedy for each in found)


@pytest.mark.engines("moto")
class TestOnAnEngine:
    def test_all_is_well(self, stack: str, run: Callable[..., Any]) -> None:
        """A table that was made for tests has everything but a stack; doctor writes nothing.

        What the embedded engine cannot prove is unknown rather than well.
        """
        done = run("doctor", stack, "-o", "json")
        found = subjects(json.loads(done.out))
        assert done.code == 0
        assert found.pop("versions") == "warning"
        assert found.pop("clock") == "unknown"
        assert {subject for subject, result in found.items() if result == "ok"} == {
            *("region", "deletion protection", "table", "buckets", "transport", "runtime"),
        }
        assert set(found.values()) == {"ok", "unknown"}
        assert "embedded engine, not AWS. It accepts all credentials, allows every action" in done.err
        assert json.loads(run("namespace", "list", "-o", "json").out) == []

    def test_buckets(self, stack: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """A paused bucket is named with the command that ends the pause; a look at a part of the table says so."""
        run("limits", "set", "10/hour")
        run("pause", "it's me", "api", "900")
        run("adjust", "other", "api", "requests=1")
        found = {each["subject"]: each for each in json.loads(run("doctor", stack, "-o", "json").out)}
        assert found["buckets"]["detail"] == "2 examined, 1 with something to know"
        (paused,) = [each for subject, each in found.items() if subject.startswith("bucket ")]
        assert paused["subject"] == """bucket 'it'"'"'s me' api"""
        assert paused["result"] == "warning"
        assert paused["detail"].startswith("paused for another ")
        assert paused["remedy"] == """`limiter pause 'it'"'"'s me' api 0` ends it"""
        pages = queries.buckets_scan("default") | {"Limit": 1}
        monkeypatch.setattr(queries, "buckets_scan", lambda _: dict(pages))
        monkeypatch.setattr(doctor, "PAGES", 2)
        part = {each["subject"]: each for each in json.loads(run("doctor", stack, "-o", "json").out)}
        assert part["buckets"]["detail"].endswith("`limiter doctor --all-buckets` examines the others")
        whole = {each["subject"]: each for each in json.loads(run("doctor", stack, "--all-buckets", "-o", "json").out)}
        assert whole["buckets"]["detail"] == "2 examined, 1 with something to know"

    def test_a_missing_table(self, stack: str, run: Callable[..., Any]) -> None:
        """It is the last finding, with the command that deploys it, and the status is 1."""
        done = run("doctor", "no-such-stack", "-o", "json")
        last = json.loads(done.out)[-1]
        assert done.code == 1
        assert (last["subject"], last["result"]) == ("table", "failed")
        assert "limiter deploy no-such-stack" in last["detail"]

    def test_time_to_live_of_a_deployed_stack(
        self, engine_environment: dict[str, str], table_name: str, run: Callable[..., Any]
    ) -> None:
        """A stack on the embedded engine is no failure, although that engine never enables time to live."""
        run("deploy", table_name)
        done = run("doctor", table_name, "-o", "json")
        assert done.code == 0
        assert subjects(json.loads(done.out))["deletion of idle buckets"] == "unknown"

    def test_a_missing_permission(self, stack: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """What AWS denies is named at its level, and the rest goes on."""
        deny(monkeypatch, "update_item", denied("dynamodb:UpdateItem"))
        deny(monkeypatch, "scan", denied("dynamodb:Scan"))
        deny(monkeypatch, "get_metric_statistics", denied("cloudwatch:GetMetricStatistics"))
        done = run("doctor", stack, "-o", "json")
        found = subjects(json.loads(done.out))
        assert done.code == 1
        assert found["permissions: acquire"] == "failed"
        assert found["permissions: read"] == "unknown"
        assert found["permissions: admin of all namespaces"] == "warning"
        assert found["throttling"] == "unknown"

    def test_who_may_only_acquire(self, stack: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """Credentials that may not describe the table are no failure."""
        for method in ("describe_table", "describe_time_to_live", "query", "put_item", "delete_item", "batch_write_item", "scan"):
            deny(monkeypatch, method, denied("dynamodb:Something"))
        done = run("doctor", stack, "-o", "json")
        found = subjects(json.loads(done.out))
        assert done.code == 0
        assert (found["table"], found["permissions: read"]) == ("unknown", "warning")
        assert found["permissions: acquire"] != "failed"

    def test_bad_credentials(self, stack: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing else is asked with credentials that AWS does not know."""
        deny(monkeypatch, "get_caller_identity", refused("InvalidClientTokenId", "The security token is invalid"))
        done = run("doctor", stack, "-o", "json")
        assert done.code == 1
        assert list(subjects(json.loads(done.out))) == ["region", "credentials"]


@pytest.mark.engines("dynoxide")
@pytest.mark.parametrize(("skew", "result"), [(0.0, "ok"), (30.0, "warning"), (-400.0, "failed")])
def test_a_clock_that_is_wrong(
    skew: float, result: str, stack: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By how much this machine's clock is ahead of the table's is told once, to within a second, and with the remedy."""
    monkeypatch.setattr(doctor, "ServerClock", lambda: ServerClock(lambda: time.time_ns() + round(skew * 1e9)))
    monkeypatch.setattr(doctor.Examination, "_identity", lambda _: Finding("ok", "credentials", "not asked for on this engine"))
    document = json.loads(run("doctor", stack, "-o", "json").out)
    (clock,) = [each for each in document if each["subject"] == "clock"]
    assert clock["result"] == result
    assert float(clock["detail"].split()[0]) == pytest.approx(skew, abs=2)
    assert ("NTP" in clock["remedy"]) == (result != "ok")


def deny(monkeypatch: pytest.MonkeyPatch, method: str, error: Exception) -> None:
    """Let every call of one method fail."""
    original = doctor.Examination._client

    def client(self: Any, service: str) -> Any:
        opened = original(self, service)

        def call(**_: Any) -> Any:
            raise error

        if hasattr(opened, method):
            setattr(opened, method, call)
        return opened

    monkeypatch.setattr(doctor.Examination, "_client", client)


def test_no_region(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a region nothing is asked at all."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    done = run("doctor", "my-app", "-o", "json")
    assert done.code == 1
    (only,) = json.loads(done.out)
    assert "AWS_DEFAULT_REGION" in only["remedy"]


def test_no_credentials(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy says where they are looked for."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    done = run("doctor", "my-app", "-o", "json")
    assert done.code == 1
    assert "AWS_PROFILE" in json.loads(done.out)[-1]["remedy"]
