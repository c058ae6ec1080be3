"""Prose is written for both worlds, data belongs to both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.generator_project import Project


@pytest.fixture(autouse=True)
def modules(project: Project) -> None:
    """A class and a function with other names in a twin."""
    project.add("src/pkg/main.py", "# twin: sync_main.py\nclass Main: ...\nasync def discover(): ...\n")
    project.run()


PROSE = [
    ("Use `async with limiter.acquire()` or await limiter.open().", "Use `with limiter.acquire()` or limiter.open()."),
    ("async def f, async for x in y, async  with", "def f, for x in y, with"),
    (">>> await task", ">>> task"),
    ("`await task`", "`task`"),
    ("reply = await task", "reply = task"),
    ("Callers await their turn (first come, first served).", "Callers await their turn (first come, first served)."),
    ("Threads await; async is a world, and so is asyncio.", "Threads await; async is a world, and so is asyncio."),
    ("asyncio.Event.set, asyncio.Locks, asyncio", "threading.Event.set, asyncio.Locks, asyncio"),
    ("asyncio.Lock, aioboto3.Session, __aenter__", "threading.Lock, boto3.Session, __enter__"),
    ("Main, pkg.Main, Mains, SyncMain, main", "SyncMain, pkg.SyncMain, Mains, SyncMain, main"),
    ("discover finds; await discover(region=None)", "discover finds; discover(region=None)"),
    ("ünï Main – ‘Main’", "ünï SyncMain – ‘SyncMain’"),
    ("type: ignore[misc]  # noqa: E501 - a reason", "type: ignore[misc]  # noqa: E501 - a reason"),
]


@pytest.mark.parametrize(("before", "after"), PROSE)
def test_comments_speak_of_the_twin(project: Project, before: str, after: str) -> None:
    """In a comment, only code is translated."""
    assert project.twin(f"x = 1  # {before}\n# {before}\n") == f"x = 1  # {after}\n# {after}\n"


@pytest.mark.parametrize(("before", "after"), PROSE)
def test_docstrings_speak_of_the_twin(project: Project, before: str, after: str) -> None:
    """In a docstring of a module, class or function, only code is translated."""
    text = (
        '"""{0}"""\n\n\n'
        "class _A:\n    r'''One.\n\n    {0}\n    '''\n\n"
        '    def f(self):\n        "{0}"\n\n'
        '    async def g(self):\n        ("{0}" "{0}")\n'
    )
    assert project.twin(text.format(before)) == text.format(after).replace("async def g", "def g")


def test_examples_call_the_functions_that_the_file_knows(project: Project) -> None:
    """A function in prose is renamed where it is called, in a file that imports it."""
    source = '"""To discover, call await discover(x), not x.discover()."""\nfrom .main import discover\n'
    assert (
        project.twin(source)
        == '"""To discover, call sync_discover(x), not x.discover()."""\nfrom .sync_main import sync_discover\n'
    )


@pytest.mark.parametrize(
    "data",
    [
        'x = "await f()"',
        "x = 'async with Main()'",
        'x = """Main\nawait f()\n"""',
        'x = b"aclose"',
        'x = rb"Main"',
        'x = f"await {x} Main {y!r:>{z}} aclose"',
        "x = f\"{x['Main']}{f'{y} await f()'}\"",
        'x = f"""async with {\nx}"""',
        'x = "a" "Main" f"{x}" "aclose"',
        'x = {"Main": "aclose"}["Main"]',
        'raise ValueError("await f() of Main")',
        'def f(x="Main"): return "Main"',
        'x: Literal["Main", "await f()"] = "Main"',
        'x: Annotated[int, "Main"]',
        'x: typing.Literal["Main"]',
        '__slots__ = ("Main", "aclose")',
        'if x:\n    "Main"',
        'class _A:\n    x = 1\n    "Main"',
        'x = lambda: "Main"',
        'match x:\n    case "Main": pass',
        'x = "\\N{BULLET} Main"; y = "\\"Main\\""',
    ],
)
def test_data_is_never_touched(project: Project, data: str) -> None:
    """A string at run time is the same on both sides, with any content."""
    assert project.twin(f"{data}\n") == f"{data}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('x: "Main"', 'x: "SyncMain"'),
        ('x: list["Main | None"] = "Main"', 'x: list["SyncMain | None"] = "Main"'),
        ('def f(x: "Main" = "Main") -> "dict[str, Main]": ...', 'def f(x: "SyncMain" = "Main") -> "dict[str, SyncMain]": ...'),
        ('def f(*x: "Main", **y: "Main"): ...', 'def f(*x: "SyncMain", **y: "SyncMain"): ...'),
        ("x: 'AsyncIterator[Main]'", "x: 'Iterator[SyncMain]'"),
        ('x = cast("Main", "Main")', 'x = cast("SyncMain", "Main")'),
        ('x = typing.cast("list[Main]", y)', 'x = typing.cast("list[SyncMain]", y)'),
        ('x: Main["Main"]', 'x: SyncMain["SyncMain"]'),
    ],
)
def test_annotations_in_quotes_are_code(project: Project, before: str, after: str) -> None:
    """A quoted annotation names the twin's classes; a value beside it is data."""
    assert project.twin(f"{before}\n") == f"{after}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('__all__ = ["Main", "discover", "plain"]', '__all__ = ["SyncMain", "sync_discover", "plain"]'),
        ('__all__: list[str] = [\n    "Main",  # first\n]', '__all__: list[str] = [\n    "SyncMain",  # first\n]'),
        ('__all__ += ("Main",)', '__all__ += ("SyncMain",)'),
        ('__all__ = ["Main"] + ["discover"]', '__all__ = ["SyncMain"] + ["sync_discover"]'),
    ],
)
def test_all_lists_the_names_of_the_twin(project: Project, before: str, after: str) -> None:
    """The entries of `__all__` are names."""
    source = f"from .main import discover\n{before}\n"
    assert project.twin(source) == f"from .sync_main import sync_discover\n{after}\n"


@pytest.mark.parametrize(
    "inside",
    [
        "await f()",
        "Main",
        "x.Main",
        "x.aclose()",
        "[y async for y in z]",
        "asyncio",
        "f(aclose=1)",
        "x:{await f()}",
        "f'{await f()}'",
        "gather()",
    ],
)
def test_what_needs_translating_in_an_fstring_is_refused(project: Project, inside: str) -> None:
    """An f-string that would change is an error in every version of Python."""
    outer = '"""' if "'" in inside else '"'
    said = project.refusal(f"async def _f():\n    return f{outer}a {{{inside}}}{outer}\n")
    assert ":3: move this out of the f-string: return" in said


def test_quotes_that_python_3_11_cannot_read_are_refused(project: Project) -> None:
    """A source is read as Python 3.11 reads it, by every version."""
    assert "src/pkg/thing.py:3: " in project.refusal("x = 1\ny = f'{x['a']}'\n")


@pytest.mark.parametrize(
    "line", ['x: "Awaitable[int]"', 'x = cast("AsyncGenerator[int]", y)', 'patch("asyncio.gather")', '__all__ = ["aclose_all"]']
)
def test_names_without_a_rule_are_refused_in_quotes(project: Project, line: str) -> None:
    """A quoted name is refused like any other."""
    assert f'thing.py:3: no rule translates "{line.split(chr(34))[1]}": {line}\n' in project.refusal(f"x = 1\n{line}\n")
