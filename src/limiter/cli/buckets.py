"""What the states of buckets tell beyond decisions: pauses, how busy a bucket is, and what is wrong with one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..core.limits.births import counted, measure, rate_of, siblings
from ..core.records import BucketKey
from ..core.units import NANOSECONDS
from .holders import UNUSED, SlotUse, slot_notes, slot_uses

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ..core.state import BucketState
    from ..models import BaseLimit, LimitStatus
    from ..sync_limiter import SyncRateLimiter

AHEAD = 3_600 * NANOSECONDS
"""Nanoseconds by which an opening may lie ahead of the clock; no clock that is synchronised is off by so much."""

_SPANS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400}
_PAUSE_REMEDY = "`limiter pause ENTITY RESOURCE 0` ends it"
_AHEAD_REMEDY = "`limiter reset ENTITY RESOURCE` mends it; a clock was ahead: synchronise those of all processes"
_UNREADABLE_REMEDY = "another program has written to the item; delete the item"
_RIVALS_REMEDY = "give one of them another name, or wait until every process uses the new one"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one bucket tells beyond decisions.

    `paused_for` is the seconds for which it is paused yet, None when it is not. `uses` are those of its slots, by limit.
    """

    paused_for: float | None
    uses: Mapping[str, SlotUse]

    def use(self, limit: BaseLimit) -> SlotUse | None:
        """Return the use of a limit's slots; None of a limit that has no slots."""
        return self.uses.get(limit.name, UNUSED) if limit.holds else None


NOTHING = Seen(None, {})


def look_at(limiter: SyncRateLimiter, buckets: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Seen]:
    """Return what each bucket, an entity and a resource, tells. Makes a consistent read for each."""
    repository = limiter.repository
    states = {each: repository.read_bucket(BucketKey(repository.namespace, *each)) for each in dict.fromkeys(buckets)}
    now = repository.clock()
    return {bucket: Seen(pause_left(state, now), slot_uses(state, now)) for bucket, state in states.items()}


def use_in(seen: Mapping[tuple[str, str], Seen], status: LimitStatus) -> SlotUse | None:
    """Return the use of the slots that a status is about; None of a limit that has no slots."""
    return seen.get((status.entity_id, status.resource), NOTHING).use(status.limit)


def pause_left(state: BucketState, now: int) -> float | None:
    """Return for how many seconds a bucket is paused yet; None when it is not."""
    return (state.paused - now) / NANOSECONDS if state.paused > now else None


def load(state: BucketState, before: BucketState | None, since: int | None) -> tuple[int, int]:
    """Return how busy a bucket is: by its rates, and by what else it counts.

    The first is the time that its rates need to refill what was consumed since the time `since`; at the first look, with `since`
    None, it is the time at which the bucket will be full. The second is the units of quotas, sessions and totals that were
    consumed since; at the first look, all that were; or the slots that are held, if these are more. Times are nanoseconds since
    the epoch.
    """
    times: list[int] = []
    units = [0, *state.slots.held.values()]
    for identity, level in state.levels.items():
        earlier = None if before is None else before.level(identity)
        if rate_of(identity) is not None:
            times.append(level.tat - max(-1 if earlier is None else earlier.tat, since or 0))
        elif counted(identity) is not None:
            continues = earlier is not None and earlier.since == level.since
            units.append(level.tat - (earlier.tat if earlier is not None and continues else 0))
    return max(times, default=0), max(units)


def notes(state: BucketState, now: int) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with a bucket, or worth knowing where calls are refused; each with its remedy.

    A remedy's command names the bucket as ENTITY RESOURCE.
    """
    yield from ((detail, _UNREADABLE_REMEDY) for detail in dict.fromkeys(state.unreadable.values()))
    if (seconds := pause_left(state, now)) is not None:
        yield f"paused for another {seconds:.0f} s", _PAUSE_REMEDY
    for identity, level in state.levels.items():
        if level.since - now > AHEAD:
            name, seconds = identity.rpartition("|")[0], (level.since - now) / NANOSECONDS
            effect = "allows nothing until then" if rate_of(identity) else "counts all use until then as one period"
            yield f"limit {name!r} was opened {seconds:.0f} s ahead of the clock, and {effect}", _AHEAD_REMEDY
    yield from slot_notes(state, now)
    for name, identities in in_use(state, now).items():
        measures = "; ".join(sorted(measure_text(each) for each in identities))
        yield f"limit {name!r} is counted in several ways at once: {measures}", _RIVALS_REMEDY


def in_use(state: BucketState, now: int) -> Mapping[str, list[str]]:
    """Return by name the identities of accounts of one name of which two or more are in use."""
    names = {identity.rpartition("|")[0] for identity in state.levels}
    used = {name: [each for each in siblings(state, name) if is_used(state, each, now)] for name in sorted(names)}
    return {name: identities for name, identities in used.items() if len(identities) > 1}


def is_used(state: BucketState, identity: str, now: int) -> bool:
    """Tell whether an account holds units that are used."""
    level, quota = state.level(identity), counted(identity)
    if quota is not None:
        return level.tat > 0 and not quota.is_over(level.since, level.tat, now)
    return rate_of(identity) is not None and level.tat > now


def measure_text(identity: str) -> str:
    """Return what an account's units are counted by, as people read it."""
    if (rate := rate_of(identity)) is not None:
        units, seconds = rate
        named = ((name, span) for name, span in _SPANS.items() if units * span % seconds == 0)
        name, span = next(named, (f"{seconds} s", seconds))
        return f"{units * span // seconds:,} per {name}"
    kind, _, rest = measure(identity).partition(" ")
    if kind == "session":
        return f"per session of {rest} s"
    return f"per {kind} in {rest}" if rest else "in all"
