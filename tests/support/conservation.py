"""What a bucket must hold of a limit that never fills and never refills, by what its users wrote down.

Each process writes a file of JSON lines: one before each act and one after it, so that an act that was cut off has a known
interval of effect. Nothing here knows the limiter. The lines:

    {"lease": 7, "act": "acquire", "buckets": ["child", "parent"], "units": 3}     begins
    {"lease": 7, "act": "adjust", "units": -2}                                     begins; also of consume and release
    {"lease": 7, "act": "leave", "fails": true}                                    begins; with a failure all is given back
    {"lease": 7, "end": "done" | "refused" | "unsent" | "unknown" | "interrupted"} ends the act that began last
    {"lost": "child", "units": 2}                                                  the limiter has told of a loss
    {"over": 1}                                                 the process has ended in good order, and has counted one loss

An interrupted lease holds nothing in the end: it gives back what it has taken, or a loss is told.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

IN_ADVANCE = "advance"
"""Begins the names of buckets of which units are taken in advance: with a process that is killed, the unspent ones are lost."""


@dataclass(slots=True)
class Bounds:
    """How many units a bucket must hold at least and at most; each loss that was `told` is held on top, wholly or not at all.

    It is not held if the write whose answer was lost arrived after all.
    """

    least: int = 0
    most: int = 0
    told: list[int] = field(default_factory=list)

    def add(self, least: int, most: int) -> None:
        """Enter one lease's part."""
        self.least, self.most = self.least + least, self.most + most

    def allows(self, units: int) -> bool:
        """Whether a bucket may hold so many units."""
        on_top = {0}
        for loss in self.told:
            on_top |= {each + loss for each in on_top}
        return any(self.least <= units - each <= self.most for each in on_top)

    @property
    def exact(self) -> bool:
        """Whether one number of units is right, and no other."""
        return self.least == self.most and not self.told


@dataclass(slots=True)
class LeaseRecord:
    """What is known of one lease: it holds `held`, and from `low` to `high` units beyond that; `pending` is under way."""

    buckets: list[str]
    began: int
    held: int = 0
    low: int = 0
    high: int = 0
    pending: dict[str, Any] | None = None
    interrupted: int | None = None
    peak: int = 0

    def begin(self, act: dict[str, Any]) -> None:
        """An act is about to be done."""
        self.pending = act

    def finish(self, how: str, line: int) -> None:
        """The act that began last has ended."""
        act, self.pending = self.pending or {}, None
        units = self._effect(act)
        self.peak = max(self.peak, self.held, self.held + units)
        if how == "done":
            self.held += units
        elif how == "unknown":
            # A debit that was sent again may count twice.
            self.low, self.high = self.low + min(0, units), self.high + max(0, 2 * units)
        elif how == "interrupted":
            self.interrupted = line
            if act.get("act") == "leave" and not act["fails"]:
                self.high += self.held  # Its block had ended well.
        elif how == "unsent" and units < 0:
            self.high += 0 if act["act"] == "leave" else -units

    def _effect(self, act: Mapping[str, Any]) -> int:
        if act.get("act") == "leave":
            return -self.held if act["fails"] else 0
        units: int = act.get("units", 0)
        return units

    def close(self, *, killed: bool, settled: int) -> tuple[int, int]:
        """The least and the most that the lease may hold in the end.

        What an interrupted lease gives back waits in line; the process has made it for sure if it took something later, up to
        the line `settled`, or has ended in good order.
        """
        if self.interrupted is not None:
            sure = not killed or self.interrupted < settled
            return min(0, self.low), self.high + (0 if sure else max(self.peak, self.held))
        if self.pending is not None:
            units = self._effect(self.pending)
            return self.held + self.low + min(0, units), self.held + self.high + max(0, units)
        return self.held + self.low, self.held + self.high


@dataclass(slots=True)
class Ledger:
    """The bounds of all buckets, and how many leases ended in which way."""

    bounds: dict[str, Bounds] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)
    uncounted: int = 0
    """Losses that were counted and not told, less those that were told and not counted."""
    killed: int = 0
    """Processes that have not ended in good order."""

    def bucket(self, name: str) -> Bounds:
        """The bounds of one bucket."""
        return self.bounds.setdefault(name, Bounds())

    def read(self, path: Path) -> None:
        """Enter what one process has written down; its last line may be torn."""
        leases: dict[int, LeaseRecord] = {}
        settled: dict[str, int] = {}
        over, told = False, 0
        for number, line in enumerate(lines(path)):
            if "lost" in line:
                told += 1
                self.bucket(line["lost"]).told.append(line["units"])
            elif "over" in line:
                over = True
                self.uncounted += line["over"] - told
            elif line.get("act") == "acquire":
                leases[line["lease"]] = LeaseRecord(line["buckets"], number)
                leases[line["lease"]].begin(line)
            elif "act" in line:
                leases[line["lease"]].begin(line)
            else:
                lease = leases[line["lease"]]
                act = (lease.pending or {}).get("act")
                lease.finish(line["end"], number)
                self.ends[f"{act} {line['end']}"] += 1
                if act == "acquire" and line["end"] == "done":
                    settled.update(dict.fromkeys(lease.buckets, lease.began))
        self.killed += not over
        for lease in leases.values():
            for name in lease.buckets:
                self.bucket(name).add(*lease.close(killed=not over, settled=settled.get(name, -1)))


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file."""
    for text in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if text.endswith("\n"):
            yield json.loads(text)


def faults(ledger: Ledger, held: Mapping[str, int]) -> Iterable[str]:
    """What is wrong with the units that the buckets hold, and with the losses that were told."""
    if ledger.uncounted:
        yield f"{ledger.uncounted} losses were counted and not told"
    for name in sorted({*ledger.bounds, *held}):
        bounds, units = ledger.bucket(name), held.get(name, 0)
        loses_blocks = ledger.killed and name.startswith(IN_ADVANCE)
        if not (bounds.least <= units if loses_blocks else bounds.allows(units)):
            yield f"{name} holds {units} units, must hold {bounds.least} to {bounds.most}; told as lost: {bounds.told}"
