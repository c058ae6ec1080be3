"""What is built and installed: complete, without ballast, and light to import.

The test of `limiter._version` and `limiter.cli.__main__`.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.presence import need

import limiter

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., Any]

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "limiter"
HEAVY = ("aioboto3", "aiobotocore", "aiohttp", "asyncio", "boto3", "botocore", "click", "eventlet", "gevent", "http", "rich")
HEAVY += ("opentelemetry", "socket", "ssl", "urllib3", "yaml")
NEEDED = ("build", "hatchling")


def source_files() -> set[str]:
    """Every file of the package, as the wheel should hold it."""
    files = (path for path in SOURCE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {f"limiter/{path.relative_to(SOURCE).as_posix()}" for path in files}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A source distribution, and a wheel that was built from it."""
    need(*NEEDED)
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = target.glob("*.whl"), target.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


@pytest.fixture(scope="module")
def environment(built: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty virtual environment into which the wheel was installed, and nothing else."""
    place = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True, timeout=60)
    target = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python"), "install"]
    options = ["--no-index", "--no-deps", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*target, *options, str(built["wheel"])], check=True, timeout=60)
    return place


@pytest.fixture
def run(environment: Path, tmp_path: Path) -> Run:
    """Runs code in the new environment and returns what it prints as JSON; `dependencies` lends it this one's."""

    def run(code: str, *, dependencies: bool = False) -> Any:
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV_"))}
        if dependencies:
            variables["PYTHONPATH"] = sysconfig.get_path("purelib")
        command = [str(environment / "bin" / "python"), "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=variables, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def loaded_after(code: str) -> str:
    """Code that prints which heavy modules are loaded after some other code."""
    return f"import sys\n{code}\nimport json\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"


def test_the_wheel_holds_the_package_and_nothing_else(built: dict[str, Path]) -> None:
    """Every file of the package is in the wheel: twins, template, the marker for types; and no test, script or cache."""
    names = set(zipfile.ZipFile(built["wheel"]).namelist())
    package = {name for name in names if name.startswith("limiter/")}
    assert package == source_files()
    assert {"limiter/py.typed", "limiter/limiter.py", "limiter/sync_limiter.py", "limiter/infra/template.yaml"} <= package
    (metadata,) = {name.partition("/")[0] for name in names - package}
    assert metadata == f"dynamodb_limiter-{limiter.__version__}.dist-info"
    assert f"{metadata}/licenses/LICENSE" in names


def test_every_source_in_the_wheel_has_its_twin(built: dict[str, Path]) -> None:
    """A file that names a twin in its first line has it beside it, with as many lines."""
    wheel = zipfile.ZipFile(built["wheel"])
    texts = {name: wheel.read(name).decode() for name in wheel.namelist() if name.endswith(".py")}
    twins = {name: name.rpartition("/")[0] + "/" + text.split("\n")[0].removeprefix("# twin: ") for name, text in texts.items()}
    twins = {name: twin for name, twin in twins.items() if texts[name].startswith("# twin: ")}
    assert len(twins) > 5
    for name, twin in twins.items():
        assert len(texts[name].splitlines()) == len(texts[twin].splitlines())
        ast.parse(texts[twin])


def test_the_source_distribution_can_check_and_test_itself(built: dict[str, Path]) -> None:
    """The generator, the hook that runs it, and the tests are in the source distribution."""
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/{name}" for name in source_files()} <= names
    assert {
        "hatch_build.py",
        "scripts/generate_sync.py",
        "tests/conftest.py",
        "tests/support/engines.py",
        "LICENSE",
        "README.md",
    } <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", ".engines", "dist"))]


def test_metadata(run: Run) -> None:
    """The installed distribution has the package's version and needs boto3, and time zones on Windows; the rest are extras."""
    code = "import importlib.metadata as m, json, limiter; d = m.distribution('dynamodb-limiter')\n"
    version, imported, requires, extras = run(
        code + "print(json.dumps([d.version, limiter.__version__, d.requires, d.metadata.get_all('Provides-Extra')]))"
    )
    assert version == imported == limiter.__version__
    hard = [each for each in requires if "extra ==" not in each]
    assert hard == ["boto3>=1.35", "tzdata; sys_platform == 'win32'"]
    assert {"aioboto3", "async", "cli", "local", "all"} <= set(extras)
    # A floor and no cap: an asynchronous program may have a boto3 of today, and pip takes no release of years ago.
    assert {each.partition(";")[0] for each in requires if each.startswith("aiobotocore")} == {"aiobotocore>=3"}
    assert {"aiobotocore>=3; extra == 'async'", "aiobotocore>=3; extra == 'all'"} <= set(requires)
    assert [each for each in requires if each.startswith("aioboto3")] == ["aioboto3>=15.5; extra == 'aioboto3'"]


def test_all_is_every_extra_that_installs_beside_the_others(run: Run) -> None:
    """`[all]` needs what every other extra needs, except `[aioboto3]`, whose aiobotocore is older than that of `[async]`."""
    requires = run("import importlib.metadata as m, json; print(json.dumps(m.distribution('dynamodb-limiter').requires))")
    needs: dict[str, set[str]] = {}
    for requirement, _, extra in (each.partition("; extra == ") for each in requires if "extra ==" in each):
        needs.setdefault(extra.strip("'\""), set()).add(requirement)
    assert len(needs) > 18
    assert needs["all"] == set.union(*(needed for extra, needed in needs.items() if extra not in {"all", "aioboto3"}))


def test_importing_the_package_imports_next_to_nothing(run: Run) -> None:
    """`import limiter` loads no AWS library, no asyncio, no sockets and no TLS."""
    assert run(loaded_after("import limiter; limiter.__version__; dir(limiter)")) == []


@pytest.mark.parametrize(
    "names",
    ["Limit, Decision, LimitStatus, RateLimitExceeded", "SyncRateLimiter, SyncRepository, SyncMemoryRepository, SyncLease"],
)
def test_the_synchronous_names_import_no_asyncio(run: Run, names: str) -> None:
    """The sync classes import no asyncio, and no AWS library before the first call."""
    assert run(loaded_after(f"from limiter import {names}")) == []


def test_every_public_name_resolves_without_aws_libraries(run: Run) -> None:
    """All names of `__all__` can be imported where neither boto3 nor aiobotocore is installed."""
    code = "import json, limiter; print(json.dumps([n for n in limiter.__all__ if getattr(limiter, n, None) is None]))"
    assert run(code) == []


def test_limiting_in_memory_needs_no_dependency(run: Run) -> None:
    """The installed package limits in memory without any dependency, and without loading asyncio."""
    code = (
        "from limiter import Limit, SyncMemoryRepository, SyncRateLimiter\n"
        "limiter = SyncRateLimiter(SyncMemoryRepository(clock=lambda: 10**18), [Limit.per_minute('requests', 2)])\n"
        "assert [bool(limiter.try_acquire('user')) for _ in range(3)] == [True, True, False]"
    )
    assert run(loaded_after(code)) == []


def test_the_asynchronous_side_says_what_it_needs(run: Run) -> None:
    """Where the extra is not installed, the first call names the command that installs it."""
    code = (
        "import asyncio, json, limiter\n"
        "async def call():\n"
        "    try:\n"
        "        await limiter.Repository('table', endpoint_url='http://127.0.0.1:9').open()\n"
        "    except limiter.ConfigurationError as error:\n"
        "        return str(error)\n"
        "print(json.dumps(asyncio.run(call())))"
    )
    assert "needs aiobotocore: pip install" in run(code)


def test_the_command_is_installed(environment: Path, run: Run) -> None:
    """The wheel brings the command `limiter`, which tells its version."""
    assert (environment / "bin" / "limiter").is_file()
    command = [str(environment / "bin" / "limiter"), "--version"]
    code = f"import json, subprocess; print(json.dumps(subprocess.run({command!r}, capture_output=True, text=True).stdout))"
    assert limiter.__version__ in run(code, dependencies=True)
