"""Slots in the commands: how many are held, how many processes have not renewed theirs, and what cannot be done to them."""

from __future__ import annotations

import itertools
import json
import shlex
import time
from typing import TYPE_CHECKING, Any

import pytest
from support.engines import plain_client

from limiter import Concurrency, Decision, Limit, LimitStatus, SyncRateLimiter, SyncRepository
from limiter.aws import schema
from limiter.cli.amounts import decision_table, limit_table
from limiter.cli.buckets import Seen, load
from limiter.cli.findings import judge_buckets
from limiter.cli.gauges import gauges
from limiter.cli.holders import SlotUse, slot_uses
from limiter.cli.output import console, fitting_table
from limiter.cli.top import _table
from limiter.core.records import BucketKey
from limiter.core.slots import MILLISECOND, Slots, entry_of
from limiter.core.state import BucketState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = BucketKey("default", "user", "api")
LIMITS = ("calls=3 at once", "requests=100/hour")
NOW = 1_800_000_000 * 10**9
HOUR = 3_600 * 10**9


@pytest.fixture
def limiter(stack: str, engine_environment: dict[str, str]) -> Iterator[SyncRateLimiter]:
    """Holds slots, in this process."""
    with SyncRepository(stack, endpoint_url=engine_environment["AWS_ENDPOINT_URL"]) as repository:
        limiter = SyncRateLimiter(repository)
        limiter.set_limits([Limit.parse(each) for each in LIMITS])
        yield limiter


@pytest.fixture
def leave_expired(stack: str, engine_environment: dict[str, str]) -> Callable[[int, float], None]:
    """Makes the bucket hold slots of another process that died, whose time was over so many seconds ago."""
    numbers = itertools.count()

    def leave(count: int, seconds: float) -> None:
        until = (time.time_ns() - round(seconds * 10**9)) // MILLISECOND
        plain_client(engine_environment["AWS_ENDPOINT_URL"]).update_item(
            TableName=stack,
            Key=schema.bucket_key(KEY),
            UpdateExpression="SET #entry = :entry, #held = #held + :count",
            ExpressionAttributeNames={"#entry": f"c:died{next(numbers):04}calls", "#held": "h:calls"},
            ExpressionAttributeValues={":entry": {"N": str(entry_of(until, count))}, ":count": {"N": str(count)}},
        )

    return leave


def slots_of(document: dict[str, Any]) -> Any:
    """What a document says of the slots of `calls`."""
    rows = document["statuses"] if isinstance(document, dict) else document
    return next(each["slots"] for each in rows if each["limit"]["name"] == "calls")


@pytest.mark.one_server
class TestOnAnEngine:
    def test_held_and_expired_slots_are_shown(self, limiter: SyncRateLimiter, run: Any, leave_expired: Any) -> None:
        """`check` and `top` tell how many are held, and of expired holders, whose slots count as free."""
        with limiter.acquire("user", "api"):
            leave_expired(2, 30.0)
            checked, watched = run("check", "user", "api", "-o", "json"), run("top", "-e", "user", "-o", "json")
            table, text = run("check", "user", "api"), run("top", "-o", "text")
        assert checked.code == 0
        assert slots_of(json.loads(checked.out)) == slots_of(json.loads(watched.out)) == {"held": 1, "holders": 1, "expired": 1}
        assert [each["available"] for each in json.loads(watched.out)] == [2, 99]
        assert [each["slots"] for each in json.loads(checked.out)["statuses"]][1] is None
        assert table.out.splitlines()[1].split()[-2:] == ["held", "expired"]
        assert [line.split("\t")[-2:] for line in text.out.splitlines()] == [["1", "1"], ["-", "-"]]

    def test_columns_of_slots_are_shown_where_there_are_slots(self, limiter: SyncRateLimiter, run: Any) -> None:
        """Without slots neither column is shown; without expired holders, the second one is not."""
        with limiter.acquire("user", "api"):
            assert run("check", "user", "api").out.splitlines()[1].split()[-1] == "held"
            assert run("top").out.splitlines()[1].split()[-1] == "held"
        assert "held" not in run("check", "user", "api", "--limit", "10/hour").out

    def test_a_reset_leaves_slots_and_says_so(self, limiter: SyncRateLimiter, run: Any) -> None:
        """Everything else is as if it had not been used."""
        with limiter.acquire("user", "api"):
            done = run("reset", "user", "api", "-y", "-o", "json")
            assert done.code == 0
            assert [each["available"] for each in json.loads(done.out)["statuses"]] == [2, 100]
            assert slots_of(json.loads(done.out)) == {"held": 1, "holders": 1, "expired": 0}
            assert "Still held of limit 'calls': 1 slot. Slots are freed when their leases end." in done.err
        assert "Still held" not in run("reset", "user", "api", "-y").err

    def test_slots_cannot_be_adjusted(self, limiter: SyncRateLimiter, run: Any) -> None:
        """It is wrong usage; nothing is changed."""
        done = run("adjust", "user", "api", "calls=-1", "requests=5")
        assert (done.code, done.out) == (2, "")
        assert "slots of 'calls' cannot be adjusted: a lease holds them until its end" in done.err
        assert [each["available"] for each in json.loads(run("top", "-e", "user", "-o", "json").out)] == []

    def test_a_pause_leaves_slots_held(self, limiter: SyncRateLimiter, run: Any) -> None:
        """While it lasts, no slot is taken, and those that are held stay held."""
        with limiter.acquire("user", "api"):
            done = json.loads(run("pause", "user", "api", "300", "-o", "json").out)
        assert slots_of(done)["held"] == 1
        assert all(status["exceeded"] for status in done["statuses"])
        checked = run("check", "user", "api", "-o", "json")
        assert checked.code == 3
        assert slots_of(json.loads(checked.out))["held"] == 0

    def test_doctor_names_slots_that_expired_long_ago(self, limiter: SyncRateLimiter, run: Any, leave_expired: Any) -> None:
        """A note says how many, of how many holders, and since when; what expired just now is none."""
        with limiter.acquire("user", "api"):
            leave_expired(2, 60.0)
            assert "expired" not in run("doctor", "-o", "text").out
            leave_expired(1, 3 * 3_600.0)
            found = json.loads(run("doctor", "-o", "json").out)
        details = [each["detail"] for each in found if each["subject"] == "bucket user api"]
        assert details == ["limit 'calls': 1 slot of 1 holder expired at least 3.0 hours ago"]


