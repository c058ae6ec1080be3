# seam
"""What an `acquire` answers to the other side's ways of entering it, in pairs.

Type checkers are not told of these methods: they find the mistake because there are none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NoReturn


class Entering:
    """Entered by `async with`, and by nothing else."""

    __slots__ = ()

    FORM: ClassVar[str] = "use it in an `async with` statement"

    if not TYPE_CHECKING:

        def __enter__(self) -> NoReturn:
            raise TypeError(f"an acquire() of RateLimiter is asynchronous: {self.FORM}; for plain code there is SyncRateLimiter")

        def __exit__(self, *_: object) -> None: ...

        def __await__(self) -> NoReturn:
            raise TypeError(f"an acquire() gives its lease to a block: {self.FORM}; to take units for good, await try_acquire()")


class SyncEntering:
    """Entered by `with`, and by nothing else.

    Nothing answers an `async with`, which Python refuses by itself: whatever serves both kinds asks for `__aenter__` first.
    """

    __slots__ = ()

    FORM: ClassVar[str] = "use it in a `with` statement"
