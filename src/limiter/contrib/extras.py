"""What an adapter says where the library that it adapts to is not installed."""

from __future__ import annotations

from .. import ConfigurationError


def not_installed(library: str, extra: str, error: ImportError) -> ConfigurationError:
    """The error for a library that is not installed, which names the extra that installs it."""
    return ConfigurationError(f'{library} is not installed ({error}); run: pip install "dynamodb-limiter[{extra}]"')
