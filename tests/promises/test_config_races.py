"""Limits and parents change while callers acquire: no charge is lost or counted twice."""

from __future__ import annotations

import threading
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from limiter import Limit, LimiterError, SyncRateLimiter, SyncRepository
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import Engine, FakeClock

WIDE = [Limit.per_second("requests", 1_000, burst=100_000)]
PARENTS = ("left", "right")
ROUNDS = 60


class Race:
    """Callers and changers of one table, and the units of each bucket that the callers have kept."""

    def __init__(self, endpoint_url: str | None, table_name: str, clock: FakeClock) -> None:
        self.endpoint_url, self.table_name, self.clock = endpoint_url, table_name, clock
        self.kept: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.failures: list[BaseException] = []

    def connect(self) -> SyncRateLimiter:
        """Return a limiter with its own repository, which sees every change at once."""
        repository = SyncRepository(
            self.table_name, endpoint_url=self.endpoint_url, clock=self.clock, connect_timeout=30.0, read_timeout=30.0
        )
        return SyncRateLimiter(repository, WIDE, config_ttl=0, decision_timeout=60)

    def acquire(self, rng: Random, limiter: SyncRateLimiter) -> None:
        """Consume units of the whole chain and keep all of them, or all but one."""
        units, back = rng.randint(1, 9), rng.randint(0, 1)
        with limiter.acquire("key", consume={"requests": units}) as lease:
            lease.release(requests=back)
        with self.lock:
            self.kept.update({status.entity_id: units - back for status in lease.statuses})

    def change(self, rng: Random, limiter: SyncRateLimiter) -> None:
        """Move an entity, or change its limits."""
        capacity = rng.randint(50_000, 100_000)
        changes = (
            lambda: limiter.set_parent("key", rng.choice([*PARENTS, None])),
            lambda: limiter.set_limits([Limit.per_second("requests", 1_000, burst=capacity)], entity_id=rng.choice(PARENTS)),
            lambda: limiter.set_parent(*rng.sample(PARENTS, 2)),
            lambda: limiter.set_parent(rng.choice(PARENTS), None),
        )
        try:
            rng.choice(changes)()
        except LimiterError as error:
            if "its own ancestor" not in str(error) and "changed" not in str(error):
                raise

    def run(self, work: Callable[[Random, SyncRateLimiter], None], seed: int) -> None:
        """Repeat one step, and record what goes wrong."""
        rng, limiter = Random(seed), self.connect()  # noqa: S311 - no secret
        try:
            for _ in range(ROUNDS):
                work(rng, limiter)
        except BaseException as error:
            self.failures.append(error)


def test_changes_under_load_lose_and_double_nothing(atomic_engine: Engine, table_name: str, clock: FakeClock) -> None:
    """While time stands still, each bucket holds exactly the units that its leases kept, and no cycle arises."""
    create_table(table_name, endpoint_url=atomic_engine.endpoint_url)
    race = Race(atomic_engine.endpoint_url, table_name, clock)
    admin = race.connect()
    for entity in (*PARENTS, "key"):
        admin.create_entity(entity)
    works = (race.acquire, race.acquire, race.change, race.change)
    threads = [threading.Thread(target=race.run, args=(work, seed)) for seed, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert not race.failures
    used = {entity: 100_000 - admin.check(entity, limits=WIDE).statuses[0].available for entity in ("key", *PARENTS)}
    assert used == {entity: race.kept[entity] for entity in used}
    parents = {entity: getattr(admin.get_entity(entity), "parent_id", None) for entity in PARENTS}
    assert parents != {"left": "right", "right": "left"}
