"""Recognises the stacks that the limiter deployed by their tags, and checks stack names and tags."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .._version import __version__
from ..aws.schema import VERSION as SCHEMA_VERSION
from ..exceptions import LimiterError, StackNotOwned, ValidationError

if TYPE_CHECKING:
    from collections.abc import Mapping

OWNER = "dynamodb-limiter"
OWNER_TAG = "limiter:managed-by"
VERSION_TAG = "limiter:version"
SCHEMA_TAG = "limiter:schema-version"
RETAIN_TAG = "limiter:retain"
REGIONS_TAG, _WITNESS = "limiter:regions", "witness:"

_NAME = re.compile(r"[a-zA-Z][-a-zA-Z0-9]{2,127}")
_MAX_TAGS = 50 - 5


def own_tags(*, retain: bool, regions: tuple[str, ...] = (), witness: str | None = None) -> dict[str, str]:
    """Return the tags that mark a stack as deployed by the limiter."""
    named = [*regions, *([] if witness is None else [_WITNESS + witness])]
    return {
        OWNER_TAG: OWNER,
        VERSION_TAG: __version__,
        SCHEMA_TAG: str(SCHEMA_VERSION),
        # CloudFormation sees no change when only the deletion policy changes; with this tag it does.
        RETAIN_TAG: "true" if retain else "false",
    } | ({REGIONS_TAG: " ".join(named)} if named else {})


def regions_in(tags: Mapping[str, str]) -> tuple[tuple[str, ...], str | None]:
    """Return the Regions of a stack's table and its witness, according to the tags; empty for a table in one Region."""
    named = tags.get(REGIONS_TAG, "").split()
    witnesses = [each.removeprefix(_WITNESS) for each in named if each.startswith(_WITNESS)]
    return tuple(each for each in named if not each.startswith(_WITNESS)), next(iter(witnesses), None)


def is_own(tags: Mapping[str, str]) -> bool:
    """Tell whether these are the tags of a stack that the limiter deployed."""
    return tags.get(OWNER_TAG) == OWNER


def schema_version(tags: Mapping[str, str]) -> int | None:
    """Return the version of the table's layout in the tags; None when they record none."""
    text = tags.get(SCHEMA_TAG, "")
    return int(text) if text.isascii() and text.isdecimal() else None


def check_readable(name: str, tags: Mapping[str, str]) -> None:
    """Raise `LimiterError` when a newer release has deployed a layout that this release does not know."""
    found = schema_version(tags)
    if found is not None and found > SCHEMA_VERSION:
        raise LimiterError(
            f"stack {name!r} was deployed by version {tags.get(VERSION_TAG, '?')} with table layout {found}, but version "
            f'{__version__} knows layouts up to {SCHEMA_VERSION}. Upgrade it: pip install --upgrade "dynamodb-limiter"'
        )


def not_owned(name: str) -> StackNotOwned:
    """Return the error for a stack that the limiter did not deploy."""
    return StackNotOwned(
        f"stack {name!r} exists, but was not deployed by the limiter (it has no tag {OWNER_TAG}={OWNER}); choose another name"
    )


def not_owned_shell(name: str) -> StackNotOwned:
    """Return the error for a stack in review, without resources, that the limiter may not have begun."""
    return StackNotOwned(
        f"stack {name!r} has no resources yet (REVIEW_IN_PROGRESS), and it is unknown whether the limiter began it; if it is not "
        f"needed, delete it: aws cloudformation delete-stack --stack-name {name}"
    )


def check_stack_name(name: object) -> str:
    """Return `name` when CloudFormation accepts it for a stack and DynamoDB for a table."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise ValidationError(f"invalid stack name {name!r}: use 3-128 letters, digits and hyphens, beginning with a letter")


def check_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return custom tags as a dict when AWS accepts them and none is reserved."""
    if len(tags) > _MAX_TAGS:
        raise ValidationError(f"a stack can have at most {_MAX_TAGS} custom tags, not {len(tags)}")
    for key, value in tags.items():
        if not isinstance(key, str) or not 1 <= len(key) <= 128 or key.startswith(("aws:", "limiter:")):
            raise ValidationError(f"invalid tag {key!r}: use 1-128 characters; the prefixes aws: and limiter: are reserved")
        if not isinstance(value, str) or not 1 <= len(value) <= 256:
            raise ValidationError(f"invalid value of tag {key!r}: use 1-256 characters, not {value!r}")
    return dict(tags)


def users_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the custom tags of a stack: all but the limiter's and AWS's."""
    return {key: value for key, value in tags.items() if not key.startswith(("aws:", "limiter:"))}
