"""After any changes, limits and chains resolve as plain dictionaries say."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from support.engines import FakeClock

from limiter import Limit, LimiterError, SyncMemoryRepository, SyncRateLimiter

ENTITIES, RESOURCES = ("a", "b", "c", "d"), ("x", "y")
DEFAULTS = (Limit.parse("requests=1000000/second"),)
TTL = 60


class Model:
    """What is stored, in dictionaries."""

    def __init__(self) -> None:
        self.limits: dict[tuple[str | None, str | None], tuple[Limit, ...]] = {}
        self.entities: dict[str, tuple[str | None, bool]] = {}

    def resolve(self, entity: str, resource: str) -> tuple[Limit, ...]:
        """The strongest level that is stored."""
        levels = ((entity, resource), (entity, None), (None, resource), (None, None))
        return next((self.limits[level] for level in levels if level in self.limits), DEFAULTS)

    def chain(self, entity: str) -> tuple[str, ...]:
        """The entities that an acquire charges."""
        found = [entity]
        while True:
            parent, cascade = self.entities.get(found[-1], (None, False))
            if not cascade or parent is None or parent not in self.entities or parent in found:
                return tuple(found)
            found.append(parent)

    def view(self) -> dict[tuple[str, str], tuple[tuple[Limit, ...], tuple[str, ...]]]:
        """Limits and chain of everybody."""
        return {(each, where): (self.resolve(each, where), self.chain(each)) for each in ENTITIES for where in RESOURCES}


def change(rng: Random, limiter: SyncRateLimiter, model: Model) -> None:
    """Make one change that chance picks, in the store and in the model; what the store refuses changes neither."""
    entity, resource = rng.choice([*ENTITIES, None]), rng.choice([*RESOURCES, None])
    level: dict[str, Any] = {"entity_id": entity, "resource": resource}
    child, parent, cascade = rng.choice(ENTITIES), rng.choice([*ENTITIES, None]), rng.random() < 0.7
    action = rng.randrange(5)
    try:
        if action == 0:
            limits = (Limit.per_second("requests", rng.randint(10**5, 10**6)),)
            limiter.set_limits(limits, **level)
            model.limits[entity, resource] = limits
        elif action == 1:
            limiter.delete_limits(**level)
            model.limits.pop((entity, resource), None)
        elif action == 2:
            limiter.create_entity(child, parent_id=parent, cascade=cascade)
            model.entities[child] = (parent, cascade)
        elif action == 3:
            limiter.set_parent(child, parent)
            model.entities[child] = (parent, model.entities[child][1])
        else:
            limiter.delete_entity(child)
            model.entities.pop(child, None)
            model.limits = {key: value for key, value in model.limits.items() if key[0] != child}
    except LimiterError:
        return


def seen(limiter: SyncRateLimiter, entity: str, resource: str) -> tuple[tuple[Limit, ...], tuple[str, ...]]:
    """Limits and chain as the limiter acts on them, by an acquire that takes one unit of each bucket."""
    decision = limiter.try_acquire(entity, resource)
    return limiter.resolve_limits(entity, resource), tuple(status.entity_id for status in decision.statuses)


@pytest.mark.parametrize("seed", range(20))
def test_what_is_stored_is_what_applies(seed: int) -> None:
    """At once where it was written; elsewhere within the time to live, until when each level is as it was at a moment of it."""
    rng, clock, model = Random(seed), FakeClock(), Model()  # noqa: S311 - no secret
    repository = SyncMemoryRepository(clock=clock)
    writer, reader = SyncRateLimiter(repository, DEFAULTS), SyncRateLimiter(repository, DEFAULTS)
    history = [(clock(), dict(model.limits))]
    for _ in range(80):
        change(rng, writer, model)
        history.append((clock(), dict(model.limits)))
        place = rng.choice(ENTITIES), rng.choice(RESOURCES)
        assert seen(writer, *place) == model.view()[place]
        limits, _ = seen(reader, *place)
        since = clock() - TTL * 10**9
        recent = [stored for time, stored in history if time > since] + [stored for time, stored in history if time <= since][-1:]
        levels = (place, (place[0], None), (None, place[1]), (None, None))
        assert limits in [DEFAULTS, *(stored[level] for stored in recent for level in levels if level in stored)]
        clock.advance(rng.choice((0, 1, 20)))
    clock.advance(TTL)
    assert {place: seen(reader, *place) for place in model.view()} == model.view()
