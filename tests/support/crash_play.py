"""What processes do that may be killed at any moment: consume from shared buckets without a pause."""

from __future__ import annotations

from typing import ClassVar

from support import turns
from support.turns import Turn

from limiter import Limit

TIMEOUT = 60.0
MOST_UNITS = 5
"""The most units that one caller holds."""
QUOTA = Limit("units", 200, 1, 86_400.0)
ADVANCE = Limit("units", 1_000_000, 1, 3_000.0, allotment=0.2)
RATE = Limit("units", 5, 10, 1.0)
WAIT = 0.5


class Play(turns.Play):
    """The turns of one process."""

    repository_options: ClassVar = {"connect_timeout": TIMEOUT, "read_timeout": TIMEOUT}
    limiter_options: ClassVar = {"config_ttl": 600, "decision_timeout": TIMEOUT}

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.quota = 0

    def choose(self) -> Turn:
        """Choose the next turn."""
        entity, options = self.random.choices(
            [
                (f"quota-{self.quota}", {"limits": [QUOTA]}),
                ("advance", {"limits": [ADVANCE]}),
                ("rate", {"limits": [RATE], "timeout": WAIT}),
            ],
            weights=[3, 1, 1],
        )[0]
        first, pause = self.random.randint(1, 3), self.random.choice([0.0, 0.001, 0.01])
        if entity == "rate":
            # Nothing is refunded, because bookings would keep a part of it: allowed units come close to the limit.
            return Turn(entity, options, first, pause=pause)
        more, back = self.random.randint(0, 2), self.random.randint(0, first)
        return Turn(entity, options, first, more, back, pause=pause, fails=self.random.random() < 0.4)

    def refused(self, turn: Turn) -> None:
        """Go to the next quota when one is used up."""
        if turn.entity == f"quota-{self.quota}":
            self.quota += 1
