"""The file of limits: read with line numbers, written so that it reads back, and hostile ones refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter import Limit, LimiterError, ValidationError
from limiter.cli.limits_file import Levels, changes, diff_lines, dump, load
from limiter.core.records import LimitsKey

FILE = """\
version: 1
limits: [requests=100/minute, tokens=10000/minute burst 50000]
resources:
  gpt-4: [tokens=5000/minute]
entities:
  user-42:
    limits:
      - requests=20/minute
    resources:
      gpt-4: [tokens=2000/minute]
  "123": {limits: [5/s]}
"""


def parse(*texts: str) -> tuple[Limit, ...]:
    """Limits."""
    return tuple(map(Limit.parse, texts))


def test_all_levels() -> None:
    """A file has a place for each of the four levels, and names are texts whatever they look like."""
    assert load(FILE, "f") == {
        LimitsKey(): parse("requests=100/minute", "tokens=10000/minute burst 50000"),
        LimitsKey(None, "gpt-4"): parse("tokens=5000/minute"),
        LimitsKey("user-42"): parse("requests=20/minute"),
        LimitsKey("user-42", "gpt-4"): parse("tokens=2000/minute"),
        LimitsKey("123"): parse("5/s"),
    }
    assert load("version: 1\nentities: {123: {limits: [5/s]}, true: {limits: [5/s]}}", "f").keys() == {
        LimitsKey("123"),
        LimitsKey("true"),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f is empty"),
        ("# only this\n", "f is empty"),
        ("limits: [1/s]\n", "f:1: the file needs `version: 1`"),
        ("limits: [1/s]\nversion: 2\n", "f:2: the file needs `version: 1`"),
        ("version: 1\n\nresorces: {}\n", "f:3: unknown key 'resorces'; here can be version, limits, resources, entities"),
        ("version: 1\nentities:\n  a:\n    limit: [1/s]\n", "f:4: unknown key 'limit'; here can be limits, resources"),
        ("version: 1\nlimits: 1/s\n", "f:2: here has to be a list"),
        ("version: 1\nlimits: []\n", "f:2: here has to be a list"),
        ("version: 1\nlimits:\n", "f:2: here has to be a list"),
        ("version: 1\nlimits:\n- 1/s\n- fast\n", "f:4: 'fast' is not a limit"),
        ("version: 1\nlimits:\n- [1/s]\n", "f:3: a limit is a text"),
        ("version: 1\nlimits: [a=1/s, a=2/s]\n", "f:2: limit 'a' is given twice"),
        ("version: 1\nlimits: [a=99999999999/s]\n", "f:2: limit 'a' refills"),
        ("version: 1\nresources:\n  gpt-4: [1/s]\n  gpt-4: [2/s]\n", "f:4: 'gpt-4' is there twice"),
        ("version: 1\nversion: 1\n", "f:2: 'version' is there twice"),
        ("version: 1\nresources:\n  'a#b': [1/s]\n", "f:3: resource must not hold '#'"),
        ("version: 1\nentities:\n  '': {limits: [1/s]}\n", "f:3: entity must have 1 to 255 characters"),
        ("version: 1\nresources: [1/s]\n", "f:2: here has to be a mapping"),
        ("version: 1\n? [a]\n: b\n", "f:2: a name has to be a text"),
        ("- version: 1\n", "f:1: here has to be a mapping"),
        ("version: 1\nlimits: [1/s\n", "f:3: "),
        ("version: 1\n\tlimits: [1/s]\n", "f:2: "),
        ("version: 1\n---\nversion: 1\n", "f:2: "),
        ("version: 1\nlimits: [!!python/object/apply:os.system ['true']]\n", "f:2: tags such as"),
        ("version: 1\nlimits: [!include secrets]\n", "f:2: tags such as !include"),
        ("version: !!int 1\n", "f:1: tags such as"),
        ("version: 1\nlimits: &a [1/s]\nresources: {x: *a}\n", "f:2: anchors and aliases"),
        ("version: 1\nlimits: " + "[" * 5000, "f:2: "),  # libyaml has a bound of its own since 2026, and words of its own
        ("version: 1\nlimits: " + "[" * 9 + "]" * 9, "f:2: nested more than 8 deep"),
        ("version: 1\nlimits: [1/s]\x00\n", "f: "),
    ],
)
def test_bad_files_are_refused_with_their_line(text: str, message: str) -> None:
    """The message names the file, the line and what is wrong there."""
    with pytest.raises(ValidationError) as caught:
        load(text, "f")
    assert str(caught.value).startswith(message)


def test_a_bomb_does_not_go_off() -> None:
    """Aliases that would grow to gigabytes are refused before anything is built."""
    bomb = "version: 1\na: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    with pytest.raises(ValidationError, match="f:2: anchors and aliases"):
        load(bomb, "f")


def test_a_huge_file() -> None:
    """A file beyond four megabytes is refused unread."""
    with pytest.raises(ValidationError, match="larger than"):
        load("#" * (4 * 1024 * 1024 + 1), "f")


names = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="#" + "".join(map(chr, [*range(32), *range(127, 160)]))),
    min_size=1,
    max_size=20,
)
optional_names = st.none() | names
limits = st.builds(
    Limit,
    name=names.filter(lambda name: "=" not in name and name == name.strip()),
    capacity=st.integers(1, 10**6),
    refill_amount=st.integers(100, 10**6),
    refill_period=st.sampled_from([1.0, 60.0, 90.0, 3600.0, 86400.0]),
)
levels = st.dictionaries(
    st.builds(LimitsKey, optional_names, optional_names),
    st.lists(limits, min_size=1, max_size=3, unique_by=lambda limit: limit.name).map(tuple),
    max_size=6,
)


@given(levels)
def test_what_is_written_is_read_back(found: Levels) -> None:
    """Whatever is stored, under whatever names, an export of it changes nothing when it is applied."""
    again = load(dump(found), "f")
    assert again == found
    assert changes(found, again, prune=True) == []


@given(levels, levels, st.booleans())
def test_applying_changes_makes_what_is_wanted(stored: Levels, wanted: Levels, prune: bool) -> None:
    """Applied to what is stored, the changes give the wanted levels, and leave the others unless they are pruned."""
    result: dict[Any, Any] = dict(stored)
    for change in changes(stored, wanted, prune=prune):
        if change.action == "remove":
            del result[change.key]
        else:
            assert (change.key in stored) == (change.action == "change")
            result[change.key] = change.after
    expected = wanted if prune else {**stored, **wanted}
    assert {key: set(value) for key, value in result.items()} == {key: set(value) for key, value in expected.items()}
    assert changes(result, wanted, prune=prune) == []


def test_a_limit_that_no_text_can_name() -> None:
    """An export that could not be applied is not written; the message names the level."""
    with pytest.raises(LimiterError, match="of entity user cannot be written"):
        dump({LimitsKey("user"): (Limit.per_second(" a", 1),)})


def test_a_change_as_a_diff() -> None:
    """Only what differs is shown."""
    stored = {LimitsKey(): parse("a=1/s", "b=1/s"), LimitsKey("user"): parse("a=1/s")}
    wanted = {LimitsKey(): parse("b=1/s", "a=2/s"), LimitsKey(None, "api"): parse("a=3/s")}
    lines = [line for change in changes(stored, wanted, prune=True) for line in diff_lines(change)]
    assert lines == [
        "- entity user",
        "    - a=1/second",
        "~ namespace",
        "    - a=1/second",
        "    + a=2/second",
        "+ resource api",
        "    + a=3/second",
    ]
