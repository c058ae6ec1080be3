"""The tests that limits has for its own storages and strategies, run on ours.

They are in the source distribution only: `pip download --no-binary :all: --no-deps limits`, unpack it, and set
LIMITER_LIMITS_SOURCE to the folder. They sleep for some seconds, some assert times that moto is too slow for, and they need
pytest-lazy-fixtures, flaky and redis.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from limiter.testing import create_table

if TYPE_CHECKING:
    from support.engines import Engine

SOURCE = os.environ.get("LIMITER_LIMITS_SOURCE")
pytestmark = pytest.mark.skipif(SOURCE is None, reason="set LIMITER_LIMITS_SOURCE to the unpacked sdist of limits")

CONFTEST = """
import pytest
import limiter.contrib.limits
from limits.storage import storage_from_string

@pytest.fixture
def dynamodb():
    yield
    storage_from_string("{uri}").reset()
"""
STORAGES = """
def _only(uri):
    return pytest.mark.parametrize("uri, args, fixture", [pytest.param(uri, dict(), lf("dynamodb"), id="dynamodb")])

all_storage = sliding_window_counter_storage = moving_window_storage = _only("{uri}")
async_all_storage = async_sliding_window_counter_storage = async_moving_window_storage = _only("async+{uri}")
"""
CONCRETE = """from limiter.contrib.limits import {name}

@pytest.mark.parametrize(
    "uri, args, expected_instance, fixture",
    [pytest.param("{uri}", dict(), {name}, lf("dynamodb"), id="dynamodb")],
)
class TestConcreteStorages"""
MARKS = ("memory", "redis", "redis_cluster", "redis_sentinel", "memcached", "mongodb", "valkey", "valkey_cluster", "integration")
FILES = ("tests/test_storage.py", "tests/test_strategy.py", "tests/aio/test_storage.py", "tests/aio/test_strategy.py")


def prepare(folder: Path, uri: str) -> None:
    """Copy the tests, with our storage in place of all others."""
    shutil.copytree(Path(SOURCE or "") / "tests", folder / "tests")
    (folder / "tests" / "conftest.py").write_text(CONFTEST.format(uri=uri))
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\nmarkers =\n" + "".join(f"  {mark}\n" for mark in MARKS))
    with (folder / "tests" / "utils.py").open("a") as utils:
        utils.write(STORAGES.format(uri=uri))
    for name, file, scheme in (
        ("DynamoDBStorage", "tests/test_storage.py", ""),
        ("AsyncDynamoDBStorage", "tests/aio/test_storage.py", "async+"),
    ):
        path = folder / file
        before, _, after = path.read_text().partition("class TestConcreteStorages")
        kept = before[: before.rindex("@pytest.mark.parametrize(")]
        kept = re.sub(r"@pytest\.mark\.asyncio\s*$", "", kept)
        path.write_text(kept + CONCRETE.format(name=name, uri=scheme + uri) + after)


@pytest.mark.timeout(600)
def test_limits_own_tests_pass(atomic_engine: Engine, table_name: str, tmp_path: Path) -> None:
    """The tests of `limits` pass, sync and async, except those of the moving window and of concurrency."""
    create_table(table_name, endpoint_url=atomic_engine.endpoint_url)
    prepare(tmp_path, f"dynamodb://{table_name}?endpoint_url={atomic_engine.endpoint_url}")
    options = ["-q", "-p", "no:cacheprovider", "-W", "ignore", "-k", "dynamodb and not moving"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *FILES, "tests/integration"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        check=False,
        timeout=590,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 35
