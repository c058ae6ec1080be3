"""The exit codes of the command."""

from __future__ import annotations

OK = 0
FAILED = 1
USAGE = 2
REFUSED = 3
UNAVAILABLE = 4
CHANGES = 5
CANNOT_EXECUTE = 126
NOT_FOUND = 127
INTERRUPTED = 130
TERMINATED = 143

MEANINGS = {
    OK: "done; `plan` and `limits plan`: nothing would change",
    FAILED: "failed; the message says why and what to do. Also: `doctor` found a failure, `drift` found a difference, "
    "`audit` found a broken promise, nothing is stored at the level of `limits get` or `limits schedule`, `adjust`, `reset` or "
    "`pause` met a level under which nothing is counted, `unblock` met one that is not blocked, or the reader of the output "
    "closed the pipe",
    USAGE: "wrong usage: an unknown option, an invalid value, or a confirmation needed outside a terminal",
    REFUSED: "refused by a limit (`check`, `acquire`)",
    UNAVAILABLE: "AWS cannot be reached, throttles or does not respond; try again later",
    CHANGES: "`plan` and `limits plan`: there are changes to make",
    CANNOT_EXECUTE: "the command after `acquire ... --` cannot be executed",
    NOT_FOUND: "the command after `acquire ... --` was not found",
    INTERRUPTED: "interrupted by Ctrl-C; `top` and `local` exit with 0 instead",
    TERMINATED: "ended by SIGTERM while waiting (`acquire`)",
}


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error that the limiter raises on purpose."""
    from ..exceptions import EntityExists, EntityNotFound, RateLimiterUnavailable, RateLimitExceeded, ValidationError

    if isinstance(error, EntityExists | EntityNotFound):  # Known only after a call to AWS.
        return FAILED
    if isinstance(error, ValidationError):
        return USAGE
    if isinstance(error, RateLimitExceeded):
        return REFUSED
    return UNAVAILABLE if isinstance(error, RateLimiterUnavailable) else FAILED
