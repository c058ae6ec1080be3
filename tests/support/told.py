"""What a limiter tells of losses: how often, and how many units of which entities."""

from __future__ import annotations

import logging
from collections import Counter


class Told(logging.Handler):
    """The losses that the limiters of this process tell of."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.units: Counter[str] = Counter()
        self.losses = 0
        log = logging.getLogger("limiter.committer")
        log.addHandler(self)
        log.setLevel(logging.DEBUG)
        log.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Count one loss."""
        if "was not written" in record.msg:
            self.losses += 1
            self.units[record.__dict__["entity_id"]] += sum(record.__dict__["units"].values())
