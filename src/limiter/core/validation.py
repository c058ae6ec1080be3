"""Checks at the door: every name and number from outside passes here before anything else happens."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..exceptions import ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_NAME_LENGTH = 255
MAX_AMOUNT = 10**12
_TABLE_NAME = re.compile("[a-zA-Z0-9_.-]{3,255}")
_SURROGATES = re.compile("[\ud800-\udfff]")
_BAD_CHARACTERS = re.compile("[#\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_name(what: str, value: object) -> str:
    """Return `value` when it is a usable id: 1 to 255 characters, no control character, no `#`, encodable as UTF-8."""
    if not isinstance(value, str):
        remedy = f"; convert it, as in str({shown(value)})" if _is_number_or_uuid(value) else ""
        raise ValidationError(f"{what} must be a string, not {shown(value)}{remedy}")
    if not 1 <= len(value) <= MAX_NAME_LENGTH:
        raise ValidationError(f"{what} must have 1 to {MAX_NAME_LENGTH} characters, not {len(value)}: {shown(value)}")
    if (bad := _BAD_CHARACTERS.search(value)) is not None:
        if bad[0] == "#":
            raise ValidationError(f"{what} must not hold '#', which separates the parts of a key: {shown(value)}")
        raise ValidationError(f"{what} must not hold control characters or lone surrogates: {shown(value)}")
    return value


def _is_number_or_uuid(value: object) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or type(value).__name__ == "UUID"


def check_table_name(value: object) -> str:
    """Return `value` when DynamoDB takes it as a table's name: 3 to 255 letters, digits and `_`, `.`, `-`."""
    if not isinstance(value, str) or not _TABLE_NAME.fullmatch(value):
        raise ValidationError(f"a table name has 3 to 255 letters, digits, '_', '.' or '-', unlike {shown(value)}")
    return value


def check_endpoint(value: object) -> str | None:
    """Return `value` when it is None or an address that begins with http:// or https://."""
    if value is not None and not (isinstance(value, str) and value.startswith(("http://", "https://"))):
        raise ValidationError(f"endpoint_url must begin with http:// or https://, unlike {shown(value)}")
    if value is not None and "@" in value.partition("//")[2].partition("/")[0]:
        # Not shown: it would be in logs, as it would be in every error of botocore.
        raise ValidationError("endpoint_url must not hold a user name or password; DynamoDB takes neither")
    return value


def check_optional_name(what: str, value: object) -> str | None:
    """Return `value` when it is None or a usable id."""
    return None if value is None else check_name(what, value)


def check_metadata(value: object) -> dict[str, str]:
    """Return `value`, a mapping of strings that can be encoded as UTF-8 to such strings, or None, as a dict."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(each, str) for pair in value.items() for each in pair):
        raise ValidationError(f"metadata must map strings to strings, not {shown(value)}")
    if any(_SURROGATES.search(each) for pair in value.items() for each in pair):
        raise ValidationError(f"metadata must not hold lone surrogates: {shown(value)}")
    return dict(value)


def check_integer(what: str, value: object, *, minimum: int, maximum: int = MAX_AMOUNT) -> int:
    """Return `value` when it is an integer, not a bool, between the bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValidationError(f"{what} must be an integer, not {shown(value)}")
    if not minimum <= value <= maximum:
        raise ValidationError(f"{what} must be between {minimum} and {maximum}, not {shown(value)}")
    return value


def check_timeout(value: object) -> int:
    """Return the nanoseconds of a timeout given in seconds; None counts as 0."""
    return 0 if value is None else check_seconds("timeout", value, but="None or ")


def check_seconds(what: str, value: object, *, but: str = "") -> int:
    """Return the nanoseconds of a time span given in seconds; `but` names what the caller takes besides."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 366 * 86_400:
        raise ValidationError(f"{what} must be {but}a number of seconds from 0 to one year, not {shown(value)}")
    return round(value * 1_000_000_000)


def check_clock(clock: object) -> Callable[[], int]:
    """Return `clock` when a reading of it is an integer; a float would make the buckets unreadable for everybody."""
    if not callable(clock):
        raise ValidationError(f"clock must be callable, such as time.time_ns, not {shown(clock)}")
    reading = clock()
    if isinstance(reading, bool) or not isinstance(reading, int):
        raise ValidationError(
            f"clock must return integer nanoseconds since the epoch, such as time.time_ns, not {shown(reading)}"
        )
    return clock


def check_callable(what: str, value: object) -> None:
    """Raise `ValidationError` unless `value` is None or callable."""
    if value is not None and not callable(value):
        raise ValidationError(f"{what} must be None or callable, not {shown(value)}")


def check_hook(what: str, value: object) -> None:
    """Raise `ValidationError` unless `value` is None or callable, and no coroutine function, which nobody would await."""
    check_callable(what, value)
    if inspect.iscoroutinefunction(value):
        raise ValidationError(f"{what} must be a plain function, not {shown(value)}, which is `async def` and never awaited")


def check_flag(what: str, value: object) -> bool:
    """Return `value` when it is True or False."""
    if not isinstance(value, bool):
        raise ValidationError(f"{what} must be True or False, not {shown(value)}")
    return value


def check_region(value: object) -> str | None:
    """Return `value` when it is None or a string."""
    if value is not None and not isinstance(value, str):
        raise ValidationError(f"region must be None or a string such as 'eu-west-1', not {shown(value)}")
    return value


def check_share(what: str, value: object) -> float:
    """Return `value` when it is a number above 0 and at most 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValidationError(f"{what} must be a number above 0 and at most 1, not {shown(value)}")
    return float(value)


def shown(value: object) -> str:
    """A value as a message can show it: its repr, cut where it is long; its type where that fails, as the caller's code may."""
    try:
        text = repr(value)
    except Exception:  # Python itself refuses to print integers of more than 4,300 digits, and lists nested very deep.
        kind = type(value).__name__
        return f"an integer of {value.bit_length()} bits" if isinstance(value, int) else f"a {kind} that cannot be shown"
    return text if len(text) <= 80 else f"{text[:60]}… ({len(value if isinstance(value, str) else text)} characters)"
