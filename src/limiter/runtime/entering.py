# seam
"""How an `acquire` responds to the other version's ways of entering it, in pairs.

These methods are hidden from type checkers, which find the mistake because the methods are missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NoReturn


class Entering:
    """Entered by `async with` only."""

    __slots__ = ()

    FORM: ClassVar[str] = "use it in an `async with` statement"

    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            raise TypeError(f"an acquire() of RateLimiter is asynchronous: {self.FORM}; for plain code there is SyncRateLimiter")

        def __exit__(self, *_: object) -> None: ...

        def __await__(self) -> NoReturn:
            raise TypeError(
                f"an acquire() yields its lease to a block: {self.FORM}; to consume units without one, await try_acquire()"
            )


class _AsyncForm(TypeError, AttributeError):
    """An `async with` on a sync acquire. Code that asks for the attribute finds none."""


class _NoAsyncForm:
    """Stands for `__aenter__`: an `async with` that looks it up gets an error with the remedy, `hasattr` gets False."""

    def __get__(self, acquisition: object, owner: type) -> NoReturn:
        raise _AsyncForm(
            f"an acquire() of SyncRateLimiter is synchronous: {SyncEntering.FORM}; for `async def` there is RateLimiter"
        )


class SyncEntering:
    """Entered by `with` only.

    Code that serves both versions asks for `__aenter__` first, and must not find it.
    """

    __slots__ = ()

    FORM: ClassVar[str] = "use it in a `with` statement"

    if not TYPE_CHECKING:
        __aenter__ = _NoAsyncForm()
        # Python 3.14 asks for it first. With anything but None the two would make it an AbstractAsyncContextManager.
        __aexit__ = None
