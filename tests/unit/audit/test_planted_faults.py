"""The audit finds every planted fault from the record alone.

The test of `limiter.audit.verdict`.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.recorded_histories import (
    EPOCH,
    RESOURCE,
    SECOND,
    Rate,
    Slots,
    World,
    admitted,
    line,
    rate,
    refunded,
    refused,
    verdict,
)

RATE = "a=10/second burst 20"
TICK = SECOND // 10
HOUR = 3_600 * SECOND


def greedy(ticks: int, *, spare: int = 0) -> list[dict[str, Any]]:
    """Record a caller that consumes the whole capacity at once, and then every unit as it refills, except the last `spare`."""
    burst = [admitted("burst", EPOCH, RATE, 20)]
    return burst + [admitted(f"c{tick}", EPOCH + tick * TICK, RATE) for tick in range(1, ticks - spare)]


def promises(lines: list[dict[str, Any]], **options: Any) -> set[str]:
    """Return the promises that a history breaks."""
    return {each.promise for each in verdict(lines, **options).findings}


@settings(deadline=None)
@given(st.integers(2, 60), st.data())
def test_one_unit_admitted_twice_is_found(ticks: int, data: st.DataObject) -> None:
    """One admission too many is found and named, wherever it stands in the record."""
    lines = greedy(ticks)
    assert not promises(lines)
    twice = dict(data.draw(st.sampled_from(lines)), id="twice")
    found = verdict([*lines, twice])
    assert {each.promise for each in found.findings} == {"capacity"}
    assert "units beyond the capacity and the refill of" in found.findings[0].message
    assert found.worst is not None
    assert found.worst.units > found.worst.capacity == 20


def test_the_worst_span_is_named() -> None:
    """The verdict names the interval with the most admissions for its refill, even if no limit is exceeded."""
    rest = EPOCH + 60 * SECOND
    lines = [admitted("a", EPOCH, RATE, 5), admitted("b", rest, RATE, 10), admitted("c", rest + TICK, RATE, 4)]
    worst = verdict(lines).worst
    assert worst is not None
    assert (worst.begin, worst.end, worst.units, worst.limit) == (rest, rest + TICK, 13, RATE)
    assert str(worst) == f"user/{RESOURCE} {RATE}: 13 units of 20 in 0.1 s from 2027-01-15 08:01:00.000000 UTC"


@pytest.mark.parametrize("seed", range(20))
def test_a_lost_refund_that_is_written_twice_is_found(seed: int) -> None:
    """A bucket that takes one refund for two admits more than it should."""

    class Twice(Rate):
        def give(self, now: int, units: int, opened: int) -> None:
            super().give(now, 2 * units, opened)

    chance = random.Random(seed)  # noqa: S311 - no secret
    sound = rate("a", 20, 10, 1)
    for model, found in ((sound, set()), (Twice(sound.text, 20, sound.rate), {"capacity"})):
        world = World(chance)
        world.start(world.call({"user": [model]}, 10, hold=TICK, back=1.0))
        for _ in range(30):
            world.start(world.call({"user": [model]}, chance.randint(1, 3)), chance.randint(0, 2 * TICK))
        assert promises(world.run(), skip=["refusals"]) == found


def test_what_is_given_back_twice_is_found() -> None:
    """A lease refunds at most what it consumed, corrections included."""
    taken = [admitted("a", EPOCH, RATE, 5), line("correction", "a", EPOCH, EPOCH, [("user", RATE, 2)])]
    back = [refunded("a", EPOCH + TICK, EPOCH + TICK, RATE, 7)]
    assert not promises(taken + back)
    found = verdict([*taken, *back, refunded("a", EPOCH + TICK, None, RATE, 1)]).findings
    assert [each.message for each in found] == ["a refunded 1 units more than it had consumed"]
    assert promises([*taken, refunded("b", EPOCH, EPOCH, RATE, 1)]) == {"refunds"}


@given(st.integers(1, 20), st.integers(5, 40))
def test_a_refusal_that_had_to_fit_is_found(spare: int, ticks: int) -> None:
    """Units that have refilled fit exactly; a refusal of them is found, and one more unit is rightly refused."""
    lines, now = greedy(ticks + spare, spare=spare), EPOCH + (ticks + spare - 1) * TICK
    assert promises([*lines, refused("x", now, RATE, spare)]) == {"refusals"}
    assert not promises([*lines, refused("x", now, RATE, spare + 1)])
    assert not promises([*lines, refused("x", now - 1, RATE, spare)])


def test_a_refusal_is_excused_by_what_was_on_its_way() -> None:
    """A call that is not decided yet, or that failed, may have been written first."""
    late = dict(admitted("late", EPOCH + TICK, RATE, 20), begin=EPOCH, end=EPOCH + 2 * TICK)
    failed = dict(refused("failed", EPOCH, RATE, 20), outcome="failed")
    asks = refused("x", EPOCH + TICK, RATE, 1)
    assert promises([asks]) == {"refusals"}
    assert not promises([late, asks])
    assert not promises([failed, asks])


def test_a_refusal_is_excused_by_a_refund_that_is_too_recent() -> None:
    """A refusal that is remembered outlives a refund, for as long as refusals are remembered."""
    lines = [
        admitted("a", EPOCH, RATE, 20),
        refunded("a", EPOCH + TICK, EPOCH + TICK, RATE, 10),
        refused("x", EPOCH + SECOND // 2, RATE, 12),
    ]
    assert promises(lines, denial_ttl=0.1) == {"refusals"}
    assert not promises(lines, denial_ttl=1.0)


def test_a_refund_that_was_kept_back_is_found() -> None:
    """Refunded units can be consumed again."""
    lines = [admitted("a", EPOCH, RATE, 20), refunded("a", EPOCH + TICK, EPOCH + TICK, RATE, 20)]
    assert promises([*lines, refused("x", EPOCH + 2 * TICK, RATE, 20)]) == {"refusals"}


def test_a_refusal_of_several_limits_is_wrong_when_all_had_room() -> None:
    """A refusal is right if one of the limits refuses."""
    lines = [line("decision", "a", EPOCH, EPOCH, [("user", "b=3 in all", 3, EPOCH, None)])]
    both = line("decision", "x", EPOCH + 1, EPOCH + 1, [("user", RATE, 1), ("user", "b=3 in all", 1)], outcome="refused")
    assert not promises([*lines, both])
    assert promises([both]) == {"refusals"}


def test_who_takes_in_debt_is_found() -> None:
    """After a correction into debt nothing is allowed until the debt is paid."""
    debt = [admitted("a", EPOCH, RATE, 20), line("correction", "a", EPOCH + 1, EPOCH + 2, [("user", RATE, 10)])]
    assert not promises([*debt, admitted("b", EPOCH + 11 * TICK, RATE)])
    assert promises([*debt, admitted("b", EPOCH + 10 * TICK, RATE)]) == {"capacity"}


def turn(identifier: str, asked: int, start: int) -> dict[str, Any]:
    """Record a caller that was given a turn at once."""
    return dict(admitted(identifier, start, RATE), begin=asked, end=asked)


def test_a_turn_out_of_order_is_found() -> None:
    """A caller that asks after another one was given a turn starts no earlier."""
    lines = [admitted("a", EPOCH, RATE, 20), turn("b", EPOCH + 1, EPOCH + TICK), turn("c", EPOCH + 2, EPOCH + 2 * TICK)]
    assert not promises(lines)
    swapped = [lines[0], turn("b", EPOCH + 1, EPOCH + 2 * TICK), turn("c", EPOCH + 2, EPOCH + TICK)]
    found = verdict(swapped).findings
    assert [each.message for each in found] == ["c started 0.1 s before b, which had been allowed before it asked"]


@pytest.mark.parametrize(
    ("begin", "end", "text", "kept"),
    [
        (2, 4, RATE, True),
        (1, 1, RATE, True),
        (5, 5, RATE, True),
        (0, 0, RATE, False),
        (6, 7, RATE, False),
        (2, 4, "a=10/second burst 30", True),
        (2, 4, "other=10/second burst 20", False),
    ],
)
def test_a_reset_makes_the_turns_before_it_void(begin: int, end: int, text: str, *, kept: bool) -> None:
    """A caller that asks after a reset does not wait for those that were given a turn before it."""
    lines = [
        admitted("a", EPOCH, RATE, 20),
        turn("b", EPOCH + 1, EPOCH + 2 * TICK),
        line("reset", "r", EPOCH + begin, EPOCH + end, [("user", text, 0)]),
        turn("c", EPOCH + 5, EPOCH + TICK),
    ]
    assert promises(lines) == (set() if kept else {"order"})


def test_a_turn_after_a_reset_is_not_void() -> None:
    """Turns that were given after a reset are kept, though earlier ones with a later start are not."""
    lines = [
        turn("b", EPOCH + 1, EPOCH + 9 * TICK),
        line("reset", "r", EPOCH + 2, EPOCH + 3, [("user", RATE, 0)]),
        turn("c", EPOCH + 4, EPOCH + 2 * TICK),
    ]
    assert not promises([*lines, turn("d", EPOCH + 5, EPOCH + 3 * TICK)])
    found = verdict([*lines, turn("d", EPOCH + 5, EPOCH + TICK)]).findings
    assert [each.message for each in found] == ["d started 0.1 s before c, which had been allowed before it asked"]


@pytest.mark.parametrize("retried", [True, False])
def test_what_a_call_held_before_it_was_asked_again_is_refunded(*, retried: bool) -> None:
    """A call for two buckets may have taken from one, given it back when the other refused, and waited to ask again."""
    extra = {"retried": True} if retried else {}
    charges = [("user", RATE, 10, EPOCH + SECOND, None), ("parent", RATE, 10, EPOCH + SECOND, None)]
    lines = [
        dict(line("decision", "a", EPOCH, EPOCH + SECOND, charges), waits=True, **extra),
        *(admitted(f"b{each}", EPOCH + SECOND + each, RATE, 5) for each in range(4)),
    ]
    assert promises(lines) == (set() if retried else {"capacity"})
    assert promises([*lines, admitted("c", EPOCH + SECOND + 5, RATE, 1)]) == {"capacity"}


def test_fences_of_one_slot_grow() -> None:
    """The later holder of a single slot has no smaller number."""
    one = "a=1 at once"
    lines = [
        admitted("a", EPOCH, one, fence=7),
        refunded("a", EPOCH + 1, EPOCH + 2, one),
        admitted("b", EPOCH + 3, one, fence=7),
    ]
    assert not promises(lines)
    assert promises([*lines[:2], dict(lines[2], fence=6)]) == {"order"}


def test_half_a_chain_is_found() -> None:
    """A call charges every bucket of its chain, and a correction reaches every bucket that was charged."""
    charges = [("user", RATE, 1, EPOCH, None), ("parent", RATE, 1, EPOCH, None)]
    whole = line("decision", "a", EPOCH, EPOCH, charges)
    assert not promises([whole, line("refund", "a", EPOCH, EPOCH, [("user", RATE, 1), ("parent", RATE, 1)])])
    half = dict(whole, charges=whole["charges"][:1])
    assert [each.message for each in verdict([half]).findings] == ["a was allowed without a charge of this bucket"]
    back = line("refund", "a", EPOCH, EPOCH, [("user", RATE, 1)])
    found = verdict([whole, dict(back, buckets=whole["buckets"])]).findings
    assert [(each.promise, each.entity_id, each.message) for each in found] == [
        ("chains", "parent", "a corrected 'a' in only some of its buckets")
    ]
    assert promises([whole, back]) == {"chains"}


def test_a_refund_after_a_failed_correction_may_differ_by_bucket() -> None:
    """A correction that failed may have reached some buckets only, and the refund gives back what the lease holds in each."""
    charges = [("user", RATE, 1, EPOCH, None), ("parent", RATE, 1, EPOCH, None)]
    whole = line("decision", "a", EPOCH, EPOCH, charges)
    more = line("correction", "a", EPOCH, EPOCH + 1, [("user", RATE, 1), ("parent", RATE, 1)], outcome="failed")
    back = dict(line("refund", "a", EPOCH + 2, EPOCH + 2, [("user", RATE, 1)]), buckets=whole["buckets"])
    assert not promises([whole, more, back])
    assert promises([whole, back]) == {"chains"}


def test_a_refused_call_that_charged_a_parent_is_found() -> None:
    """If a refused call charged a parent, the parent refuses others that had to fit."""
    refused_half = line("decision", "x", EPOCH, EPOCH, [("user", RATE, 20), ("parent", RATE, 20)], outcome="refused")
    own = line("decision", "own", EPOCH, EPOCH, [("user", RATE, 20, EPOCH, None)])
    later = line("decision", "y", EPOCH + 1, EPOCH + 1, [("parent", RATE, 20)], outcome="refused")
    assert promises([own, refused_half, later]) == {"refusals"}


@pytest.mark.parametrize("text", ["a=5/hour in UTC", "a=5/session of 1 hour"])
def test_more_than_a_period_allows_is_found(text: str) -> None:
    """Nothing is allowed beyond the quota of a period, and the next period has its own quota."""
    next_hour = EPOCH + HOUR
    lines = [admitted(f"a{each}", EPOCH + each, text, since=EPOCH) for each in range(5)]
    lines += [admitted(f"b{each}", next_hour + each, text, since=next_hour) for each in range(5)]
    assert not promises(lines)
    assert promises([*lines, admitted("x", EPOCH + 9, text, since=EPOCH)]) == {"capacity"}
    assert promises([*lines, refused("x", next_hour - 5 * SECOND, text)]) == set()
    back = refunded("a0", EPOCH + 20, EPOCH + 21, text)
    assert not promises([*lines, back, admitted("x", EPOCH + 30, text, since=EPOCH)])
    assert promises([*lines, back, refused("x", EPOCH + 5 * SECOND, text)]) == ({"refusals"} if "hour in" in text else set())


def test_a_quota_of_a_zone_follows_its_calendar() -> None:
    """Days begin at midnight of the zone, even on the day on which its clocks change."""
    day = "a=1/day in America/Los_Angeles"
    midnight = 1_805_011_200 * SECOND  # 2027-03-14 00:00 in Los Angeles, where the day has 23 hours
    next_midnight = midnight + 23 * HOUR
    lines = [admitted(str(time), time, day) for time in (midnight - 1, midnight, next_midnight)]
    assert not promises(lines)
    assert promises([*lines, admitted("x", next_midnight - 1, day)]) == {"capacity"}


def test_a_session_that_begins_too_early_is_found() -> None:
    """A session lasts for its length, unless all of it was refunded."""
    text = "a=5/session of 1 hour"
    lines = [admitted("a", EPOCH, text, since=EPOCH)]
    early = EPOCH + HOUR - SECOND
    assert promises([*lines, admitted("b", early, text, since=early)]) == {"capacity"}
    back = refunded("a", EPOCH + 1, EPOCH + 2, text)
    assert not promises([*lines, back, admitted("b", early, text, since=early)])
    assert promises([*lines, admitted("b", EPOCH + 2 * HOUR, text, since=EPOCH)]) == {"capacity"}


def test_more_than_a_total_is_found() -> None:
    """A total never refills; refunded units can be consumed again."""
    text = "a=5 in all"
    lines = [admitted("a", EPOCH, text, 5)]
    assert promises([*lines, admitted("b", EPOCH + 900 * HOUR, text)]) == {"capacity"}
    assert not promises([*lines, refunded("a", EPOCH + 1, None, text), admitted("b", EPOCH + 900 * HOUR, text)])
    assert not promises(
        [*lines, line("reset", "r", EPOCH + 1, EPOCH + 2, [("user", text, 0)]), admitted("b", EPOCH + 3, text, 5)]
    )


@given(st.integers(1, 5), st.integers(0, 2**32))
def test_slots_that_overlap_are_found(capacity: int, seed: int) -> None:
    """One holder too many is found at the instant at which it overlaps."""
    model, chance = Slots(f"a={capacity} at once", capacity), random.Random(seed)  # noqa: S311 - no secret
    world = World(chance)
    for _ in range(30):
        world.start(world.call({"user": [model]}, 1, hold=chance.randint(1, 9) * TICK), chance.randint(0, 40) * TICK)
    lines = world.run()
    assert not promises(lines)
    held = [each for each in lines if each["outcome"] == "allowed" and each["event"] == "decision"]
    last = max(each["end"] for each in held)
    extra = [line("decision", f"x{each}", last, last, [("user", model.text, 1, last, None)]) for each in range(capacity)]
    freed = [refunded(f"x{each}", last + 1, last + 1, model.text) for each in range(capacity)]
    assert promises([*lines, *extra, *freed]) == {"capacity"}


def test_slots_that_expired_are_free() -> None:
    """Slots of a holder that did not renew them are free from the time at which it lost them."""
    text = "a=1 at once ttl 10"
    first, second = admitted("a", EPOCH, text), admitted("b", EPOCH + 13 * SECOND, text)
    ends = [refunded("b", EPOCH + 14 * SECOND, EPOCH + 14 * SECOND, text), refunded("a", EPOCH + HOUR, EPOCH + HOUR, text)]
    lost = line("expiry", "a", EPOCH + 10 * SECOND, EPOCH + HOUR, [("user", text, 1)])
    assert promises([first, second, *ends]) == {"capacity"}
    assert not promises([first, lost, second, ends[0]])


def test_slots_that_were_free_are_not_refused() -> None:
    """A caller is refused only if all slots may have been held."""
    text = "a=1 at once"
    lines = [admitted("a", EPOCH, text), refunded("a", EPOCH + 1, EPOCH + 2, text)]
    assert not promises([*lines, refused("x", EPOCH + 2, text)])
    assert promises([*lines, refused("x", EPOCH + 3, text)]) == {"refusals"}


def test_a_shadow_limit_refuses_no_one() -> None:
    """Only enforced limits justify a refusal; the charges of a shadow limit are within it."""
    shadow = "a=2 in all shadow"
    both = line("decision", "x", EPOCH, EPOCH, [("user", shadow, 1), ("user", "b=1 in all", 1)], outcome="refused")
    assert promises([both]) == {"refusals"}
    assert promises([admitted("y", EPOCH, shadow, 3)]) == {"capacity"}


def test_more_than_a_capacity_is_admitted_by_a_full_bucket_only() -> None:
    """Where a call for more than the capacity was allowed, it counts as the capacity, and later calls wait."""
    lines = [admitted("a", EPOCH, RATE, 50, oversize=True)]
    assert not promises(lines)
    assert promises([admitted("a", EPOCH, RATE, 50)]) == {"capacity"}
    assert promises([*lines, admitted("b", EPOCH + 30 * TICK, RATE)]) == {"capacity"}
    assert not promises([*lines, admitted("b", EPOCH + 31 * TICK, RATE)])


def test_a_call_for_nothing_ends_no_span() -> None:
    """It may be dated after a call for more than the capacity that was decided behind it, by the same clock of two threads."""
    lines = [admitted("a", EPOCH, RATE, 50, oversize=True)]
    assert not promises([*lines, admitted("b", EPOCH + 1, RATE, 0)])


def test_headroom_is_left_to_others() -> None:
    """A call that leaves a share of the capacity to others is refused earlier by that share."""
    lines = [admitted("a", EPOCH, RATE, 10)]
    assert not promises([*lines, refused("x", EPOCH, RATE, 7, headroom=0.2)])
    assert promises([*lines, refused("x", EPOCH + 1, RATE, 6, headroom=0.2)]) == {"refusals"}


def test_clocks_that_differ_excuse_a_refund() -> None:
    """Where two clocks differ, a refund also counts in a span that it may belong to."""
    lines = [
        admitted("a", EPOCH, RATE, 20),
        admitted("b", EPOCH + TICK, RATE, 5),
        refunded("a", EPOCH + 2 * TICK, EPOCH + 2 * TICK, RATE, 4),
    ]
    assert promises(lines) == {"capacity"}
    assert not promises(lines, clock_error=0.1)


def test_an_interrupted_call_may_have_held_what_it_gave_back() -> None:
    """A unit that a failed call held and returned before its end can be used again, and no other."""
    failed = dict(refused("failed", EPOCH, RATE, 1), outcome="failed", end=EPOCH + TICK)
    lines = [admitted("a", EPOCH + TICK // 2, RATE, 19), admitted("b", EPOCH + TICK, RATE, 2)]
    assert promises(lines) == {"capacity"}
    assert not promises([failed, *lines])
    assert promises([failed, *lines, admitted("c", EPOCH + TICK, RATE)]) == {"capacity"}
