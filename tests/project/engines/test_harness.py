"""The harness: engines that end with their session, and absent ones that are named."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.engines import Engines, FakeClock, ServerProcess, accepts, port_of, wait_until

TESTS = Path(__file__).resolve().parents[2]
PATIENCE = 20.0
SAMPLE = """
import pytest
@pytest.mark.engines("memory", "dynoxide", "dynamodb-local")
def test_it(engine):
    assert engine.name
"""
MARKED = """
import pytest
pytestmark = pytest.mark.one_server
def test_any(engine): pass
@pytest.mark.engines("dynamodb-local", "dynoxide")
def test_some(engine): pass
"""
SKIPS = """
import pytest
def test_one(): pytest.skip("on Tuesdays")
@pytest.mark.skipif(True, reason="on Tuesdays")
def test_two(): pass
def test_three(): pytest.skip("NOT PROVEN: here")
"""
SERVER = "import http.server as h; h.HTTPServer(('127.0.0.1', {}), h.BaseHTTPRequestHandler).serve_forever()"
OWNER = f"""
import sys, time
from support.engines import Engines, FakeClock, ServerProcess, accepts, port_of, wait_until
server = ServerProcess("sample", lambda port: [sys.executable, "-c", {SERVER!r}.format(port)])
print(server.endpoint_url, flush=True)
time.sleep(60)
"""


def run_session(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on one sample test where no engine is installed."""
    (directory / "support").mkdir(exist_ok=True)
    for name in ("conftest.py", "support/botocore_models.py", "support/engines.py", "support/presence.py"):
        shutil.copy(TESTS / name, directory / name)
    (directory / "test_sample.py").write_text(SAMPLE, encoding="utf-8")
    inherited = {name: value for name, value in os.environ.items() if name not in ("CI", "LIMITER_ENGINES_ABSENT")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-o", "pythonpath=.", "-p", "no:cacheprovider", "-rs", *arguments],
        cwd=directory,
        env=inherited | {"LIMITER_ENGINES": str(directory / "none"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
        check=False,
    )


def test_absent_engine_is_skipped_and_named(tmp_path: Path) -> None:
    """On a user's machine the tests of an absent engine are skipped, and the summary says how to get it."""
    done = run_session(tmp_path)
    assert done.returncode == 0, done.stdout
    assert "1 passed, 2 skipped" in done.stdout
    assert "memory: ok, 1 tests" in done.stdout
    assert "dynoxide: ABSENT (not installed; run `make engines`)" in done.stdout


def test_absent_engine_fails_ci(tmp_path: Path) -> None:
    """In CI no test runs when an engine is absent without an excuse."""
    done = run_session(tmp_path, CI="true", LIMITER_ENGINES_ABSENT="dynamodb-local")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "engine dynoxide is absent" in done.stderr
    assert "engine dynamodb-local is absent" not in done.stderr


def test_excused_engine_is_skipped_in_ci(tmp_path: Path) -> None:
    """In CI an engine that could not be installed is skipped and named."""
    done = run_session(tmp_path, CI="true", LIMITER_ENGINES_ABSENT="dynamodb-local,dynoxide")
    assert done.returncode == 0, done.stdout
    assert "1 passed, 2 skipped" in done.stdout


def test_selected_engine_must_be_present(tmp_path: Path) -> None:
    """An engine that was requested by name and is missing is an error, not a skip."""
    assert run_session(tmp_path, "--engines=memory").returncode == 0
    assert run_session(tmp_path, "--engines=dynoxide").returncode == pytest.ExitCode.USAGE_ERROR
    assert "unknown engine nonsense" in run_session(tmp_path, "--engines=nonsense").stderr


def test_one_server_is_the_fastest_that_is_present(tmp_path: Path) -> None:
    """A test with the mark runs in memory and on one server; a server that is absent is chosen only where all others are."""
    (tmp_path / "test_marked.py").write_text(MARKED, encoding="utf-8")
    done = run_session(tmp_path, "--collect-only", "-q", "test_marked.py")
    assert re.findall(r"test_marked.py::(\S+)", done.stdout) == ["test_any[memory]", "test_any[moto]", "test_some[dynoxide]"]


def test_a_skip_without_an_excuse_fails_ci(tmp_path: Path) -> None:
    """In CI no test, mark or module is skipped silently; on a user's machine each is, and in CI what the list excuses."""
    (tmp_path / "test_skips.py").write_text(SKIPS, encoding="utf-8")
    arguments = ("--engines=memory", "--continue-on-collection-errors")
    assert "1 passed, 3 skipped" in run_session(tmp_path, *arguments).stdout
    module = "import pytest\npytest.importorskip('no_such', reason='on Tuesdays')"
    (tmp_path / "test_module.py").write_text(module, encoding="utf-8")
    done = run_session(tmp_path, *arguments, CI="true").stdout
    assert "1 failed, 1 passed, 1 skipped, 2 errors" in done, done
    assert done.count("skipped in CI without an excuse in tests/support/presence.py: on Tuesdays") == 3


def test_server_ends_when_its_session_is_killed() -> None:
    """A server ends by itself when the process that started it is gone."""
    with subprocess.Popen([sys.executable, "-c", OWNER], cwd=TESTS, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout is not None
            port = port_of(owner.stdout.readline().strip())
            assert accepts(port)
            owner.kill()
            assert wait_until(lambda: not accepts(port))
        finally:
            owner.kill()


def test_server_stops_when_told() -> None:
    """Nothing listens when `stop` returns."""
    server = ServerProcess("sample", lambda port: [sys.executable, "-c", SERVER.format(port)])
    server.stop()
    assert not accepts(port_of(server.endpoint_url))


def test_server_that_dies_says_why() -> None:
    """A server that ends instead of listening is an error with what it printed."""
    with pytest.raises(RuntimeError, match="out of luck"):
        ServerProcess("sample", lambda port: [sys.executable, "-c", "import sys; sys.exit('out of luck')"])


def test_memory_needs_no_server() -> None:
    """The memory engine has no endpoint."""
    assert Engines().get("memory").endpoint_url is None


def test_clock_moves_only_when_told(clock: FakeClock) -> None:
    """The clock stands until it is advanced, exactly."""
    assert clock() == clock() == FakeClock.START_NS
    clock.advance(0.000_000_001)
    clock.advance(2.5)
    assert clock() == FakeClock.START_NS + 2_500_000_001
