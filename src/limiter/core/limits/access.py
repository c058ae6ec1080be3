"""UNLIMITED and BLOCKED, which replace a list of limits."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Access(Enum):
    """A level without limits that allows everything, or nothing.

    The members are singletons: they are compared by identity and keep it through pickling and copying.
    """

    UNLIMITED = "unlimited"
    BLOCKED = "blocked"

    def __repr__(self) -> str:
        return self.name

    def __str__(self) -> str:
        """Return the text that `parse` reads back as the same constant."""
        return str(self.value)


UNLIMITED: Final = Access.UNLIMITED
BLOCKED: Final = Access.BLOCKED