def test_the_use_of_slots_is_read_from_the_entries() -> None:
    """Slots whose time is over count as free, although the number that is held in all includes them."""
    until = NOW // MILLISECOND
    entries = {"aaaaaaaa": entry_of(until + 5, 2), "bbbbbbbb": entry_of(until, 3), "cccccccc": entry_of(until - 1, 4)}
    state = BucketState(slots=Slots({"calls": 9, "others": 0}, {"calls": entries}))
    assert slot_uses(state, NOW) == {"calls": SlotUse(5, 2, 1), "others": SlotUse(0, 0, 0)}
    assert load(state, None, None) == (0, 9)


def test_slots_that_do_not_add_up_are_named() -> None:
    """The number that is held in all is the sum of what processes hold."""
    entries = {"calls": {"aaaaaaaa": entry_of(NOW // MILLISECOND + 5, 2)}}
    first, *found = judge_buckets({KEY: BucketState(slots=Slots({"calls": 2}, entries))}, NOW, whole=True)
    assert (first.result, found) == ("ok", [])
    _, wrong = judge_buckets({KEY: BucketState(slots=Slots({"calls": 3}, entries))}, NOW, whole=True)
    assert wrong.detail == "limit 'calls': 3 slots are held in all, but processes hold 2"
    _, old = judge_buckets({KEY: BucketState(slots=Slots({"calls": 2}, entries))}, NOW + 5 * HOUR, whole=True)
    assert old.detail == "limit 'calls': 2 slots of 1 holder expired at least 5.0 hours ago"


def shown(table: Any, width: int) -> list[str]:
    """The columns that a terminal of this width shows."""
    terminal = console()
    terminal.width = width
    return [str(column.header) for column in fitting_table(table, terminal).columns]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_with_slots_fit(width: int) -> None:
    """What is held and available is shown at any width; what the text of a limit says gives way."""
    limits = [Limit.parse("requests=100/minute burst 500"), Concurrency("calls", 20, ttl=30.0)]
    statuses = [LimitStatus("user-42", "gpt-4", limit, 1, 0, True, 1.0, None) for limit in limits]
    seen = {("user-42", "gpt-4"): Seen(None, {"calls": SlotUse(20, 3, 2)})}
    checked, watched = decision_table(Decision.of(statuses), seen), _table(gauges(statuses, [], 1.0, seen))
    for table in (checked, watched):
        assert {"limit", "available", "held", "expired"} <= set(shown(table, width))
    assert shown(limit_table(limits), width)[-1] == "as text"
    assert ("units" in shown(limit_table(limits), width)) == (width >= 80)
    assert shown(limit_table(limits[1:]), 120) == ["limit", "burst", "as text"]


@pytest.mark.one_server
def test_limits_of_slots_are_set_exported_and_applied(stack: str, run: Any, tmp_path: Any) -> None:
    """A level and a window may hold slots; a file of them reads back equal byte by byte."""
    window = ("--window", "mon-fri 09:00-17:00", "Europe/Berlin", "calls=5 at once ttl 7.5 shadow")
    done = run("limits", "set", "calls=20 at once ttl 60", "100/minute", *window, "-o", "json")
    assert done.code == 0
    first = json.loads(done.out)[0]
    assert (first["text"], first["kind"], first["capacity"], first["ttl"]) == ("calls=20 at once", "concurrency", 20, 60.0)
    assert run("limits", "get", "-o", "text").out.splitlines()[0] == "calls\t-\t-\t20\tcalls=20 at once"
    exported = run("limits", "export").out
    assert "\n- calls=20 at once\n" in exported
    assert "\n  - calls=5 at once ttl 7.5 shadow\n" in exported
    file = tmp_path / "limits.yaml"
    file.write_text(exported.replace("calls=20 at once", "calls=30 at once ttl 90"))
    planned = run("limits", "plan", "-f", shlex.quote(str(file)))
    assert planned.code == 5
    assert "calls=30 at once ttl 90" in planned.out
    assert run("limits", "apply", "-f", str(file), "-y").code == 0
    assert run("limits", "export").out == file.read_text()
    assert run("limits", "plan", "-f", str(file)).code == 0
