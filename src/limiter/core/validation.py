"""Checks of all names and numbers from outside, before anything else happens."""

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
MAX_METADATA = 384 * 1024
"""Bytes of an entity's metadata, in UTF-8. An item of DynamoDB holds 400 KB; the longest ids of a chain take 12 of them."""
METADATA_OVERHEAD = 2
"""Bytes that DynamoDB adds to each key and each value of a map, at most."""
_TABLE_NAME = re.compile("[a-zA-Z0-9_.-]{3,255}")
_TABLE_ARN = re.compile("arn:aws[a-z-]*:dynamodb:(?P<region>[a-z0-9-]+):[0-9]{12}:table/[a-zA-Z0-9_.-]{3,255}")
_SURROGATES = re.compile("[\ud800-\udfff]")
_BAD_CHARACTERS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_name(what: str, value: object) -> str:
    """Return `value` if it is a usable id: 1 to 255 characters, no control character, encodable as UTF-8."""
    if type(value) is str and value.isascii() and value.isprintable() and 1 <= len(value) <= MAX_NAME_LENGTH:
        return value  # Most ids take this path.
    if not isinstance(value, str):
        remedy = f"; convert it, as in str({shown(value)})" if _is_number_or_uuid(value) else ""
        raise ValidationError(f"{what} must be a string, not {shown(value)}{remedy}")
    if not 1 <= len(value) <= MAX_NAME_LENGTH:
        raise ValidationError(f"{what} must have 1 to {MAX_NAME_LENGTH} characters, not {len(value)}: {shown(value)}")
    if _BAD_CHARACTERS.search(value):
        raise ValidationError(f"{what} must not hold control characters or lone surrogates: {shown(value)}")
    return value


def _is_number_or_uuid(value: object) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or type(value).__name__ == "UUID"


def check_table_name(value: object) -> str:
    """Return `value` if DynamoDB accepts it as a table's name: 3 to 255 letters, digits and `_`, `.`, `-`."""
    if not isinstance(value, str) or not _TABLE_NAME.fullmatch(value):
        raise ValidationError(f"invalid table name {shown(value)}: use 3-255 letters, digits, '_', '.' or '-'")
    return value


def check_table(value: object) -> str:
    """Return `value` if it is a table's name or its ARN, such as that of a table in another account."""
    if isinstance(value, str) and value.startswith("arn:"):
        if not _TABLE_ARN.fullmatch(value):
            example = "arn:aws:dynamodb:eu-west-1:123456789012:table/my-app"
            raise ValidationError(f"the ARN of a table looks like {example}, unlike {shown(value)}")
        return value
    return check_table_name(value)


def check_table_region(table: str, region: str | None) -> str | None:
    """Return the region of a table's ARN, or `region` for a table's name; raises `ValidationError` if the two differ."""
    found = _TABLE_ARN.fullmatch(table)
    if found is None:
        return region
    if region not in (None, found["region"]):
        raise ValidationError(f"region is {shown(region)}, but the table is in {found['region']!r}; leave region out for an ARN")
    return found["region"]


def check_endpoint(value: object) -> str | None:
    """Return `value` if it is None or an address that begins with http:// or https://."""
    if value is not None and not (isinstance(value, str) and value.startswith(("http://", "https://"))):
        raise ValidationError(f"endpoint_url must begin with http:// or https://, not {shown(value)}")
    if value is not None and "@" in value.partition("//")[2].partition("/")[0]:
        # Not shown, because it would be in logs, and in every error of botocore.
        raise ValidationError("endpoint_url must not hold a user name or password; DynamoDB takes neither")
    return value


def check_optional_name(what: str, value: object) -> str | None:
    """Return `value` if it is None or a usable id."""
    return None if value is None else check_name(what, value)


def check_metadata(value: object) -> dict[str, str]:
    """Return `value`, a mapping of strings that can be encoded as UTF-8 to such strings, or None, as a dict."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(each, str) for pair in value.items() for each in pair):
        raise ValidationError(f"metadata must map strings to strings, not {shown(value)}")
    if any(_SURROGATES.search(each) for pair in value.items() for each in pair):
        raise ValidationError(f"metadata must not hold lone surrogates: {shown(value)}")
    size = sum(len(each.encode()) + METADATA_OVERHEAD for pair in value.items() for each in pair)
    if size > MAX_METADATA:
        raise ValidationError(
            f"metadata takes {size} bytes, and at most {MAX_METADATA} fit: an item of DynamoDB holds 400 KB, ids included; "
            "store what is large elsewhere, and its address here"
        )
    return dict(value)


def check_integer(what: str, value: object, *, minimum: int, maximum: int = MAX_AMOUNT) -> int:
    """Return `value` if it is an integer, not a bool, between the bounds."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValidationError(f"{what} must be an integer, not {shown(value)}")
    if not minimum <= value <= maximum:
        raise ValidationError(f"{what} must be between {minimum} and {maximum}, not {shown(value)}")
    return value


