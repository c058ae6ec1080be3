"""The async repository accepts sessions and clients of aioboto3, and the sync repository does not."""

from __future__ import annotations

import pytest
from support.presence import needed

from limiter import Repository, SyncRepository, ValidationError

aioboto3 = needed("aioboto3")


async def test_an_asynchronous_repository_takes_what_aioboto3_makes() -> None:
    """A session and an open client are accepted."""
    Repository("my-app", session=aioboto3.Session())
    async with aioboto3.Session().client("dynamodb") as opened:
        Repository("my-app", client=opened)


async def test_a_synchronous_repository_refuses_what_aioboto3_makes() -> None:
    """The message names the repository that accepts it."""
    with pytest.raises(ValidationError, match=r"session must be a boto3\.Session\(\), not .* use Repository"):
        SyncRepository("my-app", session=aioboto3.Session())
    async with aioboto3.Session().client("dynamodb") as opened:
        with pytest.raises(ValidationError, match=r'client must be boto3\.client\("dynamodb"\), not .* use Repository'):
            SyncRepository("my-app", client=opened)


async def test_a_client_that_is_not_open_is_refused() -> None:
    """The message shows how one is opened."""
    unopened = aioboto3.Session().client("dynamodb")
    with pytest.raises(ValidationError, match=r"client must be what `async with .* use SyncRepository"):
        Repository("my-app", client=unopened)
    async with unopened:  # It warns when it is never entered.
        pass
