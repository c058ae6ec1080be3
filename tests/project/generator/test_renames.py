"""Which classes, functions and modules have another name in a twin, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.generator_project import Project

SEAM = """\
    # seam
    from typing import Any
    class Scope: ...
    class SyncScope: ...
    class Alone: ...
    async def gather(calls): ...
    def sync_gather(calls): ...
    def lonely(): ...
    sleep, other = 1, 2
    sleep: Any = 1
    sync_sleep = 2
    """
REPOSITORY = """\
    # twin: sync_repository.py
    class Repository: ...
    class _Private: ...
    async def discover(): ...
    async def _hidden(): ...
    def plain(): ...
    if True:
        class Nested: ...
    """


@pytest.fixture(autouse=True)
def modules(project: Project) -> None:
    """A package `pkg` that holds a module `pkg`, as `limiter` does."""
    project.add("src/pkg/_compat.py", SEAM)
    project.add("src/pkg/repository.py", REPOSITORY)
    project.add("src/pkg/pkg.py", "# twin: sync_pkg.py\nclass Main: ...\n")
    project.add("src/pkg/infra/stacks.py", "# twin: sync_stacks.py\nclass Stacks: ...\n")
    project.add("src/pkg/models.py", "class Limit: ...\nclass Scoped: ...\n")
    project.run()


def test_public_classes_and_coroutines_are_renamed_where_they_are_defined(project: Project) -> None:
    """A twin's public classes and former coroutines begin with Sync; private, nested and plain ones keep their names."""
    assert project.read("src/pkg/sync_repository.py").partition("\n")[2] == (
        "class SyncRepository: ...\n"
        "class _Private: ...\n"
        "def sync_discover(): ...\n"
        "def _hidden(): ...\n"
        "def plain(): ...\n"
        "if True:\n"
        "    class Nested: ...\n"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from .repository import Repository", "from .sync_repository import SyncRepository"),
        ("from .repository import Repository as R", "from .sync_repository import SyncRepository as R"),
        (
            "from .repository import (  # both\n    Repository,\n    plain,\n)",
            "from .sync_repository import (  # both\n    SyncRepository,\n    plain,\n)",
        ),
        ("from . import repository", "from . import sync_repository as repository"),
        ("from . import repository as r, models", "from . import sync_repository as r, models"),
        ("from pkg.repository import discover", "from pkg.sync_repository import sync_discover"),
        ("from pkg.repository import *", "from pkg.sync_repository import *"),
        ("from pkg import Main, discover, repository", "from pkg import SyncMain, sync_discover, sync_repository as repository"),
        ("from pkg import pkg", "from pkg import sync_pkg as pkg"),
        ("from pkg.pkg import Main", "from pkg.sync_pkg import SyncMain"),
        ("from .pkg import Main", "from .sync_pkg import SyncMain"),
        ("from .infra.stacks import Stacks", "from .infra.sync_stacks import SyncStacks"),
        ("from .infra import stacks", "from .infra import sync_stacks as stacks"),
        ("import pkg", "import pkg"),
        ("import pkg.pkg", "import pkg.sync_pkg"),
        ("import pkg.repository as r, os, pkg.infra.stacks", "import pkg.sync_repository as r, os, pkg.infra.sync_stacks"),
        (
            "from ._compat import Scope, Alone, gather, lonely, sleep",
            "from ._compat import SyncScope, Alone, sync_gather, lonely, sync_sleep",
        ),
        ("from .models import Limit, Scoped", "from .models import Limit, Scoped"),
        ("from repository import x", "from repository import x"),
        ("from other.repository import x", "from other.repository import x"),
        ("from time import sleep\nsleep(1)", "from time import sleep\nsleep(1)"),
        ("import repository", "import repository"),
        (
            "def f():\n    from ._compat import gather\n    gather()",
            "def f():\n    from ._compat import sync_gather\n    sync_gather()",
        ),
    ],
)
def test_imports_follow_the_names(project: Project, before: str, after: str) -> None:
    """An import names the twin's module and the twin's names; other people's modules keep theirs."""
    assert project.twin(f"{before}\n") == f"{after}\n"


@pytest.mark.parametrize("statement", ["from pkg import _compat", "from . import _compat as c", "import pkg._compat"])
def test_seams_are_not_imported_as_modules(project: Project, statement: str) -> None:
    """The attributes of a module keep their names, so a twin would call the asynchronous side of a seam."""
    assert f"src/pkg/thing.py:2: import the names of a seam, not the seam: {statement}\n" in project.refusal(f"{statement}\n")


