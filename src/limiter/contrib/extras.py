"""How an adapter deals with a library that is imported on first use, or is not installed."""

from __future__ import annotations

from typing import Any

from .. import ConfigurationError


def not_installed(library: str, extra: str, error: ImportError) -> ConfigurationError:
    """The error for a library that is not installed, which names the extra that installs it."""
    return ConfigurationError(f'{library} is not installed ({error}); run: pip install "dynamodb-limiter[{extra}]"')


def derive(place: dict[str, Any], name: str, mixin: type, base: type) -> type:
    """Return the class `name` of a module, made of `mixin` and a `base` that was not importable before; always the same."""
    attributes = {"__module__": place["__name__"], "__doc__": mixin.__doc__, "__qualname__": name}
    made: type = place.setdefault(name, type(name, (mixin, base), attributes))
    return made
