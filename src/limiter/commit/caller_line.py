# twin: sync_caller_line.py
"""The callers of one process that wait in line for slots of one bucket."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from ..runtime.wakeup import Wakeup

if TYPE_CHECKING:
    from ..core.request import Grant, Request


class InLine(Wakeup):
    """A caller that waits in line for slots, until `expires` (monotonic seconds).

    `request` is its request, if it asks only for slots of one bucket: then another caller may hand it a `grant`. Otherwise it is
    woken to `look` when a slot was freed. It is `pending` until it leaves the line.
    """

    __slots__ = ("expires", "grant", "look", "pending", "request")

    def __init__(self, request: Request | None) -> None:
        super().__init__()
        self.request = request
        self.grant: Grant | None = None
        self.look = False
        self.pending = 1
        self.expires = 0.0


class Crowd(Protocol):
    """Counts the callers in all lines of a committer; see `SlotKeeper`."""

    waiting: int


class CallerLine:
    """The callers that wait in line for slots of one bucket. All methods but the length need the committer's lock.

    No caller looks for slots of other processes before `next_look`.
    """

    def __init__(self, crowd: Crowd) -> None:
        self.next_look = 0
        self._crowd = crowd
        self._callers: deque[InLine] = deque()

    def __len__(self) -> int:
        """Return how many callers wait."""
        return len(self._callers)

    @property
    def first(self) -> InLine | None:
        """The caller that has waited for longest, if any."""
        return self._callers[0] if self._callers else None

    def join(self, caller: InLine) -> None:
        """Put a caller at the end of the line."""
        self._callers.append(caller)
        self._crowd.waiting += 1

    def leave(self, caller: InLine) -> None:
        """Take a caller out of the line, and wake the first one that is left."""
        if caller in self._callers:
            self._take_out(caller)
        if self._callers:
            self._callers[0].set()

    def hand(self, caller: InLine, grant: Grant) -> None:
        """Hand a grant to a caller in line, which leaves."""
        caller.grant = grant
        self._take_out(caller)
        caller.set()

    def _take_out(self, caller: InLine) -> None:
        caller.pending = 0
        self._callers.remove(caller)
        self._crowd.waiting -= 1
