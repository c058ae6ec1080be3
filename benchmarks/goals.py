"""The goals and what was reached, measured in this run on its first engine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .start_up import BEFORE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .session import Results
    from .start_up import StartUp


NOISE = 1.1
"""By how much a figure that should be no worse may be so: separate processes differ by some percent."""
GAINS = (
    ("distinct-50", "limiter-gevent", 2.5, "distinct keys, 50 callers"),
    ("hot-500", "limiter-threads", 2.0, "hot key, 500 callers"),
    ("hot-50", "limiter", 1 / NOISE, "hot key, 50 callers"),
    ("hot-50", "limiter-threads", 1 / NOISE, "hot key, 50 callers"),
    ("hot-50", "limiter-gevent", 1 / NOISE, "hot key, 50 callers"),
    ("hot-500", "limiter", 1 / NOISE, "hot key, 500 callers"),
    ("hot-500", "limiter-gevent", 1 / NOISE, "hot key, 500 callers"),
)
"""Scenario, peer, the goal for its rate over that of an earlier version, and the situation in words."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the table; `measured` is None if nothing was."""

    about: str
    bound: float
    at_most: bool
    measured: float | None
    unit: str = ""
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether it was reached; None if it was not measured."""
        if self.measured is None:
            return None
        return self.measured <= self.bound if self.at_most else self.measured >= self.bound

    def as_dict(self) -> dict[str, Any]:
        """Return the goal in JSON's types."""
        return {**asdict(self), "reached": self.reached}


def judge(results: Results, engine: str, start_ups: Sequence[StartUp]) -> list[Goal]:
    """Judge every goal."""
    of_results = (_throughput, _economy, _web, _before)
    return [*(goal for judged in of_results for goal in judged(results, engine)), *_start_up(start_ups)]


def _throughput(results: Results, engine: str) -> Iterator[Goal]:
    for callers, factor in ((50, 25.0), (500, 100.0)):
        hot = f"hot-{callers}"
        ratio = results.ratio(engine, hot, "limiter", "zae-limiter", "per_second")
        yield Goal(f"hot key, {callers} concurrent, over zae-limiter", factor, False, ratio, "×", "asyncio, both")
    calls = results.median(engine, "hot-50", "limiter", "calls_per_decision")
    yield Goal("hot key, 50 concurrent, calls per acquire", 0.06, True, calls)
    rate = results.median(engine, "hot-500", "limiter", "per_second")
    yield Goal("hot key, 500 concurrent, acquires per second", 20_000.0, False, rate, "/s", "the engine shares the machine")


def _economy(results: Results, engine: str) -> Iterator[Goal]:
    for client in ("aiobotocore", "boto3"):
        ratio = results.median(engine, "overhead", f"limiter-and-{client}", "cpu_over_bare")
        yield Goal(f"single warm caller, CPU over bare {client}", 0.3, True, ratio, "×", "in turns, in one process; http")
        ratio = results.median(engine, "overhead-https", f"limiter-and-{client}", "cpu_over_bare")
        yield Goal(f"single warm caller, CPU over bare {client}", 0.3, True, ratio, "×", "in turns, in one process; https")
    yield from _cold(results, engine, "cold", "http")
    units = results.median(engine, "cold", "limiter", "read_units_per_decision")
    yield Goal("cold key, read units", 1.5, True, units)
    yield from _cold(results, engine, "cold-https", "https")
    ratio = results.ratio(engine, "single", "limiter", "limits", "cpu_us")
    yield Goal("single warm caller, CPU over limits on Redis", 2.5, True, ratio, "×", "asyncio, both; http")
    memory = results.median(engine, "memory", "limiter-replayed", "mib_per_100k_keys")
    yield Goal("memory, per 100,000 keys", 60.0, True, memory, " MiB")
    for rate, demand, note in ((1_000, 20_000, ""), (25, 500, "a write for each admission is 0.05")):
        calls = results.median(engine, f"over-demand-{rate}", "limiter", "calls_per_decision")
        yield Goal(f"20 × over-demand ({rate:,}/s of {demand:,}/s), calls per decision", 0.02, True, calls, note=note)
    for peer in ("limiter", "limiter-gevent", "limiter-threads"):
        calls = results.median(engine, "waiters", peer, "writes_per_run")
        yield Goal(f"1,000 waiters on one key, writes ({peer})", 20.0, True, calls)
        order = results.median(engine, "waiters", peer, "out_of_order")
        yield Goal(f"1,000 waiters on one key, out of order ({peer})", 0.0, True, order)
    for runtime in ("", "-threads", "-gevent"):
        both = results.median(engine, "two-keys", f"limiter{runtime}-two-keys", "per_second")
        alone = results.median(engine, "cascade", f"limiter{runtime}", "per_second")
        share = 2 * alone / both if both and alone else None
        yield Goal(f"cascade over two independent keys (limiter{runtime})", 0.8, False, share, "×", "bucket decisions per second")


def _cold(results: Results, engine: str, scenario: str, scheme: str) -> Iterator[Goal]:
    for peer, client in (("limiter", "aiobotocore"), ("limiter-threads", "boto3")):
        for suffix, bound, about in (("", 0.55, ""), ("-unstored", 0.4, ", stored=False")):
            ratio = results.ratio(engine, scenario, f"{peer}{suffix}", client, "cpu_us")
            yield Goal(f"cold key{about}, CPU over bare {client}", bound, True, ratio, "×", f"50 callers; {scheme}")


def _web(results: Results, engine: str) -> Iterator[Goal]:
    for scenario, share, about in (("web-addresses", 0.25, "2,000 addresses"), ("web-one-address", 0.5, "one address")):
        ratio = results.ratio(engine, scenario, "limiter-gevent", "unlimited", "per_second")
        yield Goal(f"web worker, {about}, over the unlimited application", share, False, ratio, "×", "requests per second")


def _before(results: Results, engine: str) -> Iterator[Goal]:
    for scenario, peer, bound, about in GAINS:
        ratio = results.ratio(engine, scenario, peer, f"{peer}-before", "per_second")
        yield Goal(f"{about} ({peer}), over the earlier version", bound, False, ratio, "×", "decisions per second")
    for peer in ("limiter", "limiter-threads"):
        ratio = results.ratio(engine, "single", peer, f"{peer}-before", "first_ms")
        yield Goal(f"first call ({peer}), over the earlier version", NOISE, True, ratio, "×", "a new process; time")


def _start_up(start_ups: Sequence[StartUp]) -> Iterator[Goal]:
    found = {each.statement: each.as_dict()["over_empty_ms"]["median"] for each in start_ups}
    now, before = found.get("import limiter"), found.get(BEFORE)
    yield Goal("`import limiter` over an empty interpreter", 60.0, True, now, " ms")
    ratio = now / before if now and before else None
    yield Goal("`import limiter`, over the earlier version", NOISE, True, ratio, "×", "time over an empty interpreter")
