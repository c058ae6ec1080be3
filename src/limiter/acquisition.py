# twin: sync_acquisition.py
"""The context manager that `acquire` returns."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING
from warnings import warn_explicit

from .core.refund_policy import refunds
from .exceptions import LimiterError
from .runtime.entering import Entering

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import CodeType, TracebackType

    from .core.call import Call
    from .core.refund_policy import RefundOnError
    from .lease import Lease

_log = logging.getLogger("limiter")


@dataclass(slots=True, eq=False, repr=False)
class Acquisition(Entering):
    """Consumes units for the length of a block. It may be entered once, and consumes nothing before.

    `caller` is the code that called `acquire`, and the index of its instruction.
    """

    _enter: Callable[[Call], Awaitable[Lease]]
    _call: Call
    _refund_on_error: RefundOnError
    _caller: tuple[CodeType, int]
    _entered: bool = False
    _lease: Lease | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._call.key.entity_id!r}/{self._call.key.resource!r}>"

    async def __aenter__(self) -> Lease:
        if self._entered:
            raise LimiterError("an acquire() can be entered only once; call acquire() again")
        self._entered = True
        self._lease = await self._enter(self._call)
        return self._lease

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._lease is not None:
            await self._lease.close(refund=exc is not None and self._refunds(exc))

    def _refunds(self, error: BaseException) -> bool:
        """Tell whether the block's error refunds what was consumed; a function that raises keeps the charge."""
        try:
            return refunds(self._refund_on_error, error)
        except Exception:
            _log.exception("refund_on_error raised, so nothing is refunded", extra={"entity_id": self._call.key.entity_id})
            return False

    def __del__(self) -> None:
        # As Python does for a coroutine that was never awaited: nothing was limited, and nothing else would report it.
        if not self._entered:
            code, index = self._caller
            line = next((line for first, end, line in code.co_lines() if first <= index < end), None)
            message = f"an acquire() was never entered, and limits nothing: {self.FORM}"
            warn_explicit(message, RuntimeWarning, code.co_filename, line or code.co_firstlineno)