def check_amounts(amounts: object, *, minimum: int = 0) -> dict[str, int]:
    """Return a mapping of limit name to units as a dict."""
    if not isinstance(amounts, Mapping):
        raise ValidationError(f"amounts must be a mapping such as {{'requests': 1}}, not {shown(amounts)}")
    checked = {}
    for name, amount in amounts.items():
        check_name("limit name", name)
        # Checked here first, because most amounts are good and forming a message takes time.
        if type(amount) is not int or not minimum <= amount <= MAX_AMOUNT:
            check_integer(f"amount of {name!r}", amount, minimum=minimum)
        checked[name] = amount
    return checked


def check_asked(entity_id: object, resource: object, amounts: object) -> dict[str, int] | None:
    """Check the names of an entity and a resource, and return the amounts of a call as a dict, or None."""
    check_name("entity_id", entity_id)
    check_name("resource", resource)
    return None if amounts is None else check_amounts(amounts)


def check_timeout(value: object) -> int:
    """Return the nanoseconds of a timeout given in seconds; None counts as 0."""
    return 0 if value is None else check_seconds("timeout", value, but="None or ")


def check_seconds(what: str, value: object, *, but: str = "") -> int:
    """Return the nanoseconds of a time span given in seconds; `but` names other accepted values."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 366 * 86_400:
        raise ValidationError(f"{what} must be {but}a number of seconds from 0 to one year, not {shown(value)}")
    return round(value * 1_000_000_000)


def check_duration(what: str, seconds: float) -> float:
    """Return the seconds of a time span that has to be above 0."""
    if not check_seconds(what, seconds):
        raise ValidationError(f"{what} must be above 0 seconds, not {seconds!r}")
    return float(seconds)


def check_count(what: str, value: int) -> int:
    """Return a number of things of which there has to be one at least."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValidationError(f"{what} must be an integer of 1 or more, not {shown(value)}")
    return value


def check_segment(segment: int, segments: int) -> int:
    """Return the number of one of `segments` parts, from 0."""
    if isinstance(segment, bool) or not isinstance(segment, int) or not 0 <= segment < segments:
        raise ValidationError(f"segment must be an integer from 0 to {segments - 1}, not {shown(segment)}")
    return segment


def check_clock(clock: object) -> Callable[[], int]:
    """Return `clock` if it returns integers; a float would make the buckets unreadable for all processes."""
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
    """Raise `ValidationError` unless `value` is None or callable, and no coroutine function, which would never be awaited."""
    check_callable(what, value)
    if inspect.iscoroutinefunction(value):
        raise ValidationError(f"{what} must be a plain function, not {shown(value)}, which is `async def` and never awaited")


def check_flag(what: str, value: object) -> bool:
    """Return `value` if it is True or False."""
    if not isinstance(value, bool):
        raise ValidationError(f"{what} must be True or False, not {shown(value)}")
    return value


def check_region(value: object) -> str | None:
    """Return `value` if it is None or a string."""
    if value is not None and not isinstance(value, str):
        raise ValidationError(f"region must be None or a string such as 'eu-west-1', not {shown(value)}")
    return value


def check_share(what: str, value: object) -> float:
    """Return `value` if it is a number above 0 and at most 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise ValidationError(f"{what} must be a number above 0 and at most 1, not {shown(value)}")
    return float(value)


def shown(value: object) -> str:
    """Return a value as a message can show it: its repr, cut if long; its type if the repr fails, as a caller's own may."""
    try:
        text = repr(value)
    except Exception:  # Python refuses to print integers of more than 4,300 digits, and very deeply nested lists.
        kind = type(value).__name__
        return f"an integer of {value.bit_length()} bits" if isinstance(value, int) else f"a {kind} that cannot be shown"
    return text if len(text) <= 80 else f"{text[:60]}… ({len(value if isinstance(value, str) else text)} characters)"
