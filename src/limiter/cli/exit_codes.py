"""The exit codes of the command, in one place."""

from __future__ import annotations

OK = 0
FAILED = 1
USAGE = 2
REFUSED = 3
UNAVAILABLE = 4
CANNOT_EXECUTE = 126
NOT_FOUND = 127
INTERRUPTED = 130
TERMINATED = 143

MEANINGS = {
    OK: "done",
    FAILED: "failed; the message says why and what to do. Also: `doctor` found a failure, `drift` found a difference, "
    "`audit` found a broken promise, nothing is stored at the level of `limits get`, or the program that reads the output "
    "has gone",
    USAGE: "wrong usage: an unknown option, a value that cannot be used, a question that nobody is there to answer",
    REFUSED: "a limit refuses (`check`, `acquire`)",
    UNAVAILABLE: "AWS cannot be reached, throttles or does not answer; try again later",
    CANNOT_EXECUTE: "the command behind `acquire ... --` cannot be executed",
    NOT_FOUND: "the command behind `acquire ... --` is not there",
    INTERRUPTED: "interrupted by Ctrl-C",
    TERMINATED: "ended by SIGTERM while waiting for a turn (`acquire`)",
}


def exit_code(error: BaseException) -> int:
    """The exit code for an error that the limiter raises on purpose."""
    from ..exceptions import EntityExists, EntityNotFound, RateLimiterUnavailable, RateLimitExceeded, ValidationError

    if isinstance(error, EntityExists | EntityNotFound):  # They are not known before AWS is asked.
        return FAILED
    if isinstance(error, ValidationError):
        return USAGE
    if isinstance(error, RateLimitExceeded):
        return REFUSED
    return UNAVAILABLE if isinstance(error, RateLimiterUnavailable) else FAILED
