"""What holds for any source: its twin means the same, without waiting, line by line."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from types import ModuleType

MARKER = "# twin: sync_thing.py\n"
# Between brackets a line may end anywhere.
BLANK = st.sampled_from([" ", "  ", "\t", "\n", "\n\n   ", " # a note\n", "  # größe\n\t", " \\\n", "\x0c "])
ATOM = st.sampled_from(
    ["x", "größe", "f()", "x.y[0]", "1", "'await x'", '"""async\ndef"""', "f'{x} await {x!r:>{1}}'", "b'async'", "'ß' 'a'"]
)


def compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Build expressions of expressions, in brackets."""
    return st.one_of(
        st.builds("(await{1}({0}))".format, inner, BLANK | st.just("")),
        st.builds("(await{1}{0})".format, ATOM, BLANK),
        st.builds("(-await{2}{0}.z[{1}])".format, st.just("x"), inner, BLANK),
        st.builds("({2}{0}{2}if{3}{1} else {0})".format, inner, inner, BLANK, BLANK),
        st.builds("f({0},{2}k={1},{2}*[{0}])".format, inner, inner, BLANK),
        st.builds("[{0}{2}async{3}for y in {1}{2}if {0}]".format, inner, inner, BLANK, BLANK),
        st.builds("{{{0}: {1} async for y, *z in x}}".format, inner, inner),
        st.builds("(lambda y={0}:{2}{1})".format, inner, inner, BLANK),
        st.builds("(y{2}:= {0}, {1})".format, inner, inner, BLANK),
    )


EXPRESSION = st.recursive(ATOM, compound, max_leaves=12)
SIMPLE = st.one_of(
    st.builds("x = {0}".format, EXPRESSION),
    st.builds("return {0}  # the end".format, EXPRESSION),
    st.builds("await x; x += {0}; await f()".format, EXPRESSION),
    st.builds("@f\n    async def g(x={0}): yield {1}".format, EXPRESSION, EXPRESSION),
    st.builds("async with f(), ({0}) as y: pass".format, EXPRESSION),
    st.builds("async  for y in {0}: {1}\n    else: pass".format, EXPRESSION, EXPRESSION),
    st.builds("match {0}:\n        case [1, *_] if {1}: pass".format, EXPRESSION, EXPRESSION),
    st.builds("if {0}:\n\tawait x".format, EXPRESSION).map(lambda text: text.replace("\n\tawait", "\n    \tawait")),
)
SOURCES = st.lists(SIMPLE, min_size=1, max_size=5).map(
    lambda lines: MARKER + "async def _f():\n    " + "\n    ".join(lines) + "\n"
)


class Blocking(ast.NodeTransformer):
    """Makes a syntax tree wait for nothing; the same idea as the generator's, carried out on the other side."""

    def visit_Await(self, node: ast.Await) -> Any:
        return self.visit(node.value)

    def visit_comprehension(self, node: ast.comprehension) -> Any:
        node.is_async = 0
        return self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> Any:
        node = super().generic_visit(node)
        kind = {ast.AsyncFunctionDef: ast.FunctionDef, ast.AsyncFor: ast.For, ast.AsyncWith: ast.With}.get(type(node))
        fields = {name: getattr(node, name) for name in (*node._fields, *node._attributes) if hasattr(node, name)}
        return kind(**fields) if kind else node


def comments(text: str) -> list[tuple[int, str]]:
    """Return the comments below the first line, each with its line."""
    found = tokenize.generate_tokens(io.StringIO(text).readline)
    return [(token.start[0], token.string) for token in found if token.type == tokenize.COMMENT][1:]


@settings(max_examples=200, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=SOURCES)
def test_a_twin_is_its_source_without_waiting(loaded: ModuleType, text: str) -> None:
    """A twin has the syntax tree that its source has without its keywords, on the same lines, with the same comments."""
    source = loaded.Source(Path("thing.py"), Path("sync_thing.py"), text, ast.parse(text), "pkg.thing")
    twin = loaded.translate(source, loaded.Names({}, {}, {}, set())).decode()
    expected, tree = Blocking().visit(ast.parse(text)), ast.parse(twin)
    assert ast.dump(tree) == ast.dump(expected)
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt | ast.Constant)] == [
        node.lineno for node in ast.walk(expected) if isinstance(node, ast.stmt | ast.Constant)
    ]
    assert comments(twin) == comments(text)
    assert not [
        line for line, old in zip(twin.split("\n"), text.split("\n"), strict=True) if line != old and line.endswith((" ", "\t"))
    ]
