"""Which stacks are the limiter's own: the tags that say so, and the names that a stack can have."""

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

_NAME = re.compile(r"[a-zA-Z][-a-zA-Z0-9]{2,127}")
_MAX_TAGS = 50 - 4


def own_tags(*, retain: bool) -> dict[str, str]:
    """The tags that mark a stack as the limiter's own."""
    return {
        OWNER_TAG: OWNER,
        VERSION_TAG: __version__,
        SCHEMA_TAG: str(SCHEMA_VERSION),
        # Also what makes a change of the deletion policy, which alone is none to CloudFormation, a change.
        RETAIN_TAG: "true" if retain else "false",
    }


def is_own(tags: Mapping[str, str]) -> bool:
    """Whether these are the tags of a stack that the limiter deployed."""
    return tags.get(OWNER_TAG) == OWNER


def schema_version(tags: Mapping[str, str]) -> int | None:
    """The version of the table's layout that the tags record; None when they record none."""
    text = tags.get(SCHEMA_TAG, "")
    return int(text) if text.isascii() and text.isdecimal() else None


def check_readable(name: str, tags: Mapping[str, str]) -> None:
    """Raise `LimiterError` when a newer release has deployed a layout that this one does not know."""
    found = schema_version(tags)
    if found is not None and found > SCHEMA_VERSION:
        raise LimiterError(
            f"stack {name!r} was deployed by version {tags.get(VERSION_TAG, '?')} with table layout {found}, and this is version "
            f'{__version__}, which knows layouts up to {SCHEMA_VERSION}: pip install --upgrade "dynamodb-limiter"'
        )


def not_owned(name: str) -> StackNotOwned:
    """The error for a stack that somebody else deployed."""
    return StackNotOwned(
        f"a stack {name!r} exists that the limiter did not deploy (it has no tag {OWNER_TAG}={OWNER}); choose another name"
    )


def not_owned_shell(name: str) -> StackNotOwned:
    """The error for a stack in review, which holds nothing yet, that somebody else began."""
    return StackNotOwned(
        f"a stack {name!r} was begun, by the limiter or somebody else, and holds nothing but its name (REVIEW_IN_PROGRESS); if "
        f"nobody needs it: aws cloudformation delete-stack --stack-name {name}"
    )


def check_stack_name(name: object) -> str:
    """Return `name` when CloudFormation accepts it for a stack, and DynamoDB for a table."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise ValidationError(
        f"{name!r} cannot be the name of a stack; it has to begin with a letter and have 3 to 128 letters, digits and hyphens"
    )


def check_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the user's own tags as a dict when AWS accepts them and none is reserved."""
    if len(tags) > _MAX_TAGS:
        raise ValidationError(f"a stack can have {_MAX_TAGS} tags of yours, not {len(tags)}")
    for key, value in tags.items():
        if not isinstance(key, str) or not 1 <= len(key) <= 128 or key.startswith(("aws:", "limiter:")):
            raise ValidationError(f"{key!r} cannot be a tag; it needs 1 to 128 characters, and aws: and limiter: are reserved")
        if not isinstance(value, str) or not 1 <= len(value) <= 256:
            raise ValidationError(f"tag {key!r} needs a value of 1 to 256 characters, not {value!r}")
    return dict(tags)


def users_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of a stack that are neither the limiter's nor AWS's."""
    return {key: value for key, value in tags.items() if not key.startswith(("aws:", "limiter:"))}
