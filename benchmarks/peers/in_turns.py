"""This library and bare clients in one process, some calls each in turn: what it adds to the CPU time of a call.

Two processes that run one after the other differ by more than what is to be told: the machine has changed its pace in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .bare import Aiobotocore, Boto3, TunedAiobotocore, TunedBoto3
from .ours import Limiter, ThreadedLimiter

if TYPE_CHECKING:
    from limiter import Statistics

    from ..plan import Job


class Aiobotocores:
    """The async limiter, and aiobotocore with its default settings and with this library's."""

    def __init__(self, job: Job, options: dict[str, Any]) -> None:
        self.limiter = Limiter(job, options)
        self.sides = {"limiter": self.limiter, "bare": Aiobotocore(job, {}), "tuned": TunedAiobotocore(job, {})}

    async def open(self) -> None:
        """Open all three."""
        for side in self.sides.values():
            await side.open()

    def statistics(self) -> Statistics:
        """Return what the limiter has counted."""
        return self.limiter.statistics()

    async def close(self) -> None:
        """Close all three."""
        for side in self.sides.values():
            await side.close()


class Boto3s:
    """The sync limiter, and boto3 with its default settings and with this library's."""

    def __init__(self, job: Job, options: dict[str, Any]) -> None:
        self.limiter = ThreadedLimiter(job, options)
        self.sides = {"limiter": self.limiter, "bare": Boto3(job, {}), "tuned": TunedBoto3(job, {})}

    def open(self) -> None:
        """Open all three."""
        for side in self.sides.values():
            side.open()

    def statistics(self) -> Statistics:
        """Return what the limiter has counted."""
        return self.limiter.statistics()

    def close(self) -> None:
        """Close all three."""
        for side in self.sides.values():
            side.close()