def test_relative_imports_are_read_from_where_they_stand(project: Project) -> None:
    """A dot more is a package less."""
    text = """\
        # twin: sync_x.py
        from ..repository import discover
        from .stacks import Stacks
        from .repository import a
        from .. import pkg
        """
    project.add("src/pkg/infra/x.py", text)
    project.run()
    assert project.read("src/pkg/infra/sync_x.py").partition("\n")[2] == (
        "from ..sync_repository import sync_discover\n"
        "from .sync_stacks import SyncStacks\n"
        "from .repository import a\n"
        "from .. import sync_pkg as pkg\n"
    )


def test_modules_keep_their_names_outside_imports(project: Project) -> None:
    """A variable, an attribute or a parameter may be called like a module."""
    source = "def f(repository, *, pkg=None):\n    self.repository = repository\n    return f(repository=repository, pkg=pkg)\n"
    assert project.twin(source) == source


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = Repository(Main)", "x = SyncRepository(SyncMain)"),
        ("x = pkg.Repository.make()", "x = pkg.SyncRepository.make()"),
        ("class Repositories(Repository): pass", "class _Repositories(SyncRepository): pass"),
        ("x: dict[str, Repository | None]", "x: dict[str, SyncRepository | None]"),
        ("except_ = isinstance(x, (Repository, Scope))", "except_ = isinstance(x, (SyncRepository, SyncScope))"),
        ("x = MyRepository, Repository_, SyncRepository", "x = MyRepository, Repository_, SyncRepository"),
        ("x = 'Repository', b'Repository', f'Repository'", "x = 'Repository', b'Repository', f'Repository'"),
        ("match x:\n    case Repository(): pass", "match x:\n    case SyncRepository(): pass"),
    ],
)
def test_classes_are_renamed_everywhere_in_code(project: Project, before: str, after: str) -> None:
    """A class is renamed by whole name, also as an attribute."""
    assert project.twin(before.replace("class R", "class _R") + "\n") == f"{after}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("gather(sleep)", "sync_gather(sync_sleep)"),
        ("x.gather(x.sleep)", None),
        ("f(sleep=1)", "f(sleep=1)"),
        ("def f(sleep): return sleep, gather", "def f(sleep): return sleep, sync_gather"),
        ("def f(x=sleep, *, sleep=sleep): return sleep", "def f(x=sync_sleep, *, sleep=sync_sleep): return sleep"),
        ("def f(*sleep): return lambda: sleep", "def f(*sleep): return lambda: sleep"),
        ("f = lambda sleep: sleep + x(sleep)", "f = lambda sleep: sleep + x(sleep)"),
        ("f = lambda x=sleep: x + sleep", "f = lambda x=sync_sleep: x + sync_sleep"),
        ("@sleep\ndef f(sleep): pass", "@sync_sleep\ndef f(sleep): pass"),
        ("def f(sleep):\n    def g(): return sleep\n    return g", "def f(sleep):\n    def g(): return sleep\n    return g"),
        ("def f():\n    def g(): return sleep\n    return g", "def f():\n    def g(): return sync_sleep\n    return g"),
        (
            "class A:\n    def sleep(self): return self.sleep() + sleep()",
            "class _A:\n    def sleep(self): return self.sleep() + sync_sleep()",
        ),
        ("def f(x=lambda sleep: 1): sleep(x)", "def f(x=lambda sleep: 1): sync_sleep(x)"),
        ("ß = 'größe', sleep, sleep", "ß = 'größe', sync_sleep, sync_sleep"),
        ("x = [sleep(y) for y in z]", "x = [sync_sleep(y) for y in z]"),
        ("def f(sleep): return f'{sleep}'", "def f(sleep): return f'{sleep}'"),
        ("x = 'sleep'", "x = 'sleep'"),
    ],
)
def test_functions_are_renamed_by_reference(project: Project, before: str, after: str | None) -> None:
    """A function is renamed where its name refers to it: neither as an attribute, nor as a keyword, nor as a parameter."""
    source = "from ._compat import gather, sleep\n" + before.replace("class A", "class _A") + "\n"
    if after is None:
        assert "no rule translates `gather`" in project.refusal(source)
    else:
        assert project.twin(source) == f"from ._compat import sync_gather, sync_sleep\n{after}\n"


