"""The direct transport sends requests to botocore's address with botocore's credentials, or does not send them.

The test of `limiter.aws.requests`.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import boto3
import botocore
import botocore.session
import pytest
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import AioSession
from botocore.config import Config
from botocore.credentials import RefreshableCredentials

from limiter import SyncRepository
from limiter.aws.client import ClientOptions, close_client, open_client, sync_close_client, sync_open_client
from limiter.aws.direct import open_direct
from limiter.aws.sync_direct import sync_open_direct
from limiter.aws.transport import Unequal
from limiter.aws.wire import Response

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST, SECOND = "111111111111", "222222222222"
SOON = timedelta(minutes=5)


class Nowhere:
    """Connections that lead nowhere and record what would be sent."""

    def __init__(self, url: str, sent: list[tuple[str, str]]) -> None:
        self.url, self.sent = url, sent

    def exchange(self, request: bytes) -> Response:
        """Return a response without content."""
        key = request.decode().partition("Credential=")[2].partition("/")[0]
        self.sent.append((self.url, key))
        return Response(200, {"content-length": "2"}, b"{}")

    def close(self) -> None:
        """Do nothing: nothing is open."""


class AsyncNowhere(Nowhere):
    """The async version."""

    async def exchange(self, request: bytes) -> Response:  # type: ignore[override]
        """Return a response without content."""
        return super().exchange(request)

    async def close(self) -> None:  # type: ignore[override]
        """Do nothing: nothing is open."""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Return the address and the access key of every request, none of which is sent."""
    found: list[tuple[str, str]] = []

    monkeypatch.setattr("limiter.aws.direct.Connections", lambda _, requests: AsyncNowhere(requests.url, found))
    monkeypatch.setattr("limiter.aws.sync_direct.SyncConnections", lambda _, requests: Nowhere(requests.url, found))
    return found


class Account:
    """Credentials that change to the next account whenever they are read."""

    def __init__(self, account_id: str) -> None:
        self.account_id = account_id

    def renewed(self) -> dict[str, str]:
        """Return credentials as a provider does."""
        ends = (datetime.now(UTC) + SOON).isoformat()
        keys = {"access_key": f"AKID{self.account_id}", "secret_key": "s", "token": "t"}
        return keys | {"account_id": self.account_id, "expiry_time": ends}

    async def renewed_async(self) -> dict[str, str]:
        """The async version."""
        return self.renewed()


def call_sync(*accounts: str) -> None:
    """Make a call for each account with the sync limiter."""
    inner = botocore.session.Session()
    account = Account(accounts[0] if accounts else "")
    if accounts:
        inner._credentials = RefreshableCredentials.create_from_metadata(account.renewed(), account.renewed, "test")
    client = sync_open_client("dynamodb", ClientOptions(session=boto3.Session(botocore_session=inner)))
    transport = sync_open_direct(client, "my-app")
    for account.account_id in accounts or [""]:
        transport.call("GetItem", {"TableName": "my-app", "Key": {}})
    sync_close_client(client)


def call_async(*accounts: str) -> None:
    """The async version."""

    async def call() -> None:
        session = AioSession()
        account = Account(accounts[0] if accounts else "")
        if accounts:
            kind = AioRefreshableCredentials
            session._credentials = kind.create_from_metadata(account.renewed(), account.renewed_async, "test")
        client = await open_client("dynamodb", ClientOptions(session=session))
        transport = await open_direct(client, "my-app")
        for account.account_id in accounts or [""]:
            await transport.call("GetItem", {"TableName": "my-app", "Key": {}})
        await close_client(client)

    asyncio.run(call())


both = pytest.mark.parametrize("call", [call_sync, call_async])


@both
@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, "https://dynamodb.us-east-1.amazonaws.com/"),
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, "https://dynamodb-fips.us-east-1.amazonaws.com/"),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "https://dynamodb.us-east-1.api.aws/"),
        ({"AWS_ACCOUNT_ID": FIRST}, f"https://{FIRST}.ddb.us-east-1.amazonaws.com/"),
        ({"AWS_ACCOUNT_ID": FIRST, "AWS_ACCOUNT_ID_ENDPOINT_MODE": "disabled"}, "https://dynamodb.us-east-1.amazonaws.com/"),
        ({"AWS_ENDPOINT_URL_DYNAMODB": "http://localhost:8000"}, "http://localhost:8000/"),
        ({"AWS_ENDPOINT_URL": "http://[::1]:8000/base/"}, "http://[::1]:8000/base/"),
    ],
)
def test_the_address_is_botocores(
    environment: dict[str, str], url: str, call: Callable[..., None], sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """FIPS, dual-stack and account-based endpoints, and those of the environment, are found and signed for."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    call()
    assert sent == [(url, "testing")]


@both
def test_the_account_may_change(call: Callable[..., None], sent: list[Any]) -> None:
    """When credentials are renewed as those of another account, requests go to its address and are signed with them."""
    urls = {account: f"https://{account}.ddb.us-east-1.amazonaws.com/" for account in (FIRST, SECOND)}
    call(FIRST, SECOND, SECOND, FIRST)
    assert sent == [(urls[account], f"AKID{account}") for account in (FIRST, SECOND, SECOND, FIRST)]


@both
def test_another_signature_is_not_imitated(call: Callable[..., None], sent: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """If botocore signs in another way, the direct transport sends nothing."""
    monkeypatch.setattr("limiter.aws.signing.ALGORITHM", "AWS5")
    with pytest.raises(Unequal, match="botocore sends other headers: authorization"):
        call()
    assert sent == []


def test_requests_that_are_not_signed_are_botocores(caplog: pytest.LogCaptureFixture) -> None:
    """Unsigned requests are unexpected, so a warning tells the reason."""
    session = boto3.Session()
    session._session.set_default_client_config(Config(signature_version=botocore.UNSIGNED))
    repository = SyncRepository("my-app", session=session, endpoint_url="http://127.0.0.1:1")
    with caplog.at_level(logging.WARNING, "limiter.client"):
        repository.prepare()
    repository.close()
    assert repository.transport is not None
    assert repository.transport.name == "botocore"
    assert repository.transport.reason == "botocore does not sign requests"
    assert repository.transport.reason in caplog.text
