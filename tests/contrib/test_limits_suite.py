"""The tests that limits has for its own storages and strategies, run on ours.

They are in the source distribution only, which `make limits` downloads. They sleep, and some compare times to the hundredth of a
second, so a clock of their own takes the place of the machine's: it moves when a test sleeps, and at no other time.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.presence import absent, need

from limiter.testing import create_table

if TYPE_CHECKING:
    from support.engines import Engine

need("limits", "redis")

RELEASE = f"limits-{version('limits')}"
SOURCES = Path(__file__).parents[2] / "build" / "limits" / f"{RELEASE}.tar.gz"

CONFTEST = """
import asyncio
import sys
import threading
import time

import pytest

MILLION, HOUR, TICK = 10**6, 3600 * 10**6, 3000
real_sleep, real_async_sleep, lock = time.sleep, asyncio.sleep, threading.Lock()
now = [int(time.time()) * MILLION]  # in microseconds

def move(seconds):
    with lock:
        now[0] += round(seconds * MILLION)

def in_a_test():
    return sys._getframe(2).f_globals["__name__"].startswith("tests.")

def sleep(seconds):
    (move if in_a_test() else real_sleep)(seconds)

def async_sleep(seconds, result=None):
    if in_a_test():
        move(seconds)
        seconds = 0
    return real_async_sleep(seconds, result)

time.time, time.sleep, asyncio.sleep = lambda: now[0] / MILLION, sleep, async_sleep

import limiter.contrib.limits
from limits.storage import storage_from_string

@pytest.fixture(autouse=True)
def dynamodb():
    # No window of a test ends before the test does. limits takes the first instant of a window for its end.
    now[0] += -now[0] % HOUR + TICK
    yield
    storage_from_string("{uri}").reset()
"""
LAZY_FIXTURES = '''"""In place of the plugin of this name; our fixture is used by itself."""

def lf(name):
    return None
'''
STORAGES = """
def _only(uri):
    return pytest.mark.parametrize("uri, args, fixture", [pytest.param(uri, dict(), None, id="dynamodb")])

all_storage = sliding_window_counter_storage = moving_window_storage = _only("{uri}")
async_all_storage = async_sliding_window_counter_storage = async_moving_window_storage = _only("async+{uri}")
"""
CONCRETE = """from limiter.contrib.limits import {name}

@pytest.mark.parametrize(
    "uri, args, expected_instance, fixture",
    [pytest.param("{uri}", dict(), {name}, None, id="dynamodb")],
)
class TestConcreteStorages"""
MARKS = (
    *("memory", "redis", "redis_cluster", "redis_sentinel", "memcached", "mongodb", "valkey", "valkey_cluster"),
    *("flaky", "integration"),
)
FILES = ("tests/test_storage.py", "tests/test_strategy.py", "tests/aio/test_storage.py", "tests/aio/test_strategy.py")
LEFT_OUT = {
    "moving_window": "the storage refuses this strategy",
    "MovingWindow": "the storage refuses this strategy",
    "expiry_acquire_entry": "they skip themselves, since the storage refuses the moving window",
    "acquire_entry_custom_amount": "they skip themselves, since the storage refuses the moving window",
}
"""Names of tests that are not run, and why."""


def prepare(folder: Path, uri: str) -> None:
    """Unpack the tests, with our storage in place of all others."""
    if not SOURCES.exists():
        absent("limits", f"{SOURCES.name}; download it with `make limits`")
    with tarfile.open(SOURCES) as opened:
        opened.extractall(folder, filter="data")
    (folder / RELEASE / "tests").rename(folder / "tests")
    (folder / "tests" / "conftest.py").write_text(CONFTEST.replace("{uri}", uri))
    (folder / "pytest_lazy_fixtures.py").write_text(LAZY_FIXTURES)
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


@pytest.mark.one_server
@pytest.mark.timeout(300)
def test_limits_own_tests_pass(atomic_engine: Engine, table_name: str, tmp_path: Path) -> None:
    """The tests of `limits` pass, sync and async, those of concurrency included, except those of the moving window."""
    create_table(table_name, endpoint_url=atomic_engine.endpoint_url)
    prepare(tmp_path, f"dynamodb://{table_name}?endpoint_url={atomic_engine.endpoint_url}")
    chosen = " and ".join(["dynamodb", *(f"not {name}" for name in LEFT_OUT)])
    options = ["-q", "-p", "no:cacheprovider", "-p", "pytest_asyncio.plugin", "-W", "ignore", "-k", chosen]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *FILES, "tests/integration"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)]),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=290,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ (skipped|deselected by|xfailed)", done.stdout) is None, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= 35
