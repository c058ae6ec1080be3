"""The engines, Redis and the delay proxy: each in a separate process on a free loopback port that ends with this one."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tests"))

from support.engines import RECIPES, Engines, ServerProcess, port_of  # noqa: E402 - found by the line above

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE = "limiter-bench"
AUTHORITY, KEY = "authority.pem", "server.pem"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "NO_PROXY": "127.0.0.1,localhost",
}


class Servers:
    """Every server that was started for one run."""

    def __init__(self) -> None:
        self._engines = Engines()
        self._stack = ExitStack()
        self._delayed: dict[tuple[str, float, bool], str] = {}
        self._redis: str | None = None
        self._folder: Path | None = None

    def __enter__(self) -> Self:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(ENVIRONMENT)
        self._stack.callback(self._engines.stop)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def engine(self, name: str, delay: float = 0.0, tls: bool = False) -> str:
        """Return the endpoint of an engine with the table on it, `delay` milliseconds away, which may speak TLS."""
        plain, asked = (name, 0.0, False), (name, delay, tls)
        if plain not in self._delayed:
            from limiter.testing import create_table

            endpoint = str(self._engines.get(name).endpoint_url)
            create_table(TABLE, endpoint_url=endpoint, region="us-east-1")
            self._delayed[plain] = endpoint
        if asked not in self._delayed:
            script = str(Path(__file__).with_name("delay_proxy.py"))
            rest = [str(port_of(self._delayed[plain])), str(delay), *([str(self._certificates() / KEY)] if tls else [])]
            endpoint = self._start("delay", lambda port: [sys.executable, script, str(port), *rest])
            self._delayed[asked] = endpoint.replace("http:", "https:") if tls else endpoint
        return self._delayed[asked]

    def authority(self) -> str:
        """Return the file of the certificate that clients of a proxy with TLS have to trust."""
        return str(self._certificates() / AUTHORITY)

    def _certificates(self) -> Path:
        """Return the directory of this run's certificates, made on first use."""
        if self._folder is None:
            import trustme

            self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            authority = trustme.CA()
            authority.cert_pem.write_to_path(self._folder / AUTHORITY)
            authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(self._folder / KEY)
        return self._folder

    def redis(self) -> str:
        """Return the URL of a Redis that keeps nothing."""
        if self._redis is None:
            options = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
            endpoint = self._start("redis", lambda port: [str(redis_binary()), "--port", str(port), *options])
            self._redis = f"redis://127.0.0.1:{port_of(endpoint)}"
        return self._redis

    def _start(self, name: str, command: Callable[[int], list[str]]) -> str:
        server = ServerProcess(name, command)
        self._stack.callback(server.stop)
        return server.endpoint_url


def redis_binary() -> str | None:
    """Return the Redis server of this machine, or None."""
    return shutil.which("redis-server") or shutil.which("valkey-server")


def engine_absence(name: str) -> str | None:
    """Return why an engine cannot run, or None."""
    return RECIPES[name].absence()
