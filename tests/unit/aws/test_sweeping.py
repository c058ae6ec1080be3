"""The pace of a sweep, and what it makes of each deletion's outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from limiter.aws.sweeping import AT_ONCE, GRACE, Sweeper
from limiter.core.units import NANOSECONDS
from limiter.exceptions import Throttled
from limiter.models import Sweep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOW = 1_800_000_000 * NANOSECONDS


class Table:
    """A table whose Scan finds so many items; some deletions have an error, by the number of the item."""

    name = "my-app"

    def __init__(self, count: int, errors: dict[int, Exception] | None = None) -> None:
        self.items = [{"pk": {"S": f"default#{each}"}, "sk": {"S": "b#api"}, "ttl": {"N": str(each)}} for each in range(count)]
        self.errors = errors or {}
        self.deleted: list[Any] = []
        self.scanned: dict[str, Any] = {}

    async def pages(self, _: str, parameters: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Yield the items."""
        self.scanned = parameters
        for item in self.items:
            yield item

    async def call(self, _: str, parameters: dict[str, Any], *, attempts: int) -> None:
        """Delete an item, or raise its error."""
        seen = parameters["ExpressionAttributeValues"][":t"]
        if (error := self.errors.get(int(seen["N"]))) is not None:
            raise error
        self.deleted.append(parameters["Key"])


class Time:
    """Monotonic seconds, which go on during a sleep."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let the time go on."""
        self.now += seconds


def failed() -> ClientError:
    """The error of a condition that did not hold."""
    return ClientError({"Error": {"Code": "ConditionalCheckFailedException", "Message": ""}}, "DeleteItem")


async def swept(table: Table, time: Time, **options: Any) -> Sweep:
    """Sweep a table."""
    sweeper = Sweeper(table, lambda: NOW, monotonic=time, sleep=time.sleep)  # type: ignore[arg-type] # as much as is used
    return await sweeper.sweep(**{"max_rate": 100, "segment": 0, "segments": 1, "dry_run": False, "on_progress": None} | options)


@pytest.mark.parametrize("rate", [1, 5, 100, 5_000])
async def test_deletions_keep_the_rate(rate: int) -> None:
    """So many deletions take as many seconds as the rate says."""
    table, time = Table(50), Time()
    assert await swept(table, time, max_rate=rate) == Sweep(50, 50, 0)
    assert time.now == pytest.approx(50 / rate)
    assert len(table.deleted) == 50


async def test_a_renewed_item_is_counted_and_kept() -> None:
    """A condition that fails is no error, and the others of its batch are deleted."""
    table = Table(20, {3: failed(), 17: failed()})
    assert await swept(table, Time()) == Sweep(20, 18, 2)


async def test_an_outage_ends_the_sweep() -> None:
    """The error is raised after the deletions that were under way."""
    table = Table(20, {3: Throttled("throttled")})
    with pytest.raises(Throttled):
        await swept(table, Time())
    assert len(table.deleted) == AT_ONCE - 1


async def test_a_dry_run_deletes_nothing() -> None:
    """It counts what has expired."""
    table = Table(20)
    assert await swept(table, Time(), dry_run=True) == Sweep(20, 0, 0)
    assert table.deleted == []


async def test_progress_and_segment_are_passed_on() -> None:
    """The progress grows to the end, and the Scan names the segment and the time, less a minute for clocks that differ."""
    table, told = Table(2 * AT_ONCE), list[Sweep]()
    await swept(table, Time(), segment=2, segments=3, on_progress=told.append)
    assert [each.deleted for each in told] == [AT_ONCE, 2 * AT_ONCE]
    assert (table.scanned["Segment"], table.scanned["TotalSegments"]) == (2, 3)
    assert table.scanned["ExpressionAttributeValues"][":t"]["N"] == str((NOW - GRACE) // NANOSECONDS)
