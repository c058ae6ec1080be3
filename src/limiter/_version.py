"""The version, read by the build and by `limiter --version`."""

__version__ = "0.1.0"
