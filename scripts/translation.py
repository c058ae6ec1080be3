"""Translate async source texts into sync ones.

The text is edited, never printed anew: `ast` tells what a name or a string is, `tokenize` where it stands. Comments stay, and
every line of a twin has the number of the line it came from. ADR-122 says why.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# The rules, one a line. A rule that no source uses is an error: delete its line.
KEYWORDS = {  # Dropped, with the blanks after them.
    "async def",
    "async for",
    "async with",
    "await",
}
WORDS = {  # Names, in code, comments and docstrings.
    "AsyncIterator": "Iterator",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
}
DOTTED = {  # Attributes of asyncio; `import asyncio` imports what they need.
    "asyncio.Event": "threading.Event",
    "asyncio.Lock": "threading.Lock",
    "asyncio.sleep": "time.sleep",
}
UNWRAPPED = {  # Generic types, of which the last argument remains, and their number of arguments.
    "Awaitable": 1,
}
NO_RULE = re.compile(  # Names that no generated file can contain.
    r"async|await|asyncio|aio[a-z]\w*|Async[A-Z]\w*|__a(?!ll__|nnotations__|dd__|nd__|bs__)\w+__|_*a(?:close|send|throw)\w*"
    r"|assert_\w*await\w*|await_(?:count|args|args_list)|Awaitable|Coroutine|CancelledError|TaskGroup|(?:Bounded)?Semaphore"
    r"|create_task|ensure_future|gather|shield|wait_for|to_thread|run_in_executor|run_until_complete|(?:\w+Pool)?Executor"
    r"|get_(?:running|event)_loop|run_coroutine_threadsafe|iscoroutine(?:function)?|isawaitable|isasyncgen(?:function)?"
)
CHAIN = re.compile(r"\b(?!\d)\w+(?:\.(?!\d)\w+)*")
PROSE = re.compile(r"\basync +(?=(?:def|for|with)\b)|\bawait +(?=[\w.]+[(\[])|(?:(?<=`)|(?<=>>> )|(?<== ))await +(?=\w)")
BLANKS = re.compile(r"(?:[ \t\f\n]|\\\n)*")
LITERAL = re.compile(r"""(?is)[a-z]*(?:("{3}|'{3})(?:\\.|(?!\1).)*\1|(["'])(?:\\.|(?!\2)[^\n])*\2)""")
PATCH = re.compile(r"(?:\w+\.)*(?:patch(?:\.\w+)?|setattr|delattr)")


class Failure(Exception):
    """A source cannot be translated."""


@dataclass
class Token:
    """A token, the text before it, and its place as ast gives it: the line, and the column in bytes."""

    kind: int
    text: str
    gap: str
    place: tuple[int, int]


class Names(NamedTuple):
    """What the whole tree renames, and the rules that it has used."""

    classes: dict[str, str]
    functions: dict[str, str]
    modules: dict[str, str]  # dotted names of sources, and of seams and packages, which keep theirs
    used: set[str]

    def known(self, dotted: str) -> str:
        """Return the longest start of a dotted name that is one of the modules."""
        return max((name for name in self.modules if f"{dotted}.".startswith(f"{name}.")), default="")


class Source(NamedTuple):
    """A file to translate."""

    path: Path
    twin: Path
    text: str
    tree: ast.Module
    module: str  # dotted name; empty for a test

    def failure(self, line: int, reason: str) -> Failure:
        """Return the error that names a line and its text."""
        return Failure(f"{self.path}:{line}: {reason}: {self.text.split(chr(10))[line - 1].strip()}")

    def origin(self, node: ast.ImportFrom) -> str:
        """Return the dotted name of the module that a statement imports from."""
        parents = self.module.split(".")[: -node.level] if node.level else []
        return ".".join([*parents, *filter(None, [node.module])])


class Translation:
    """The tokens of a source, while they become those of the generated file."""

    def __init__(self, source: Source, names: Names) -> None:
        self.source, self.names = source, names
        self.tokens = list(tokens(source))
        self.at = {token.place: index for index, token in enumerate(self.tokens)}
        self.nodes = list(ast.walk(source.tree))
        joined = reversed([node for node in self.nodes if isinstance(node, ast.JoinedStr)])
        self.formatted = {inner: outer.lineno for outer in joined for inner in ast.walk(outer)}
        self.needed: set[str] = set()  # Modules that stand in for asyncio.
        found = {node.name for node in source.tree.body if isinstance(node, ast.AsyncFunctionDef) and source.module}
        for node in self.nodes:
            if isinstance(node, ast.ImportFrom) and names.known(source.origin(node)):
                found |= {alias.name for alias in node.names if not alias.asname}
        self.functions = found & names.functions.keys()

    def result(self) -> str:
        """Return the translated text."""
        for node in self.nodes:
            if node in self.formatted:
                self.check_formatted(node)
            elif isinstance(node, ast.Subscript):
                self.unwrap(node)
        for node in references(self.source.tree, self.functions):
            self.rename_function(node)
        self.edit_strings()
        for index, token in enumerate(self.tokens):
            if token.kind == tokenize.NAME:
                self.edit_name(index, token)
        for node in self.nodes:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self.edit_import(node)
        return self.joined()

    def joined(self) -> str:
        """Join the tokens; a dropped one also removes the blanks after it, or at the end of a line those before it."""
        ruled = [token for token in self.tokens if token.kind == tokenize.NAME and NO_RULE.fullmatch(token.text)]
        if ruled:
            found = (self.source.failure(token.place[0], f"no rule translates `{token.text}`") for token in ruled)
            raise Failure("\n".join(map(str, found)))
        text, dropped = "", False
        for token in self.tokens:
            blank = dropped and token.kind != tokenize.COMMENT and not re.match(r"[\w)\]}\"']", text[-1:])
            gap = token.gap.lstrip(" \t") if blank else token.gap
            text = text.rstrip(" \t") if dropped and gap.startswith("\n") else text
            text, dropped = text + gap + token.text, not token.text
        return text

    def check_formatted(self, node: ast.AST) -> None:
        """Refuse an f-string that would need translating: Python 3.11 does not report the positions in it."""
        words = {str(getattr(node, name, "")) for name in ("id", "attr", "arg")}
        ruled = bool(words & {*WORDS, *UNWRAPPED, *self.names.classes}) or any(map(NO_RULE.fullmatch, words))
        if ruled or isinstance(node, ast.Await) or getattr(node, "is_async", False):
            raise self.source.failure(self.formatted[node], "move this out of the f-string")

    def drop(self, start: tuple[int, int], end: tuple[int, int]) -> list[Token]:
        """Drop the tokens between two places, but no comments."""
        dropped = [token for token in self.tokens if start <= token.place < end and token.kind != tokenize.COMMENT]
        for token in dropped:
            token.text = ""
        return dropped

    def unwrap(self, node: ast.Subscript) -> None:
        """Replace a generic type by its last argument; one that spans lines is put in parentheses."""
        rule = ast.unparse(node.value).rpartition(".")[2]
        arguments = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if UNWRAPPED.get(rule) == len(arguments):
            self.names.used.add(rule)
            (start, end), (first, last) = span(node), span(arguments[-1])
            opening, closing = self.drop(start, first)[0], self.drop(last, end)[-1]
            if start[0] != end[0]:
                opening.text, closing.text = "()"

    def rename_function(self, node: ast.AST) -> None:
        """Rename a function where it is used or, at top level, defined."""
        if node in self.formatted:
            raise self.source.failure(self.formatted[node], "move this out of the f-string")
        index = self.at[span(node)[0]]
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            self.tokens[index].text = self.names.functions[node.id]
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node in self.source.tree.body:
            next(token for token in self.tokens[index:] if token.text == node.name).text = self.names.functions[node.name]
        else:
            raise self.source.failure(self.tokens[index].place[0], "this hides a renamed function")

    def edit_strings(self) -> None:
        """Edit comments, and the strings that are not data."""
        found = [(*span(node), role) for node, role in strings(self.nodes) if node not in self.formatted]
        roles = {start: (end, role) for start, end, role in found}
        end, role = (0, 0), ""
        for token in self.tokens:
            end, role = roles.get(token.place, (end, role))
            if token.kind == tokenize.COMMENT:
                token.text = self.string(token.text, "prose")
            elif token.kind == tokenize.STRING and token.place < end:
                token.text = self.string(token.text, role)
                if role != "prose" and any(map(NO_RULE.fullmatch, re.findall(r"\w+", token.text))):
                    raise self.source.failure(token.place[0], f"no rule translates {token.text}")

    def string(self, text: str, role: str) -> str:
        """Translate a string by its role: prose, code (in an annotation or `__all__`), or the target of a patch."""
        body = text.strip("\"'")
        if role == "code" and body in self.functions:
            return text.replace(body, self.names.functions[body])
        if role != "target":
            return CHAIN.sub(self.chain, PROSE.sub("", text))
        module = self.names.known(body)
        rest = re.sub(r"\A\.(\w+)", lambda match: f".{self.names.functions.get(match[1], match[1])}", body[len(module) :])
        return text.replace(body, self.names.modules.get(module, "") + CHAIN.sub(self.chain, rest), 1)

    def chain(self, match: re.Match[str]) -> str:
        """Translate a dotted name in a string; a function's name is an ordinary word unless it is called."""
        text = match[0]
        for rule in (rule for rule in DOTTED if f"{text}.".startswith(f"{rule}.")):
            self.names.used.add(rule)
            text = text.replace(rule, DOTTED[rule], 1)
        if text in self.functions and match.string.startswith("(", match.end()):
            return self.names.functions[text]
        return ".".join(map(self.word, text.split(".")))

    def word(self, word: str) -> str:
        """Translate one name."""
        self.names.used.update({word} & WORDS.keys())
        return WORDS.get(word) or self.names.classes.get(word, word)

    def edit_name(self, index: int, token: Token) -> None:
        """Edit a keyword or a name."""
        dotted = "".join(part.text for part in self.tokens[index : index + 3])
        if token.text in {"async", "await"}:
            self.names.used.add(f"async {self.tokens[index + 1].text}" if token.text == "async" else "await")
            token.text = ""
        elif dotted in DOTTED and self.tokens[index - 1].text != ".":
            self.names.used.add(dotted)
            token.text, self.tokens[index + 2].text = DOTTED[dotted].split(".")
            self.needed.add(token.text)
        else:
            token.text = self.word(token.text)

    def edit_import(self, node: ast.Import | ast.ImportFrom) -> None:
        """Rename the modules of an import, and drop names that are unwrapped everywhere."""
        start, end = span(node)
        module = ""
        if isinstance(node, ast.ImportFrom):
            module = self.source.origin(node)
            if node.module and module in self.names.modules:
                keyword = next(index for index in range(self.at[start], len(self.tokens)) if self.tokens[index].text == "import")
                self.tokens[keyword - 1].text = self.names.modules[module].rpartition(".")[2]
        for alias in node.names:
            self.edit_alias(self.at[span(alias)[0]], module, alias)
        if all(alias.name in UNWRAPPED for alias in node.names):
            self.drop(start, end)[0].text = "pass" if node.col_offset else ""

    def edit_alias(self, index: int, module: str, alias: ast.alias) -> None:
        """Rename what is imported, or drop it with a comma."""
        twin = self.names.modules.get(f"{module}.{alias.name}" if module else alias.name, "").rpartition(".")[2]
        last = self.tokens[index + 2 * alias.name.count(".")]
        if twin and twin == alias.name.rpartition(".")[2] and (module or twin != alias.name):
            raise self.source.failure(alias.lineno, "import the names of a seam, not the seam")
        if alias.name in UNWRAPPED:
            before = next(token for token in reversed(self.tokens[:index]) if token.text)
            last.text = next((token for token in (self.tokens[index + 1], before) if token.text == ","), last).text = ""
        elif alias.name == "asyncio" and not module and not alias.asname:
            last.text = ", ".join(sorted(self.needed)) or last.text
        elif twin:
            last.text = f"{twin} as {alias.name}" if module and not alias.asname else twin
        elif self.names.known(module) and alias.name in self.names.functions:
            last.text = self.names.functions[alias.name]


def tokens(source: Source) -> Iterator[Token]:
    """Yield the tokens of a source except line ends; an f-string is one token, as in Python 3.11.

    Places are counted here: Python 3.12.1 tells wrong ones behind letters outside of ASCII.
    """
    opening, closing = getattr(tokenize, "FSTRING_START", -1), getattr(tokenize, "FSTRING_END", -1)
    ignored = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, closing}
    text, depth, line, end = source.text, 0, 1, 0
    for token in tokenize.generate_tokens(io.StringIO(text, newline="").readline):
        inside, depth = depth, depth + (token.type == opening) - (token.type == closing)
        if not inside and token.type not in ignored:
            gap = next(BLANKS.finditer(text, end))[0]
            start, line = end + len(gap), line + gap.count("\n")
            literal = LITERAL.match(text, start) if token.type == opening else None
            string = literal[0] if literal else token.string
            if not text.startswith(token.string, start):
                raise source.failure(line, "Python 3.11 cannot read this string")
            place = line, len(text[text.rfind("\n", 0, start) + 1 : start].encode())
            yield Token(tokenize.STRING if literal else token.type, string, gap, place)
            end, line = start + len(string), line + string.count("\n")


def span(node: ast.AST) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the places where a node begins and ends."""
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)  # type: ignore[attr-defined]


def references(node: ast.AST, visible: set[str], parent: ast.AST | None = None) -> Iterator[ast.AST]:
    """Yield what refers to or binds a module-level name; parameters hide it, and attributes and methods are other names."""
    name = node.id if isinstance(node, ast.Name) else getattr(node, "name", None)
    other = isinstance(node, ast.alias) or (isinstance(parent, ast.ClassDef) and not isinstance(node, ast.Name))
    if name in visible and not other:
        yield node
    inner, body = visible, getattr(node, "body", None)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        inner = visible - {argument.arg for argument in ast.iter_child_nodes(node.args) if isinstance(argument, ast.arg)}
    for child in ast.iter_child_nodes(node):
        inside = child is body or (isinstance(body, list) and child in body)
        yield from references(child, inner if inside else visible, node)


def strings(nodes: Sequence[ast.AST]) -> Iterator[tuple[ast.AST, str]]:
    """Yield the string constants that are not data, each with its role."""
    generic = [(ast.unparse(node.value), node.slice) for node in nodes if isinstance(node, ast.Subscript)]
    data = {inner for name, values in generic if name.endswith(("Literal", "Annotated")) for inner in ast.walk(values)}
    for node in nodes:
        codes = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node):
            yield node.body[0].value, "prose"  # type: ignore[attr-defined]  # a docstring is an Expr
        if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            codes += [node.value for target in targets if ast.unparse(target) == "__all__"]
        if isinstance(node, ast.Call) and node.args:
            codes += [node.args[0]] if ast.unparse(node.func) in {"cast", "typing.cast"} else []
            target = getattr(node.args[0], "value", None)
            if isinstance(target, str) and CHAIN.fullmatch(target) and PATCH.fullmatch(ast.unparse(node.func)):
                yield node.args[0], "target"
        for inner in (inner for code in codes if code for inner in ast.walk(code)):
            if isinstance(inner, ast.Constant) and inner not in data:
                yield inner, "code"
