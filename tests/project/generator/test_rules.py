"""What becomes of keywords, names, generic types and imports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from support.generator_project import Project


def test_every_word_is_translated_in_code(project: Project, generator: Any) -> None:
    """A variable or attribute that has a rule gets another name in the twin."""
    source = "".join(f"{word} = thing.{word}\n" for word in generator.WORDS)
    assert project.twin(source) == "".join(f"{word} = thing.{word}\n" for word in generator.WORDS.values())


def test_every_word_is_translated_in_prose(project: Project, generator: Any) -> None:
    """Comments and docstrings speak of the names that the twin has."""
    source = "".join(f"# Uses {word}.\n" for word in generator.WORDS)
    assert project.twin(source) == "".join(f"# Uses {word}.\n" for word in generator.WORDS.values())
    assert (
        project.twin(f'"""{source}"""\n') == '"""' + "".join(f"# Uses {word}.\n" for word in generator.WORDS.values()) + '"""\n'
    )


def test_every_word_is_kept_in_data(project: Project, generator: Any) -> None:
    """A string at run time is the same in both worlds."""
    source = "".join(f'thing("{word}")\n' for word in generator.WORDS)
    assert project.twin(source) == source


def test_every_asyncio_attribute_is_translated(project: Project, generator: Any) -> None:
    """An attribute of asyncio comes from another module, which the twin imports in place of asyncio."""
    source = "import asyncio\n" + "".join(f"value = {rule}()\n" for rule in generator.DOTTED)
    modules = ", ".join(sorted({new.partition(".")[0] for new in generator.DOTTED.values()}))
    assert project.twin(source) == f"import {modules}\n" + "".join(f"value = {new}()\n" for new in generator.DOTTED.values())


def test_every_generic_type_is_unwrapped(project: Project, generator: Any) -> None:
    """Of a generic type without a twin, the last argument remains."""
    source = "".join(f"value: {name}[{'Any, ' * (count - 1)}int]\n" for name, count in generator.UNWRAPPED.items())
    assert project.twin(source) == "value: int\n" * len(generator.UNWRAPPED)


def test_functions_and_statements_lose_their_keywords(project: Project) -> None:
    """What waits in a source blocks in the twin."""
    source = """
        async def _f(things):
            async with things as one, two:
                async for each in one:
                    await each
            return [await x async for x in two if await x], {x: y async for x, y in two}, (x async for x in two)
        """
    assert project.twin(source) == (
        "\ndef _f(things):\n"
        "    with things as one, two:\n"
        "        for each in one:\n"
        "            each\n"
        "    return [x for x in two if x], {x: y for x, y in two}, (x for x in two)\n"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x = await f()", "x = f()"),
        ("x = await  f()", "x = f()"),
        ("x = await\tf()", "x = f()"),
        ("x = await(f())", "x = (f())"),
        ("x = (await f()).y", "x = (f()).y"),
        ("x = -await f() ** 2", "x = -f() ** 2"),
        ("x = await (await f())()", "x = (f())()"),
        ("x = not await f()", "x = not f()"),
        ("x = [*await f(), *await g()]", "x = [*f(), *g()]"),
        ("x = (\n    await\n    f()\n)", "x = (\n\n    f()\n)"),
        ("x = (await\n    f())", "x = (\n    f())"),
        ("x = (await  # why\n    f())", "x = (  # why\n    f())"),
        ("x = await \\\n    f()", "x = \\\n    f()"),
        ("x = f(\n    await g(),\n    y=await h(),\n)", "x = f(\n    g(),\n    y=h(),\n)"),
        ("if (x := await f()) and await g(): pass", "if (x := f()) and g(): pass"),
        ("match await f():\n        case 1 if await g(): pass", "match f():\n        case 1 if g(): pass"),
        ("def g(x=await f()): pass", "def g(x=f()): pass"),
        ("@(await f())\n    def g(): pass", "@(f())\n    def g(): pass"),
        ("async   with   x: pass", "with   x: pass"),
        (
            "async with (\n        await f() as x,\n        g() as y,\n    ):\n        pass",
            "with (\n        f() as x,\n        g() as y,\n    ):\n        pass",
        ),
        ("try: pass\n    finally: await f()", "try: pass\n    finally: f()"),
        ("x = await f(); await g()", "x = f(); g()"),
    ],
)
def test_await_is_dropped_with_its_blanks(project: Project, before: str, after: str) -> None:
    """An await leaves no trace, wherever it stands."""
    assert project.twin(f"async def _f():\n    {before}\n", dedent=False) == f"def _f():\n    {after}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Callable[[int], Awaitable[str]]", "Callable[[int], str]"),
        ("Awaitable[Awaitable[int]]", "int"),
        ("Awaitable[int | None] | None", "int | None | None"),
        ("Awaitable[dict[str, Awaitable[int]]]", "dict[str, int]"),
        ("Coroutine[Any, Any, Awaitable[int]]", "int"),
        ("Coroutine[Any, Any, tuple[int, str]]", "tuple[int, str]"),
        ("typing.Awaitable[int]", "int"),
        ("Awaitable[(int)]", "int"),
        ("Awaitable[\n    int\n]", "(\n    int\n)"),
        ("list[\n    Awaitable[int],\n]", "list[\n    int,\n]"),
        ("Coroutine[\n    Any,\n    Any,\n    int,\n]", "(\n\n\n    int\n)"),
        ("Coroutine[  # hot\n    Any, Any,  # cold\n    int,\n]", "(  # hot\n      # cold\n    int\n)"),
        ("AsyncIterator[Awaitable[int]]", "Iterator[int]"),
    ],
)
def test_generic_types_are_unwrapped_where_they_stand(project: Project, before: str, after: str) -> None:
    """A type may be nested, qualified or spread over lines."""
    assert project.twin(f"x: {before}\n") == f"x: {after}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from typing import Awaitable", ""),
        ("from typing import (\n    Awaitable,\n    Coroutine,\n)", "\n\n\n"),
        ("from typing import Awaitable, Callable", "from typing import Callable"),
        ("from typing import Callable, Awaitable", "from typing import Callable"),
        ("from typing import Any, Awaitable, Callable, Coroutine", "from typing import Any, Callable"),
        ("from typing import Any, Awaitable, Coroutine", "from typing import Any"),
        ("from typing import Awaitable, AsyncIterator", "from typing import Iterator"),
        ("from typing import (\n    Awaitable,\n    Callable,\n)", "from typing import (\n\n    Callable,\n)"),
        ("from typing import (\n    Callable,\n    Coroutine,\n)", "from typing import (\n    Callable,\n\n)"),
        ("from typing import Awaitable  # noqa: UP035 - a reason", "  # noqa: UP035 - a reason"),
        ("if x:\n    from typing import Awaitable", "if x:\n    pass"),
        ("if x:\n    from typing import (\n        Awaitable,\n    )\n    y", "if x:\n    pass\n\n\n    y"),
    ],
)
def test_imports_of_unwrapped_types_are_dropped(project: Project, before: str, after: str) -> None:
    """A twin imports no type that it does not name, and keeps its lines."""
    assert project.twin(f"{before}\n") == f"{after}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("import asyncio\nasyncio.Lock()", "import threading\nthreading.Lock()"),
        ("import asyncio\nawait_ = asyncio.sleep", "import time\nawait_ = time.sleep"),
        ("import asyncio, os\nasyncio.Lock()\nasyncio.sleep(1)", "import threading, time, os\nthreading.Lock()\ntime.sleep(1)"),
        ("import os\nif x:\n    import asyncio\ny: asyncio.Lock", "import os\nif x:\n    import threading\ny: threading.Lock"),
    ],
)
def test_asyncio_is_replaced_by_what_is_needed(project: Project, before: str, after: str) -> None:
    """The twin imports the modules that stand in for asyncio, on the same line."""
    assert project.twin(f"{before}\n") == f"{after}\n"


@pytest.mark.parametrize(
    ("construct", "name"),
    [
        ("import asyncio\nasyncio.create_task(f())", "asyncio"),
        ("import asyncio\nasyncio.Lock()\nasyncio.timeout(1)", "asyncio"),
        ("import asyncio", "asyncio"),
        ("import asyncio as a", "asyncio"),
        ("asyncio.Lock()\nimport asyncio as a", "asyncio"),
        ("from asyncio import Lock", "asyncio"),
        ("import asyncio.locks", "asyncio"),
        ("x = asyncio", "asyncio"),
        ("x = thing.asyncio.Lock()", "asyncio"),
        ("loop.create_task(x)", "create_task"),
        ("wait_for(x)", "wait_for"),
        ("TaskGroup()", "TaskGroup"),
        ("shield(x)", "shield"),
        ("try: pass\nexcept CancelledError: pass", "CancelledError"),
        ("Semaphore(1)", "Semaphore"),
        ("gather(x)", "gather"),
        ("loop.run_in_executor(None, f)", "run_in_executor"),
        ("to_thread(f)", "to_thread"),
        ("ThreadPoolExecutor()", "ThreadPoolExecutor"),
        ("loop.run_until_complete(f())", "run_until_complete"),
        ("x: AsyncGenerator[int, None]", "AsyncGenerator"),
        ("x: Awaitable", "Awaitable"),
        ("x: Awaitable[int, str]", "Awaitable"),
        ("from x import AsyncClient", "AsyncClient"),
        ("import aiohttp", "aiohttp"),
        ("def __await__(self): pass", "__await__"),
        ("x.__aunknown__", "__aunknown__"),
        ("await_it.asend(1)", "asend"),
        ("self._aclose()", "_aclose"),
        ("aclose_all()", "aclose_all"),
        ("mock.assert_awaited_once()", "assert_awaited_once"),
        ("mock.await_count", "await_count"),
        ("inspect.iscoroutinefunction(f)", "iscoroutinefunction"),
    ],
)
def test_a_construct_without_a_rule_is_refused(project: Project, construct: str, name: str) -> None:
    """The file, the line and the text of what cannot be translated are named, and nothing is written."""
    said = project.refusal(f"x = 1\n{construct}\n")
    number, line = list(enumerate(construct.split("\n"), 3))[-1]
    assert f"src/pkg/thing.py:{number}: no rule translates `{name}`: {line}\n" in said


@pytest.mark.parametrize("name", ["__all__", "__annotations__", "__add__", "__and__", "__abs__", "access", "awaiting", "asyncly"])
def test_ordinary_names_are_kept(project: Project, name: str) -> None:
    """A name that only looks like one of asyncio's is an ordinary one."""
    assert project.twin(f"x.{name}\n") == f"x.{name}\n"
