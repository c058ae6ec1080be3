"""`limiter top`: gauges of buckets, the busiest first."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from limiter import Limit, LimitStatus, Quota
from limiter.cli import top
from limiter.cli.gauges import Gauge, busiest, gauges
from limiter.cli.output import Table, console, fitting_table
from limiter.core.records import BucketKey
from limiter.core.state import BucketState, Level

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND = 1_000_000_000


def acquire(entity: str, resource: str, *options: str) -> None:
    """Consume from limits, in another process."""
    call = [sys.executable, "-m", "limiter.cli", "acquire", entity, resource, *options, "--", "true"]
    assert subprocess.run(call, timeout=60, check=False).returncode == 0


@pytest.mark.one_server
class TestOnAnEngine:
    def test_shows_buckets(self, stack: str, run: Callable[..., Any]) -> None:
        """Each limit of each bucket is a row, whichever options choose the bucket; looking consumes nothing."""
        run("limits", "set", "10/hour", "tokens=1000/hour", "-e", "user", "-r", "api")
        acquire("user", "api", "-c", "requests=4")
        for arguments in ((), ("-e", "user"), ("-r", "api"), ("-e", "user", "-r", "api")):
            found = json.loads(run("top", *arguments, "-o", "json").out)
            assert [(each["limit"]["name"], each["available"]) for each in found] == [("requests", 6), ("tokens", 1000)]
        assert found[0]["fill"] == 0.6
        assert run("top", "-r", "other", "-o", "json").out == "[]\n"

    def test_nothing_to_show(self, stack: str, run: Callable[..., Any]) -> None:
        """An empty result is explained on standard error."""
        done = run("top")
        assert (done.code, done.out) == (0, "")
        assert "No buckets found" in done.err

    @pytest.mark.parametrize("choice", [(), ("-e", "user"), ("-r", "api")])
    def test_limits_in_code(self, stack: str, run: Callable[..., Any], choice: tuple[str, ...]) -> None:
        """A bucket without stored limits is a row that says so; with --limit it is shown like every other."""
        acquire("user", "api", "--limit", "10/hour", "-c", "requests=4")
        assert "in code: pass --limit" in run("top", *choice).out
        (unknown,) = json.loads(run("top", *choice, "-o", "json").out)
        assert (unknown["entity_id"], unknown["limit"], unknown["available"]) == ("user", None, None)
        (known,) = json.loads(run("top", *choice, "--limit", "10/hour", "-o", "json").out)
        assert (known["limit"]["text"], known["available"]) == ("requests=10/hour", 6)

    def test_the_busiest_come_first(self, stack: str, run: Callable[..., Any]) -> None:
        """At the first look these are the buckets that take longest to fill; --most bounds their number."""
        run("limits", "set", "10/hour")
        for entity, units in (("a", 1), ("b", 5), ("c", 3)):
            acquire(entity, "api", "-c", f"requests={units}")
        assert [line.split("\t")[0] for line in run("top", "-o", "text").out.splitlines()] == ["b", "c", "a"]
        assert [line.split("\t")[0] for line in run("top", "-o", "text", "--most", "2").out.splitlines()] == ["b", "c"]

    def test_an_interrupt_ends_it(self, stack: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        """Ctrl-C is the usual end, so the exit code is 0."""

        def interrupted(_: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(top.time, "sleep", interrupted)
        assert run("top", "--count", "2", "-o", "json").code == 0


def test_a_gauge_knows_the_rate_of_use() -> None:
    """The rate counts the units that are missing since the last look, and those that were refilled since."""
    limit = Limit.per_second("requests", 10, burst=100)
    before = [Gauge("user", "api", limit, 50, 5.0)]
    status = LimitStatus("user", "api", limit, 0, 40, False, 0.0, 6.0)
    (now,) = gauges([status], before, 2.0)
    assert now.rate == (50 + 20 - 40) / 2
    assert now.fill == 0.4
    (first,) = gauges([status], [], 2.0)
    assert first.rate is None
    full = LimitStatus("user", "api", limit, 0, 100, False, 0.0, 0.0)
    (rested,) = gauges([full], [Gauge("user", "api", limit, 95, 0.5)], 2.0)
    assert rested.rate == 0
    debt = LimitStatus("user", "api", limit, 0, -20, True, 2.0, 12.0)
    assert gauges([debt], [], 1.0)[0].fill == 0


def key(entity: str) -> BucketKey:
    """A bucket."""
    return BucketKey("default", entity, "api")


def state(*tats: float) -> BucketState:
    """A bucket with limits that are full at these times in seconds."""
    return BucketState({f"limit-{n}|1/60": Level(round(tat * SECOND)) for n, tat in enumerate(tats)})


def test_the_load_of_a_bucket_is_what_was_consumed_since_the_last_look() -> None:
    """What was consumed before counts no more; the busiest limit of a bucket decides, and ties go by name."""
    before = {key("old"): state(500), key("busy"): state(99, 103), key("idle"): state(50)}
    now = {key("old"): state(500), key("busy"): state(101, 107), key("idle"): state(50), key("new"): state(103)}
    assert busiest(now, {}, None, 10) == [key("old"), key("busy"), key("new"), key("idle")]
    assert busiest(now, before, 100 * SECOND, 10) == [key("busy"), key("new"), key("old"), key("idle")]
    assert busiest(now, before, 100 * SECOND, 1) == [key("busy")]


@pytest.mark.parametrize(("width", "columns"), [(80, 4), (32, 3), (22, 2), (5, 2)])
def test_columns_are_dropped_until_a_table_fits(width: int, columns: int) -> None:
    """The expendable columns go first, in their order; the others stay and are folded."""
    terminal = console()
    terminal.width = width
    table = Table(("name", "much", "less", "value"), [("abcdefgh", "x" * 9, "y" * 6, 12)], expendable=("much", "less"))
    assert len(fitting_table(table, terminal).columns) == columns


def test_buckets_that_only_count_come_behind_busy_rates() -> None:
    """What counts is the units since the last look, or of the present opening; a full rate is busy with nothing."""
    quota, since = Quota.per_day("tokens", 100), 100 * SECOND

    def counting(used: int, opened: int = since) -> BucketState:
        return BucketState({quota.identity: Level(used, opened)})

    now = {key("few"): counting(12), key("many"): counting(30), key("rate"): state(101), key("full"): state(50)}
    before = {key("few"): counting(10), key("many"): counting(30), key("rate"): state(99)}
    assert busiest(now, {}, None, 10) == [key("rate"), key("full"), key("many"), key("few")]
    assert busiest(now, before, since, 10) == [key("rate"), key("few"), key("many"), key("full")]
    again = {key("few"): counting(12, since + 1), key("many"): counting(31)}
    assert busiest(again, before, since, 10) == [key("few"), key("many")]
