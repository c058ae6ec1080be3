"""What every test has: engines, a clock, table names, and an environment without anybody's AWS settings."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support import botocore_models, presence
from support.engines import ATOMIC_NAMES, ENGINE_NAMES, RECIPES, SERVER_NAMES, Engine, Engines, FakeClock

if TYPE_CHECKING:
    from collections.abc import Iterator

NOWHERE = str(Path(__file__).with_name("no-such-file"))
AWS_ENVIRONMENT = {
    # DynamoDB Local takes letters and digits only.
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": NOWHERE,
    "AWS_SHARED_CREDENTIALS_FILE": NOWHERE,
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}
# Which names each fixture is parametrised with.
FIXTURES = {"engine": ENGINE_NAMES, "server_engine": SERVER_NAMES, "atomic_engine": ATOMIC_NAMES}
ENGINES = pytest.StashKey[Engines]()
SELECTED = pytest.StashKey[tuple[str, ...]]()
RAN = pytest.StashKey[Counter[str]]()
# Servers, the fastest first.
FASTEST = ("dynoxide", "moto", "dynamodb-local")


def isolate_from_aws() -> None:
    """Replace every AWS setting of the user by one that reaches nothing."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(AWS_ENVIRONMENT)


# Before any test module is imported: boto reads some of it once.
isolate_from_aws()
botocore_models.read_once()
# A shell starts a job in the background with Ctrl-C ignored, which programs of the tests would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --engines."""
    parser.addoption(
        "--engines",
        metavar="NAME,...",
        help=f"run on these engines only, each of which must be present: {', '.join(ENGINE_NAMES)} (default: all)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Check --engines."""
    config.addinivalue_line("markers", "engines(*names): the engines that a test with an engine fixture runs on")
    config.addinivalue_line(
        "markers", "one_server: of the servers, a test with an engine fixture runs on the fastest that is present"
    )
    option = config.getoption("--engines")
    names = tuple(option.split(",")) if option else ENGINE_NAMES
    if unknown := set(names) - set(ENGINE_NAMES):
        raise pytest.UsageError(f"unknown engine {', '.join(sorted(unknown))}; there are {', '.join(ENGINE_NAMES)}")
    config.stash[SELECTED] = names
    config.stash[ENGINES] = Engines()
    config.stash[RAN] = Counter()
    config.pluginmanager.register(EngineCounts(config))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the engines, however the session ends."""
    if (engines := config.stash.get(ENGINES, None)) is not None:
        engines.stop()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with an engine fixture once per engine."""
    for fixture, names in FIXTURES.items():
        if fixture in metafunc.fixturenames:
            selected = [name for name in names if name in metafunc.config.stash[SELECTED]]
            if (marker := metafunc.definition.get_closest_marker("engines")) is not None:
                selected = [name for name in selected if name in marker.args]
            if metafunc.definition.get_closest_marker("one_server") is not None:
                selected = with_one_server(selected)
            nothing = pytest.param("none", marks=pytest.mark.skip(reason="NOT SELECTED: no engine of --engines can serve it"))
            metafunc.parametrize(fixture, selected or [nothing], indirect=True)


def with_one_server(names: list[str]) -> list[str]:
    """Leave out every server but the fastest that is present; where none is, the fastest that was selected stands for all."""
    servers = sorted(
        (name for name in names if name in FASTEST), key=lambda name: (RECIPES[name].absence() is not None, FASTEST.index(name))
    )
    return [name for name in names if name not in servers[1:]]


def engine_name(item: pytest.Item) -> str | None:
    """The name of the engine that a test runs on."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return next((parameters[fixture] for fixture in FIXTURES if parameters.get(fixture) in RECIPES), None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to run at all when an engine is absent that must not be."""
    needed = {name for item in session.items if (name := engine_name(item)) is not None}
    absent = {name: why for name in sorted(needed) if (why := RECIPES[name].absence()) is not None}
    unexcused = {name: why for name, why in absent.items() if must_be_present(session.config, name)}
    if unexcused:
        raise pytest.UsageError(*(f"engine {name} is absent: {why}" for name, why in unexcused.items()))


def must_be_present(config: pytest.Config, name: str) -> bool:
    """Whether the user asked for this engine, or CI runs and does not excuse it."""
    return config.getoption("--engines") is not None or presence.must_be_present(name)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Take away the handler that moto gives to all later clients of a process where a test has imported it.

    Clients that have it would make no test's calls directly.
    """
    if (handlers := sys.modules.get("botocore.handlers")) is not None:
        builtin: Any = handlers
        builtin.BUILTIN_HANDLERS[:] = [
            each for each in builtin.BUILTIN_HANDLERS if not type(each[1]).__module__.startswith("moto.")
        ]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """Refuse modules that are skipped in CI without an excuse."""
    report = yield
    presence.refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Note on which engine a test ran, and refuse skips in CI without an excuse."""
    report = yield
    presence.refuse_skip(report)
    name = engine_name(item)
    if name is not None and call.when == "call" and not report.skipped:
        report.user_properties.append(("engine", name))
    return report


class EngineCounts:
    """Counts the tests that ran on each engine, also where worker processes ran them."""

    def __init__(self, config: pytest.Config) -> None:
        self._ran = config.stash[RAN]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count one test."""
        self._ran.update(value for name, value in report.user_properties if name == "engine" and report.when == "call")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say which engines there were and how many tests ran on each."""
    terminalreporter.section("engines")
    for name in ENGINE_NAMES:
        terminalreporter.write_line(f"{name}: {describe_engine(config, name)}")


def describe_engine(config: pytest.Config, name: str) -> str:
    """One engine's line of the summary."""
    if name not in config.stash[SELECTED]:
        return "not selected"
    if (why := RECIPES[name].absence()) is not None:
        return f"ABSENT ({why})"
    return f"ok, {config.stash[RAN][name]} tests"


def provide(request: pytest.FixtureRequest) -> Engine:
    """The engine of a parametrised fixture; the test is skipped when it is absent."""
    name: str = request.param
    if (why := RECIPES[name].absence()) is not None:
        presence.absent(name, f"engine {name}: {why}")
    return request.config.stash[ENGINES].get(name)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn, memory included."""
    return provide(request)


@pytest.fixture
def server_engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn that is a server."""
    return provide(request)


@pytest.fixture
def atomic_engine(request: pytest.FixtureRequest) -> Engine:
    """Each server in turn whose own atomicity can prove a race."""
    return provide(request)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that moves only when told."""
    return FakeClock()


TABLE_NUMBERS = itertools.count(1)


@pytest.fixture
def table_name() -> str:
    """A table name that no other test has, in this process or another."""
    return f"t-{next(TABLE_NUMBERS)}-{uuid.uuid4().hex[:12]}"
