"""Calls with several targets against a model that counts units: chains, refusals, corrections and refunds."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engines import FakeClock

from limiter import Limit, RateLimitExceeded, SyncMemoryRepository, SyncRateLimiter, ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ENTITIES = ("ann", "bob", "team", "company", "everybody")
PARENTS = {"ann": "team", "bob": "team", "team": "company"}
LIMITS: dict[str, dict[str, int]] = {
    "ann": {"requests": 12, "tokens": 30},
    "bob": {"tokens": 20},
    "team": {"requests": 20},
    "company": {"requests": 25, "tokens": 60},
    "everybody": {"requests": 15, "words": 9},
}
Place = tuple[str, str]


class Stop(Exception):
    """Ends a block with an error."""


@dataclass
class Held:
    """What one lease holds in each bucket and of its own amounts, and how much of it was kept."""

    own: dict[str, int]
    held: dict[Place, int]
    chain: list[str]
    kept: dict[Place, int] = field(default_factory=dict)


@dataclass
class Model:
    """Consumed units of every limit. Nothing refills, because the clock stands still."""

    taken: dict[Place, int] = field(default_factory=lambda: {(each, name): 0 for each in ENTITIES for name in LIMITS[each]})

    def charged(self, targets: Sequence[tuple[str, Mapping[str, int] | None]]) -> dict[str, Mapping[str, int] | None]:
        """Return the amounts of every bucket. If several targets reach a bucket, the first one counts."""
        chain: dict[str, Mapping[str, int] | None] = {}
        for entity, amounts in targets:
            current: str | None = entity
            while current is not None and current not in chain:
                chain[current] = amounts
                current = PARENTS.get(current)
        return chain

    def take(self, targets: Sequence[tuple[str, Mapping[str, int] | None]]) -> Held | str:
        """Consume units. Returns what is then held, or "refused" or "invalid"."""
        chain = self.charged(targets)
        known = {name for each in chain for name in LIMITS[each]}
        if len({entity for entity, _ in targets}) < len(targets):
            return "invalid"
        if any(name not in known for _, amounts in targets for name in amounts or ()):
            return "invalid"
        held = {
            (each, name): 1 if amounts is None else amounts[name]
            for each, amounts in chain.items()
            for name in LIMITS[each]
            if amounts is None or name in amounts
        }
        if not self.fits(held):
            return "refused"
        own = targets[0][1]
        if own is None:
            own = {name: 1 for each, amounts in chain.items() if amounts is None for name in LIMITS[each]}
        self.add(held)
        return Held(dict(own), held, list(chain))

    def fits(self, units: Mapping[Place, int]) -> bool:
        """Tell whether all of it fits."""
        return all(self.taken[place] + each <= LIMITS[place[0]][place[1]] for place, each in units.items())

    def add(self, units: Mapping[Place, int], sign: int = 1) -> None:
        """Add consumed units, or subtract refunded ones."""
        for place, each in units.items():
            self.taken[place] += sign * each

    def correct(self, lease: Held, name: str, units: int, *, forced: bool) -> str:
        """Consume more in each bucket that has the limit, or refund what is held of it there."""
        places = [(each, name) for each in lease.chain if name in LIMITS[each]]
        most = max([lease.own.get(name, 0), *(lease.held.get(place, 0) for place in places)])
        if not places or -units > most:
            return "invalid"
        if units >= 0 and not forced and not self.fits(dict.fromkeys(places, units)):
            return "refused"
        changes = {place: max(units, -lease.held.get(place, 0)) for place in places}
        self.add(changes)
        for place, each in changes.items():
            lease.held[place] = lease.held.get(place, 0) + each
        if units > 0 or name in lease.own:
            lease.own[name] = max(0, lease.own.get(name, 0) + units)
        return "done"

    def refund(self, lease: Held) -> None:
        """Refund everything that is held and was not kept."""
        self.add({place: max(0, units - lease.kept.get(place, 0)) for place, units in lease.held.items()}, -1)


NAMES = st.sampled_from(["requests", "tokens", "words", "other"])
AMOUNTS = st.none() | st.dictionaries(st.sampled_from(["requests", "tokens", "words"]), st.integers(0, 9), max_size=3)
TAKES = st.tuples(
    st.just("take"), st.sampled_from(ENTITIES), AMOUNTS, st.lists(st.tuples(st.sampled_from(ENTITIES), AMOUNTS), max_size=3)
)
CHANGES = st.tuples(
    st.sampled_from(["adjust", "consume", "release"]), st.integers(0, 3), NAMES, st.integers(0, 12), st.booleans()
)
ENDS = st.tuples(st.sampled_from(["keep", "fail", "end"]), st.integers(0, 3))


class World:
    """A limiter and its model, with the leases that are open in both."""

    def __init__(self) -> None:
        self.limiter = SyncRateLimiter(SyncMemoryRepository(clock=FakeClock()))
        for entity, limits in LIMITS.items():
            self.limiter.set_limits([Limit(name, capacity, 1, 3600.0) for name, capacity in limits.items()], entity_id=entity)
        for entity in reversed(ENTITIES):
            self.limiter.create_entity(entity, parent_id=PARENTS.get(entity))
        self.model = Model()
        self.open: list[tuple[Any, Any, Held]] = []

    def take(self, entity: str, amounts: Any, others: Sequence[tuple[str, Any]]) -> None:
        """Acquire in both, and check that outcome and consumed units agree."""
        targets = [(entity, amounts), *((other, amounts if theirs is None else theirs) for other, theirs in others)]
        expected = self.model.take(targets)
        also = [(other, "api") if theirs is None else (other, "api", theirs) for other, theirs in others]
        call = entity, "api", amounts
        if isinstance(expected, Held):
            assert self.limiter.check(*call, also=also)
            block = self.limiter.acquire(*call, also=also)
            lease = block.__enter__()
            assert lease.consumed == expected.own
            self.open.append((block, lease, expected))
        else:
            error = ValidationError if expected == "invalid" else RateLimitExceeded
            with pytest.raises(error), self.limiter.acquire(*call, also=also):
                pass

    def change(self, kind: str, number: int, name: str, units: int, *, down: bool) -> None:
        """Correct a lease in both."""
        if number >= len(self.open):
            return
        _, lease, held = self.open[number]
        signed = -units if kind == "release" or (kind == "adjust" and down) else units
        expected = self.model.correct(held, name, signed, forced=kind != "consume")
        errors = {"done": (), "invalid": ValidationError, "refused": RateLimitExceeded}[expected]
        with pytest.raises(errors) if errors else contextlib.nullcontext():
            getattr(lease, kind)({name: signed if kind == "adjust" else units})
        assert {each: units for each, units in lease.consumed.items() if units} == {
            each: units for each, units in held.own.items() if units
        }

    def end(self, kind: str, number: int) -> None:
        """Keep what a lease holds in both, or end it."""
        if number >= len(self.open):
            return
        block, lease, held = self.open[number]
        if kind == "keep":
            lease.keep()
            held.kept = dict(held.held)
            return
        del self.open[number]
        if kind == "fail":
            self.model.refund(held)
        block.__exit__(*((Stop, Stop(), None) if kind == "fail" else (None, None, None)))

    def check(self) -> None:
        """Check that every bucket holds what the model says."""
        for entity, limits in LIMITS.items():
            asked = dict.fromkeys(limits, 0)
            statuses = self.limiter.check(entity, "api", asked).statuses
            found = {status.limit.name: status.available for status in statuses if status.entity_id == entity}
            assert found == {name: limits[name] - self.model.taken[entity, name] for name in limits}


@settings(max_examples=150, deadline=None)
@given(st.lists(TAKES | CHANGES | ENDS, max_size=25))
def test_calls_with_several_targets_count_as_the_model_does(steps: list[tuple[Any, ...]]) -> None:
    """After any sequence of acquires, corrections, keeps and refunds, every bucket equals the model to the unit."""
    world = World()
    for kind, *arguments in steps:
        if kind == "take":
            world.take(*arguments)
        elif kind in ("keep", "fail", "end"):
            world.end(kind, *arguments)
        else:
            number, name, units, down = arguments
            world.change(kind, number, name, units, down=down)
        world.check()
