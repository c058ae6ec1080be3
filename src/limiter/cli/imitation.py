"""Says what the embedded engine imitates of AWS, so that its silence is not read as a result."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from .output import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .options import Target

_NOTES = {
    "deploy": "It creates the table, its index, policies and roles. It does not change a stack that exists, and it imitates "
    "neither time to live, backups, encryption, capacity nor alarms; it enforces no policy.",
    "plan": "For a new stack it lists every resource of the template, also those that the settings leave out. For a "
    "stack that exists it compares parameters only, neither resources nor tags.",
    "drift": "It does not detect drift, so nothing was compared.",
    "doctor": "It accepts all credentials, allows every action, throttles nothing and deletes no idle bucket; findings that "
    "depend on this are unknown.",
}
EMBEDDED_PROTECTION = "The embedded engine cannot change a stack that exists: restart it instead"
"""What the error about deletion protection adds, since a deploy does not end the protection on this engine."""


@contextmanager
def noted(command: str, target: Target) -> Iterator[None]:
    """Print the note about a command after the block when the embedded engine answered it, whether it succeeded or not."""
    try:
        yield
    finally:
        if target.embedded:
            say(f"Note: this is the embedded engine, not AWS. {_NOTES[command]}")
