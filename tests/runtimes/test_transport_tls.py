"""The direct transport trusts whom the client would trust, and names no other host."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, Literal

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.httpxsession import HttpxSession
from aiobotocore.session import AioSession
from support.processes import Proxy
from support.wire_server import WireServer

from limiter import ConfigurationError, RateLimiterUnavailable, Repository, SyncRepository
from limiter.core.records import BucketKey

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = BucketKey("default", "user", "api")
PATIENT = {"connect_timeout": 30.0, "read_timeout": 30.0}


@pytest.fixture
def server() -> Iterator[WireServer]:
    """A table without items."""
    with WireServer() as started:
        yield started


@pytest.fixture
def port(server: WireServer, certificate: tuple[Path, Path]) -> Iterator[int]:
    """Where it is reached by TLS, with a certificate for 127.0.0.1."""
    proxy = Proxy(server.port, 0.0, certificate)
    yield int(proxy.endpoint_url.rpartition(":")[2])
    proxy.stop()


def read_twice(kind: type[Any], endpoint_url: str, **options: Any) -> None:
    """Two calls by one repository, which has to make them directly."""

    async def done(result: Any) -> None:
        if inspect.isawaitable(result):
            await result

    async def read() -> None:
        repository = kind("my-app", endpoint_url=endpoint_url, transport="direct", **PATIENT, **options)
        try:
            for _ in range(2):
                await done(repository.read_bucket(KEY))
        finally:
            await done(repository.close())

    asyncio.run(read())


both = pytest.mark.parametrize("kind", [SyncRepository, Repository])


@both
def test_the_bundle_of_the_environment_is_trusted(
    kind: type[Any], port: int, server: WireServer, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS_CA_BUNDLE holds for direct calls, which use one connection."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[0]))
    read_twice(kind, f"https://127.0.0.1:{port}")
    assert (len(server.received), server.accepted) == (2, 1)


@both
def test_a_certificate_of_an_unknown_authority_is_refused(kind: type[Any], port: int, server: WireServer) -> None:
    """Nothing is sent to a server whose certificate is not trusted, and the error says so."""
    with pytest.raises(RateLimiterUnavailable, match="SSL validation failed"):
        read_twice(kind, f"https://127.0.0.1:{port}")
    assert server.received == []


@both
def test_a_certificate_of_another_host_is_refused(
    kind: type[Any], port: int, server: WireServer, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trusted certificate is good for its own host only."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[0]))
    with pytest.raises(RateLimiterUnavailable, match="SSL validation failed"):
        read_twice(kind, f"https://localhost:{port}")
    assert server.received == []


def test_another_http_client_is_not_passed_by(
    port: int, server: WireServer, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that has chosen aiobotocore's client for httpx2 makes the calls itself, and "direct" raises with the reason."""
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate[0]))
    session = AioSession()
    session.set_default_client_config(AioConfig(http_session_cls=HttpxSession))

    async def read(transport: Literal["auto", "direct"]) -> Any:
        options = {"endpoint_url": f"https://127.0.0.1:{port}", "session": session, **PATIENT}
        async with Repository("my-app", transport=transport, **options) as repository:
            await repository.read_bucket(KEY)
            return repository.transport

    assert asyncio.run(read("auto")).name == "botocore"
    assert server.received
    with pytest.raises(ConfigurationError, match="HTTP client is HttpxSession"):
        asyncio.run(read("direct"))


def test_asynchronous_connections_are_bounded(server: WireServer) -> None:
    """No more are opened than the repository may have, and callers wait for one."""

    async def read() -> None:
        repository = Repository("my-app", endpoint_url=server.endpoint_url, transport="direct", max_connections=2, **PATIENT)
        await asyncio.gather(*(repository.read_bucket(KEY) for _ in range(10)))
        await repository.close()

    asyncio.run(read())
    assert len(server.received) == 10
    assert server.accepted <= 2
