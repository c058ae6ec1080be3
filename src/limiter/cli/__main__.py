"""`python -m limiter.cli` is the `limiter` command."""

from __future__ import annotations

from . import main

if __name__ == "__main__":
    main()
