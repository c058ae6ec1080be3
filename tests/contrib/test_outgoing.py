"""What responses say about a server's limits."""

from __future__ import annotations

import pytest

from limiter import Limit, LimitStatus
from limiter.contrib.outgoing import ANTHROPIC, LONGEST_PAUSE, OPENAI, Outgoing, retry_after

NOW = 1_800_000_000.0


def status(name: str, available: int) -> LimitStatus:
    """A status that is not exceeded."""
    limit = Limit.per_minute(name, 1000)
    return LimitStatus("user", "api", limit, 1, available, exceeded=False, retry_after=0.0, reset_after=1.0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("30", 30.0),
        (" 1.5 ", 1.5),
        ("Fri, 15 Jan 2027 08:00:20 GMT", 20.0),
        ("Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("٣", None),
        ("1.2.3", None),
        ("", None),
    ],
)
def test_retry_after_is_read_from_numbers_and_dates(text: str | None, seconds: float | None) -> None:
    """A past date is 0 seconds; a value that is neither a number nor a date is None."""
    assert retry_after(text, NOW) == seconds


@pytest.mark.parametrize(
    ("code", "headers", "seconds"),
    [
        (429, {"retry-after": "30"}, 30.0),
        (429, {"retry-after": "9999999"}, LONGEST_PAUSE),
        (429, {"retry-after": "0"}, None),
        (429, {}, None),
        (503, {"retry-after": "30"}, None),
        (200, {"retry-after": "30"}, None),
    ],
)
def test_only_a_429_with_retry_after_pauses(code: int, headers: dict[str, str], seconds: float | None) -> None:
    """The pause is bounded, so that no server can stop a program for ever."""
    assert Outgoing("user").pause(code, headers) == seconds
    assert Outgoing("user", feedback=False).pause(code, headers) is None


def test_headers_only_ever_lower_what_is_left() -> None:
    """The excess is what the bucket has beyond the server's number; it is never negative, and unreadable values are ignored."""
    headers = {
        "x-ratelimit-remaining-requests": "10",
        "x-ratelimit-remaining-tokens": "900",
        "anthropic-ratelimit-input-tokens-remaining": "many",
    }
    outgoing = Outgoing("user", remaining=OPENAI | {"input_tokens": ANTHROPIC["input_tokens"]})
    statuses = [status("requests", 15), status("requests", 12), status("tokens", 100), status("input_tokens", 50), status("x", 5)]
    assert outgoing.excess(statuses, headers) == {"requests": 5}
    assert Outgoing("user").excess(statuses, headers) == {}


def test_terms_are_values_or_callables_of_the_request() -> None:
    """An entity of None exempts the request."""
    outgoing = Outgoing(lambda request: request.get("user"), lambda request: request["model"], lambda request: {"requests": 2})
    assert outgoing.target({"user": "ann", "model": "small"}) == ("ann", "small", {"requests": 2})
    assert outgoing.target({"model": "small"}) is None
    assert Outgoing("ann").target({}) == ("ann", "default", None)
