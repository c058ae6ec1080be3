"""No limiter: what a program does without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..plan import Job


class Unlimited:
    """Allows everything."""

    def __init__(self, job: Job, options: dict[str, Any]) -> None:
        self.job = job

    def open(self) -> None:
        """Do nothing."""

    def acquire(self, key: str, timeout: float | None = None) -> bool:
        """Return True."""
        return True

    def close(self) -> None:
        """Do nothing."""
