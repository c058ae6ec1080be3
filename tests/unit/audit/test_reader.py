"""Records are read from any number of files, and lines that are no records are reported."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support.recorded_histories import EPOCH, admitted, refunded, write

from limiter import ValidationError
from limiter.audit import judge

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = "a=10/second"


def test_several_files_are_one_history(tmp_path: Path) -> None:
    """The records of two processes count together, in any order of the files."""
    one = write(tmp_path / "one", [admitted("a", EPOCH, LIMIT, 6)])
    two = write(tmp_path / "two", [admitted("b", EPOCH, LIMIT, 6, process="q"), refunded("b", EPOCH + 1, None, LIMIT, 1)])
    assert judge(one)
    assert judge(two)
    for paths in ((one, two), (two, one), (one, two, str(one))):
        found = judge(*paths)
        assert [each.promise for each in found.findings] == ["capacity"]
        assert (found.events, found.decisions, found.limits) == (3, 2, 1)


def test_a_line_that_was_cut_off_is_counted(tmp_path: Path) -> None:
    """The last line of a process that was killed may be incomplete."""
    path = write(tmp_path / "record", [admitted("a", EPOCH, LIMIT)])
    path.write_text(path.read_text() + '{"event":"deci')
    assert (judge(path).decisions, judge(path).cut) == (1, 1)


@pytest.mark.parametrize(
    "text",
    [
        "hello\n",
        "[1]\n",
        "{}\n",
        json.dumps({**admitted("a", EPOCH, LIMIT), "event": "rumour"}) + "\n",
        json.dumps({**admitted("a", EPOCH, LIMIT), "buckets": []}) + "\n",
        json.dumps({**admitted("a", EPOCH, LIMIT), "begin": "now"}) + "\n",
        '{"event":"deci\n{"event":"decision"}\n',
    ],
)
def test_what_is_no_record_is_said_to_be_none(text: str, tmp_path: Path) -> None:
    """The error names the file, the line, and what a file has to contain."""
    path = tmp_path / "record"
    path.write_text(json.dumps(admitted("a", EPOCH, LIMIT)) + "\n" + text)
    with pytest.raises(ValidationError, match=r"record', line 2, is not a record .*; give files that record\(\) has"):
        judge(path)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    """A file that is absent or binary, an unknown limit, and an unknown promise are errors."""
    with pytest.raises(ValidationError, match=r"cannot read .*absent': No such file"):
        judge(tmp_path / "absent")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\n")
    with pytest.raises(ValidationError, match="is not a record after line 0"):
        judge(tmp_path / "binary")
    with pytest.raises(ValidationError, match="'a=1 sometimes' is not the text of a limit"):
        judge(write(tmp_path / "record", [admitted("a", EPOCH, "a=1 sometimes")]))
    with pytest.raises(ValidationError, match="time zone 'Mars/Olympus' is not known here"):
        judge(write(tmp_path / "record", [admitted("a", EPOCH, "a=1/day in Mars/Olympus")]))
    with pytest.raises(ValidationError, match="unknown promise 'all' to skip; expected some of: capacity, refusals"):
        judge(write(tmp_path / "record", []), skip=["all"])


def test_an_empty_record_keeps_every_promise(tmp_path: Path) -> None:
    """A record without decisions keeps every promise, and has no worst span."""
    found = judge(write(tmp_path / "record", []))
    assert found
    assert found.worst is None


def test_decisions_without_the_table_are_counted_and_not_judged(tmp_path: Path) -> None:
    """Calls that an outage let through are beyond the limits, and excuse refusals after them."""
    lines = [admitted(str(each), EPOCH, LIMIT, 9, degraded=True) for each in range(3)]
    found = judge(write(tmp_path / "record", lines))
    assert found
    assert (found.decisions, found.degraded) == (3, 3)
