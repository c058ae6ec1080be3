"""Hostile limits files write nothing, and hostile stored texts do not control the terminal."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engines import plain_client

from limiter import Limit, SyncRepository, ValidationError, cli
from limiter.cli.limits_file import MAX_BYTES, load
from limiter.cli.output import cell
from limiter.core.records import LimitsKey
from limiter.testing import create_table

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from support.engines import Engine

RIGHT = """\
version: 1
limits: [requests=100/minute]
resources: {gpt-4: [tokens=10000/minute burst 50000]}
entities: {user-42: {limits: [requests=20/minute], resources: {gpt-4: [tokens=2000/minute]}}}
"""
BOMB = "version: 1\na: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
FILES = {
    "laughs": BOMB,
    "merged": "version: 1\nentities: {a: &a {limits: [1/s]}, b: {<<: *a}}\n",
    "itself": "version: 1\nlimits: &a [*a]\n",
    "deep": "version: 1\nlimits: " + "[" * 300_000,
    "deep mapping": "version: 1\nlimits: " + "{a: " * 100_000,
    "blanks": "version: 1\nlimits: ['1/" + " " * 300_000 + "!']\n",
    "equals": "version: 1\nlimits: ['" + "=" * 300_000 + "']\n",
    "digits": "version: 1\nlimits: [" + "9" * 300_000 + "/s]\n",
    "long name": f"version: 1\nentities: {{? '{'x' * 300_000}' : {{limits: [1/s]}}}}\n",
    "many": "version: 1\nlimits: [" + ", ".join(f"a{number}=1/s" for number in range(5_000)) + "]\n",
    "huge": "#" * (MAX_BYTES + 1),
    "twice": RIGHT + "limits: [requests=1/s]\n",
    "twice deep": "version: 1\nentities:\n  a: {limits: [1/s]}\n  a: {limits: [2/s]}\n",
    "code": "version: 1\nlimits: !!python/object/apply:os.system ['touch pwned']\n",
    "code in a key": "version: 1\n? !!python/name:os.system\n: 1\n",
    "directive": "%YAML 9.9\n---\nversion: 1\nlimits: 1\n",
    "documents": RIGHT + "---\n" + RIGHT,
    "number": "42",
    "date": "2026-11-21",
    "list": "[1, 2]",
    "nothing": "",
    "null": "~",
    "binary": "version: 1\nlimits: [\x00]\n",
    "version text": "version: '1.0'\n",
    "limits number": "version: 1\nlimits: 1\n",
    "limits mapping": "version: 1\nlimits: {requests: 1/s}\n",
    "limit null": "version: 1\nlimits: [~]\n",
    "limit nested": "version: 1\nlimits: [[1/s]]\n",
    "entity number": "version: 1\nentities: 1\n",
    "entity null": "version: 1\nentities: {a: ~}\n",
    "control": 'version: 1\nentities: {"a\\e[2J": {limits: [1/s]}}\n',
    "surrogate": 'version: 1\nentities: {"\\ud800": {limits: [1/s]}}\n',
    "negative": "version: 1\nlimits: [requests=-5/s]\n",
    "zero": "version: 1\nlimits: [requests=0/s]\n",
}


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused_within_bounds(name: str) -> None:
    """The error is typed and short, and reading needs only a small multiple of the file's size in memory."""
    text = FILES[name]
    if name != "huge":
        tracemalloc.start()
    try:
        with pytest.raises(ValidationError) as caught:
            load(text, "f")
        assert tracemalloc.get_traced_memory()[1] < 20_000_000 + 60 * len(text)
    finally:
        tracemalloc.stop()
    assert str(caught.value).startswith("f")
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize("size", [200_000])
def test_a_long_list_of_short_things_takes_time_by_its_length(size: int) -> None:
    """The first mistake ends the reading of a file of several megabytes."""
    for text in ("- " * size, "? " * size, "[" + "," * size, "a: b\n" * (size // 5), "'" * size, "&a " * (size // 3)):
        with pytest.raises(ValidationError):
            load(text, "f")


@pytest.fixture
def stack(server_engine: Engine, table_name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A table for the command."""
    create_table(table_name, client=plain_client(str(server_engine.endpoint_url)))
    monkeypatch.setenv("AWS_ENDPOINT_URL", str(server_engine.endpoint_url))
    monkeypatch.setenv("LIMITER_STACK", table_name)
    return table_name


@pytest.mark.engines("dynoxide")
def test_nothing_of_a_hostile_file_is_written(
    stack: str, server_engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`limits apply` ends with code 2 and one line of error; the table stays empty even if only the last line is wrong."""
    file = tmp_path / "limits.yaml"
    half = {"half": RIGHT + "entitties: {}\n", "half limit": RIGHT.replace("tokens=2000/minute", "tokens=fast")}
    for name, text in (FILES | half).items():
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        assert cli.run(["limits", "apply", "--yes", "--file", str(file)]) == 2, name
        error = capsys.readouterr().err
        assert error.startswith(("Error: ", "Usage: ")), name
        assert len(error) < 2_000, name
        assert "Traceback" not in error, name
    for content in (b"\xff\xfe\x00", b"version: 1\nlimits: ['\xff']\n", bytes(range(256)), b"\x1f\x8b\x08" * 1_000):
        file.write_bytes(content)
        assert cli.run(["limits", "apply", "--yes", "--file", str(file)]) == 2
    assert cli.run(["limits", "apply", "--yes", "--file", str(tmp_path)]) == 2
    assert plain_client(str(server_engine.endpoint_url)).scan(TableName=stack)["Items"] == []


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.dates() | st.binary(max_size=4)
words = st.sampled_from(["version", "limits", "resources", "entities", "a", "b", "1/s", "a=5/minute", "a#b"])
nodes = st.recursive(
    scalars | words,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(words | scalars.filter(lambda key: key == key), inner, max_size=4)
    ),
    max_leaves=10,
)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(nodes, st.booleans())
def test_any_document_is_read_or_refused(document: Any, flow: bool) -> None:
    """A document of any shape yields valid limits, or a typed error."""
    try:
        found = load(yaml.dump({"version": 1, "limits": document} if flow else document), "f")
    except ValidationError as error:
        assert str(error).startswith("f")  # noqa: PT017 - some of these are right
    else:
        assert all(isinstance(limit, Limit) for limits in found.values() for limit in limits)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_right_file_with_a_few_bytes_changed(chance: random.Random) -> None:
    """A file with a few random bytes changed is read or refused with a typed error."""
    text = list(RIGHT)
    for _ in range(chance.randint(1, 6)):
        text[chance.randrange(len(text))] = chance.choice("[]{}:,#&*!|>'\"%@`\t\n -?0aé\x00\x85\ufeff")
    try:
        load("".join(text), "f")
    except ValidationError as error:
        assert str(error).startswith("f")  # noqa: PT017 - some of these are right


EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202e"


@pytest.mark.engines("dynoxide")
@pytest.mark.parametrize("output", ["table", "text", "json"])
def test_what_is_stored_does_not_steer_a_terminal(
    output: str, stack: str, server_engine: Engine, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Control characters in metadata, keys and errors are shown in visible form."""
    client = plain_client(str(server_engine.endpoint_url))
    item = {"pk": {"S": "default#user"}, "sk": {"S": "e"}, "v": {"N": "1"}, "cascade": {"BOOL": True}, "name": {"S": EVIL}}
    client.put_item(TableName=stack, Item=item | {"metadata": {"M": {EVIL: {"S": EVIL}}}})
    with SyncRepository(stack, client=client) as repository:
        repository.write_limits(LimitsKey(EVIL), (Limit.per_second("a", 1),))
        repository.write_limits(LimitsKey("user", EVIL), (Limit.per_second("a", 1),))
    client.put_item(TableName=stack, Item={"pk": {"S": f"{EVIL}#x"}, "sk": {"S": f"b#{EVIL}"}})
    client.put_item(TableName=stack, Item={"pk": {"S": "default#user"}, "sk": {"S": f"b#{EVIL}"}})
    (tmp_path / "limits.yaml").write_text("version: 1\n")
    calls = [
        ["entity", "show", "user"],
        ["entity", "list", "--resource", EVIL.replace("\x1b", "x")],
        ["namespace", "list"],
        ["limits", "plan", "--prune", "--file", str(tmp_path / "limits.yaml")],
        ["limits", "set", f"{EVIL}=1/s"],
        ["limits", "get", "--entity", EVIL],
        ["limits", "delete", "--yes", "--entity", EVIL],
        ["check", EVIL, "api"],
    ]
    for call in calls:
        cli.run([*call, "--output", output])
        shown = "".join(capsys.readouterr())
        assert shown
        assert not {"\x1b", "\x07", "\x9b", "\r", "\u202e"} & set(shown), call


def test_what_is_printable_is_shown_as_it_is() -> None:
    """Printable letters of every script are shown unchanged."""
    assert cell("Zoë 北京 مرحبا 💥") == "Zoë 北京 مرحبا 💥"
    assert cell("a\x1b[2J") == "a\\x1b[2J"
