"""What adapters check: that a library is installed, which they import on first use, and that a limiter is of the right kind."""

from __future__ import annotations

import inspect
from typing import Any

from .. import ConfigurationError, ValidationError


def not_installed(library: str, extra: str, error: ImportError) -> ConfigurationError:
    """Return the error for a library that is not installed, which names the extra that installs it."""
    return ConfigurationError(f'{library} is not installed ({error}); run: pip install "dynamodb-limiter[{extra}]"')


def derive(place: dict[str, Any], name: str, mixin: type, base: type) -> type:
    """Return the class `name` of a module, made of `mixin` and a `base` that was not importable before; always the same."""
    attributes = {"__module__": place["__name__"], "__doc__": mixin.__doc__, "__qualname__": name}
    made: type = place.setdefault(name, type(name, (mixin, base), attributes))
    return made


def check_sync_limiter(limiter: object, owner: object) -> None:
    """Raise `ValidationError` for an asynchronous limiter, and for what is no limiter, such as an application."""
    if not _is_limiter(limiter) or inspect.iscoroutinefunction(getattr(limiter, "try_acquire", None)):
        raise ValidationError(f"{type(owner).__name__} takes a SyncRateLimiter, not {limiter!r}")


def check_async_limiter(limiter: object, owner: object) -> None:
    """Raise `ValidationError` for a synchronous limiter, and for what is no limiter, such as an application."""
    decide = getattr(limiter, "try_acquire", None)
    if not _is_limiter(limiter) or (decide is not None and not inspect.iscoroutinefunction(decide)):
        raise ValidationError(f"{type(owner).__name__} takes a RateLimiter, not {limiter!r}")


def _is_limiter(limiter: object) -> bool:
    """Tell whether something can be asked for a lease; a double of a test can do with `acquire` alone."""
    return hasattr(limiter, "acquire") and not isinstance(limiter, type)
