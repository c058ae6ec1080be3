"""The model of `simulation`, with a part of the processes in a Region far away from the table.

`python -m benchmarks.regions` prints the table of docs/regions.md. Every trip between a process far away and the partition takes
40 ms longer, so a call takes 80 ms longer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .simulation import Fleet, Model, Policy, Process

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FAR = 0.080
"""Seconds by which a call from far away takes longer."""
TRIPS = {"_look": 1.0, "_reach": 0.5, "_answer": 0.5, "_throttled": 0.5}
"""The events that a process far away waits longer for, by the part of a call."""
POLICIES = (Policy("none", paced=True), Policy("1 s", paced=True, allotted=True))
PROCESSES, SECONDS = 20, 20.0
FLEETS = tuple(
    Fleet(f"{asked:,}/s", 2_000.0, in_all=asked, window=10.0, empty=True, allotment=1.0) for asked in (1_000, 1_800, 4_000)
)


@dataclass(slots=True)
class Side:
    """What the processes of one Region were given, and what they waited, in seconds."""

    admitted: int = 0
    latencies: list[float] = field(default_factory=list)

    def quantile(self, part: float) -> float:
        """Return the milliseconds within which this part of the decisions was made."""
        ordered = sorted(self.latencies)
        return 1e3 * ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


class Regions(Model):
    """A run in which every second process is far away."""

    def __init__(self, fleet: Fleet, policy: Policy, processes: int, warm_up: float, seconds: float) -> None:
        super().__init__(fleet, policy, processes, warm_up, seconds)
        self.home, self.far = Side(), Side()
        self._away = {id(each) for each in self._processes[1::2]}
        self._side = self.home

    def _after(self, delay: float, happen: Callable[..., None], *arguments: Any) -> None:
        process: Process = arguments[0]
        is_away = id(process) in self._away
        delay += FAR * TRIPS.get(happen.__name__, 0.0) * is_away
        super()._after(delay, self._happen, happen, self.far if is_away else self.home, arguments)

    def _happen(self, happen: Callable[..., None], side: Side, arguments: Sequence[Any]) -> None:
        self._side = side
        happen(*arguments)

    def _decide(self, name: str, arrivals: Sequence[float]) -> None:
        super()._decide(name, arrivals)
        if self._now >= self._warm_up:
            self._side.admitted += len(arrivals) * (name == "admitted")
            self._side.latencies.extend(self._now - arrival for arrival in arrivals)


def lines(processes: int = PROCESSES, seconds: float = SECONDS) -> list[str]:
    """Return the rows of the page's table, one for each fleet and policy."""
    found = []
    for fleet in FLEETS:
        for policy in POLICIES:
            model = Regions(fleet, policy, processes, seconds, seconds)
            tally, home, far = model.run(), model.home, model.far
            cells = [
                fleet.name,
                policy.name,
                *(f"{side.admitted / seconds:,.0f}" for side in (home, far)),
                *(f"{side.quantile(part):.0f}" for side in (home, far) for part in (0.5, 0.99)),
                f"{tally.writes / seconds:,.0f}",
                f"{tally.excess:.0f}",
            ]
            found.append(f"| {' | '.join(cells)} |")
    return found


if __name__ == "__main__":
    print("\n".join(lines()))
