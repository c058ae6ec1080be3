"""A small tree to generate sync versions in, and the rules that the tests are about."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "generate_sync.py"

# A source with many traps, and its expected sync version. They are text files because no formatter would accept them.
HOSTILE, HOSTILE_TWIN = (Path(__file__).with_name(name) for name in ("hostile_source.txt", "hostile_twin.txt"))

# The project's own table has only rules that are in use, so it may lack some of these.
WORDS = {
    "AbstractAsyncContextManager": "AbstractContextManager",
    "AsyncExitStack": "ExitStack",
    "AsyncIterator": "Iterator",
    "StopAsyncIteration": "StopIteration",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "aclose": "close",
    "aclosing": "closing",
    "aioboto3": "boto3",
    "anext": "next",
    "asynccontextmanager": "contextmanager",
}
DOTTED = {"asyncio.Event": "threading.Event", "asyncio.Lock": "threading.Lock", "asyncio.sleep": "time.sleep"}
UNWRAPPED = {"Awaitable": 1, "Coroutine": 3}
KEYWORDS = {"async def", "async for", "async with", "await"}


class Outcome(NamedTuple):
    """How a run of the generator ended, and its output."""

    status: int
    output: str
    errors: str


class Project:
    """A tree of sources and generated files."""

    def __init__(self, root: Path, generator: Any, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.generator, self.capsys = root, generator, capsys
        self.add("src/pkg/every_rule.py", every_rule(generator))
        self.run()

    def add(self, path: str, text: str | bytes) -> Path:
        """Write a file; the common indentation of a text is removed."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else textwrap.dedent(text).encode())
        return file

    def read(self, path: str) -> str:
        """Return the text of a file."""
        return (self.root / path).read_bytes().decode()

    def run(self, *options: str) -> Outcome:
        """Run the generator in this tree."""
        self.capsys.readouterr()
        status = self.generator.main([*options, "--root", str(self.root)])
        output, errors = self.capsys.readouterr()
        return Outcome(status, output, errors)

    def twin(self, text: str, *, dedent: bool = True) -> str:
        """Return what is generated from a source below src, without the first line."""
        self.add("src/pkg/thing.py", f"# twin: sync_thing.py\n{textwrap.dedent(text) if dedent else text}".encode())
        assert self.run() == (0, "src/pkg/sync_thing.py\n", "")
        return self.read("src/pkg/sync_thing.py").partition("\n")[2]

    def test_twin(self, text: str) -> str:
        """Return what is generated from a test, without the first line."""
        self.add("tests/async/test_thing.py", f"# twin: ../sync/test_thing.py\n{textwrap.dedent(text)}".encode())
        assert self.run() == (0, "tests/sync/test_thing.py\n", "")
        return self.read("tests/sync/test_thing.py").partition("\n")[2]

    def refusal(self, text: str) -> str:
        """Return the message about a source below src that has no sync version."""
        self.add("src/pkg/thing.py", f"# twin: sync_thing.py\n{textwrap.dedent(text)}".encode())
        outcome = self.run()
        assert outcome.status == 2
        assert not (self.root / "src/pkg/sync_thing.py").exists()
        return outcome.output


def every_rule(generator: Any) -> str:
    """Return a source that uses every rule."""
    unwrapped = (f"_{name.lower()}: {name}[{', '.join(['int'] * count)}]" for name, count in generator.UNWRAPPED.items())
    return "\n".join(
        [
            "# twin: sync_every_rule.py",
            f"# {' '.join(generator.WORDS)} {' '.join(generator.DOTTED)}",
            *unwrapped,
            "async def _every() -> None:",
            "    async with await _every():",
            "        async for _ in _every():",
            "            pass",
            "",
        ]
    )