def test_functions_are_renamed_only_where_they_are_imported(project: Project) -> None:
    """A file that does not import a function may use its name for something else."""
    source = "def sleep(discover): return discover\nsleep(plain)\nfrom ._compat import sleep as doze\n"
    assert project.twin(source) == source.replace("import sleep", "import sync_sleep")


@pytest.mark.parametrize(
    "binding",
    [
        "def f():\n    sleep = 1",
        "x = [sleep for sleep in y]",
        "def f():\n    def sleep(): pass",
        "try: pass\nexcept E as sleep: pass",
        "if (sleep := 1): pass",
        "match x:\n    case sleep: pass",
        "match x:\n    case [*sleep]: pass",
        "del sleep",
        "for sleep in x: pass",
    ],
)
def test_a_hidden_function_is_refused(project: Project, binding: str) -> None:
    """Whoever gives a renamed function's name to something else is asked for another name."""
    assert "this hides a renamed function" in project.refusal(f"from ._compat import sleep\n{binding}\n")


def test_a_renamed_function_in_an_fstring_is_refused(project: Project) -> None:
    """Python 3.11 does not tell where a name in an f-string stands."""
    said = project.refusal("from ._compat import sleep\nx = 1\ny = f'{x}{sleep}'\n")
    assert ":4: move this out of the f-string: y = f'{x}{sleep}'\n" in said


def test_tests_use_the_twins(project: Project) -> None:
    """A test's twin imports the twins, and keeps its own functions' and classes' names."""
    source = """
        from pkg import Main, discover
        from pkg.repository import Repository
        async def test_it(repository):
            async with Repository() as r, pkg.Main():
                assert await discover() == await r.discover()
        class TestMain:
            async def gather_some(self): ...
        async def sleep(): ...
        """
    assert project.test_twin(source) == (
        "\nfrom pkg import SyncMain, sync_discover\n"
        "from pkg.sync_repository import SyncRepository\n"
        "def test_it(repository):\n"
        "    with SyncRepository() as r, pkg.SyncMain():\n"
        "        assert sync_discover() == r.discover()\n"
        "class TestMain:\n"
        "    def gather_some(self): ...\n"
        "def sleep(): ...\n"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('patch("pkg.repository.Repository.open")', 'patch("pkg.sync_repository.SyncRepository.open")'),
        ('mock.patch("pkg.repository.discover", new=1)', 'mock.patch("pkg.sync_repository.sync_discover", new=1)'),
        ('unittest.mock.patch.object("pkg.pkg", "repository")', 'unittest.mock.patch.object("pkg.sync_pkg", "repository")'),
        ("monkeypatch.setattr('pkg.pkg.Main', 1)", "monkeypatch.setattr('pkg.sync_pkg.SyncMain', 1)"),
        ('monkeypatch.setattr("pkg.repository.asyncio.sleep", x)', 'monkeypatch.setattr("pkg.sync_repository.time.sleep", x)'),
        ('monkeypatch.setattr("asyncio.sleep", x)', 'monkeypatch.setattr("time.sleep", x)'),
        ('monkeypatch.setattr("pkg._compat.gather", x)', 'monkeypatch.setattr("pkg._compat.sync_gather", x)'),
        ('monkeypatch.setattr("pkg.models.sleep", x)', 'monkeypatch.setattr("pkg.models.sleep", x)'),
        ('monkeypatch.setattr("pkg.Main.sleep", x)', 'monkeypatch.setattr("pkg.SyncMain.sleep", x)'),
        ('monkeypatch.setattr("pkgs.repository.x", x)', 'monkeypatch.setattr("pkgs.repository.x", x)'),
        ('monkeypatch.setattr(Main, "repository", x)', 'monkeypatch.setattr(SyncMain, "repository", x)'),
        ('monkeypatch.setattr(x, "Main", "pkg.pkg")', 'monkeypatch.setattr(x, "Main", "pkg.pkg")'),
        ('client.patch("/pkg/pkg.Main", x)', 'client.patch("/pkg/pkg.Main", x)'),
        ('print("pkg.repository.Repository")', 'print("pkg.repository.Repository")'),
        ('dispatch("pkg.repository.Repository")', 'dispatch("pkg.repository.Repository")'),
    ],
)
def test_targets_of_patches_name_the_twin(project: Project, before: str, after: str) -> None:
    """A dotted name given to patch or setattr is translated; any other string is data."""
    assert project.test_twin(f"{before}\n") == f"{after}\n"
