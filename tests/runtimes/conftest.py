"""Real processes of every kind, each bounded in time and surely ended, and a slow network between them and the engine."""

from __future__ import annotations

import datetime as dt
import ipaddress
import sys
from typing import TYPE_CHECKING

import pytest
from support.engines import port_of
from support.processes import PATIENCE, Proxy, Script, Server

from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.engines import Engine


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key, made for this session."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "limiter-test")])
    now = dt.datetime.now(dt.UTC)
    loopback = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(loopback, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("certificate")
    pem, secret = folder / "certificate.pem", folder / "key.pem"
    pem.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    no_password = serialization.NoEncryption()
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_password))
    return pem, secret


@pytest.fixture
def slow_network(certificate: tuple[Path, Path]) -> Iterator[Callable[..., Proxy]]:
    """Puts a proxy before an engine, that adds 50 ms to each request and speaks TLS."""
    started: list[Proxy] = []

    def start(engine: Engine, *, latency: float = 0.05, tls: bool = True) -> Proxy:
        assert engine.endpoint_url is not None
        started.append(Proxy(port_of(engine.endpoint_url), latency, certificate if tls else None))
        return started[-1]

    yield start
    for proxy in started:
        proxy.stop()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers."""
    started: list[Server] = []

    def start(*arguments: str, **environment: str) -> Server:
        started.append(Server(arguments, environment))
        started[-1].wait_until_ready()
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def run_script() -> Callable[..., Script]:
    """Runs a script of this folder to its end."""

    def run(*arguments: str, timeout: float = PATIENCE, **environment: str) -> Script:
        return Script(arguments, environment, timeout)

    return run


@pytest.fixture
def table(table_name: str, server_engine: Engine) -> str:
    """A table on the engine."""
    create_table(table_name, endpoint_url=server_engine.endpoint_url)
    return table_name


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads that take turns as often as the interpreter can make them."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)
