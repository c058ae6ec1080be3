"""What tests of adapters share."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest
from support.engines import accepts, free_port, wait_until

from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.engines import Engine


@pytest.fixture
def table(table_name: str, server_engine: Engine) -> str:
    """A table on the engine."""
    create_table(table_name, endpoint_url=server_engine.endpoint_url)
    return table_name


@pytest.fixture
def redis_url() -> Iterator[str]:
    """A Redis server of this test."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("ABSENT: redis-server; install it from Debian or Ubuntu")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
        server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        try:
            assert wait_until(lambda: accepts(port))
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait(20)
