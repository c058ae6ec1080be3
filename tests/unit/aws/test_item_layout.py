"""The layout of stored items, against a file of items: a change of it has to be meant.

Every release reads what older ones have written, and a bucket is read by several releases at once while a fleet is upgraded. If
a test here fails and the change was not meant, the change is wrong. If it was meant: read ADR-125 and ADR-147 (docs/adr), which
say what old releases make of a new layout, raise `schema.VERSION` where they would misread it, and write the file anew:

    PYTHONPATH=src:tests python tests/unit/aws/test_item_layout.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import expressions
from support.bucket_world import EPOCH

from limiter import BLOCKED, UNLIMITED, Entity, Limit, Quota
from limiter.aws import schema
from limiter.core import plan as planning
from limiter.core.pace import ATTEMPT
from limiter.core.records import BucketKey, EntityKey, EntityRecord, LimitsKey, scheduled
from limiter.core.request import Charge, Request
from limiter.core.schedule import check_schedule
from limiter.core.state import EMPTY
from limiter.core.units import NANOSECONDS

if TYPE_CHECKING:
    from limiter import BaseLimit
    from limiter.core.records import Record, RecordKey

LAYOUT = Path(__file__).parents[2] / "support" / "item_layout.json"
NOW = EPOCH + 123_456_789
ODD = "a#b|c:d%23 ü"
KINDS: dict[str, BaseLimit] = {
    "rate": Limit.per_minute("tokens", 100, burst=50),
    "rate whose unit is no whole nanosecond": Limit("words", 10, 7, 3.0),
    "strict window": Limit.at_most("calls", 15, 60.0),
    "hourly quota": Quota.per_hour("hour", 1_000),
    "daily quota of a zone": Quota.per_day("day", 1_000, zone="America/Los_Angeles"),
    "weekly quota": Quota.per_week("week", 1_000),
    "monthly quota": Quota.per_month("month", 1_000, zone="Europe/Berlin"),
    "session": Quota.session("messages", 50, 5 * 3_600),
    "total": Quota.total("credits", 10_000),
    "shadow": Limit.per_second("probe", 10, enforce=False),
    "name that holds every sign": Limit.per_second(ODD, 10),
}
RECORDS: dict[str, tuple[RecordKey, Record]] = {
    "namespace's limits": (LimitsKey(), tuple(KINDS[each] for each in ("rate", "monthly quota", "session", "total", "shadow"))),
    "resource's limits": (LimitsKey(None, "gpt-4"), (KINDS["strict window"],)),
    "entity's limits": (LimitsKey("user-42"), UNLIMITED),
    "entity's limits for a resource": (LimitsKey(ODD, ODD), BLOCKED),
    "limits with a schedule": (
        LimitsKey("user-42", "gpt-4"),
        scheduled(
            (KINDS["rate"],),
            check_schedule([("mon-fri 09:00-17:00", "Europe/Berlin", [KINDS["rate whose unit is no whole nanosecond"]])]),
        ),
    ),
    "entity": (
        EntityKey("user-42"),
        EntityRecord(Entity("user-42", "team", False, "Ada", {"plan": "pro"}), ("team", "company")),
    ),
    "entity alone": (EntityKey(ODD), EntityRecord(Entity(ODD))),
}


def bucket(*requests: Request, namespace: str = "default", entity: str = "user-42", resource: str = "gpt-4") -> dict[str, Any]:
    """The item that a bucket is after one request after another, one write each, as the expressions say."""
    item: dict[str, Any] = dict(schema.bucket_key(BucketKey(namespace, entity, resource)))
    state = EMPTY
    for number, request in enumerate(requests):
        update = planning.plan(state, [request], NOW, f"stamp-{number}", count=ATTEMPT).update
        assert update is not None
        parameters = schema.update_parameters(update)
        assert expressions.holds(parameters, item if number else {})
        item, state = expressions.apply(parameters, item), update.apply(state)
    return item


def asking(*limits: BaseLimit, units: int = 2, **options: Any) -> Request:
    """A request for units of each limit."""
    key = BucketKey("default", "user-42", "gpt-4")
    return Request(key, tuple(Charge(limit, units) for limit in limits), **{"deadline": NOW, **options})


def layout() -> dict[str, dict[str, Any]]:
    """An item of every kind."""
    one, rate = Limit.per_second("requests", 1), KINDS["rate"]
    buckets = {f"bucket: {name}": bucket(asking(limit)) for name, limit in KINDS.items()}
    buckets |= {
        "bucket: every kind at once": bucket(asking(*KINDS.values())),
        "bucket: bookings": bucket(asking(one, units=1), asking(one, units=1, deadline=NOW + 5 * NANOSECONDS)),
        "bucket: debt": bucket(asking(rate, units=10**6, forced=True)),
        "bucket: three stamps": bucket(*[asking(rate)] * 4),
        "bucket: another rate": bucket(asking(rate), asking(Limit.per_minute("tokens", 300))),
        "bucket: paused": bucket(asking(rate), asking(pause=NOW + 30 * NANOSECONDS)),
        "bucket: reset": bucket(asking(rate), asking(clear=("tokens",))),
        "bucket: odd ids": bucket(asking(one, units=1), namespace=ODD, entity=ODD, resource=ODD),
    }
    return buckets | {name: schema.record_item("default", key, record) for name, (key, record) in RECORDS.items()}


@pytest.mark.parametrize("name", layout())
def test_an_item_is_laid_out_as_ever(name: str) -> None:
    """Keys, names of attributes and values are those of the file; above is what to do when they are to change."""
    assert layout()[name] == json.loads(LAYOUT.read_text(encoding="utf-8"))[name]


def test_the_file_holds_what_is_laid_out() -> None:
    """No item of the file is left without a test."""
    assert set(json.loads(LAYOUT.read_text(encoding="utf-8"))) == set(layout())


@pytest.mark.parametrize("name", RECORDS)
def test_what_the_file_holds_is_read(name: str) -> None:
    """Records of the file are read as what was written."""
    assert schema.record_value(json.loads(LAYOUT.read_text(encoding="utf-8"))[name]) == RECORDS[name][1]


if __name__ == "__main__":
    LAYOUT.write_text(json.dumps(layout(), indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
