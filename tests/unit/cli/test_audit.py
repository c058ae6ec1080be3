"""`limiter audit` says whether recorded decisions keep every promise."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support.recorded_histories import EPOCH, admitted, refused, write

from limiter import Concurrency, SyncMemoryRepository, SyncRateLimiter
from limiter.audit import record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMIT = "a=10/second"


def test_a_record_that_keeps_its_promises(run: Callable[..., Any], tmp_path: Path) -> None:
    """The verdict names the worst span; the status is 0."""
    path = write(tmp_path / "record", [admitted("a", EPOCH, LIMIT, 7)])
    done = run("audit", str(path))
    assert done.code == 0
    assert "all promises were kept" in done.out
    assert "user/api a=10/second: 7 units of 10 in 0 s from 2027-01-15 08:00:00.000000 UTC" in done.out
    assert not done.err


def test_a_record_that_breaks_a_promise(run: Callable[..., Any], tmp_path: Path) -> None:
    """Each finding is told with its limit and the call that shows it; the status is 1."""
    path = write(tmp_path / "record", [admitted("a", EPOCH, LIMIT, 7), admitted("b", EPOCH, LIMIT, 7)])
    done = run("audit", str(path))
    assert done.code == 1
    assert "broken promises: 1" in done.out
    assert done.err == ("capacity: user/api a=10/second: 4 units beyond the capacity and the refill of 0 s, the last by b\n")


def test_the_verdict_as_json(run: Callable[..., Any], tmp_path: Path) -> None:
    """Programs get all findings and the worst span."""
    path = write(tmp_path / "record", [refused("x", EPOCH, LIMIT)])
    done = run("audit", str(path), "--output", "json")
    found = json.loads(done.out)
    assert (done.code, found["kept"], found["decisions"], found["worst"]) == (1, False, 1, None)
    assert [(each["promise"], each["ids"]) for each in found["findings"]] == [("refusals", ["x"])]


def test_many_findings_are_counted(run: Callable[..., Any], tmp_path: Path) -> None:
    """People see the first of them and how many there are."""
    path = write(tmp_path / "record", [refused(str(each), EPOCH + each, LIMIT) for each in range(25)])
    done = run("audit", str(path))
    assert done.err.count("refused although they fit") == 20
    assert done.err.endswith("and 5 more; --output json shows them all\n")


def test_what_is_not_judged(run: Callable[..., Any], tmp_path: Path) -> None:
    """Promises can be left out, and what was decided without the table is counted."""
    lines = [refused("x", EPOCH, LIMIT), admitted("y", EPOCH, LIMIT, degraded=True)]
    done = run("audit", str(write(tmp_path / "record", lines)), "--skip", "refusals", "--output", "text")
    assert done.code == 0
    assert "without the table\t1\n" in done.out


def test_slots_that_overlap_are_found(run: Callable[..., Any], tmp_path: Path) -> None:
    """A recorded run is judged at every instant: a lease that is shifted into the time of another one is named."""
    now, path = EPOCH, tmp_path / "record"
    limiter = SyncRateLimiter(SyncMemoryRepository(clock=lambda: now), [Concurrency("calls", 1)], on_decision=record(path))
    for _ in range(2):
        with limiter.acquire("user", "api"):
            now += 5 * 10**9
        now += 10**9
    done = run("audit", str(path))
    assert (done.code, "all promises were kept" in done.out) == (0, True)
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    second = lines[-1]["id"]
    early = [each if each["id"] != second else _earlier(each, 3 * 10**9) for each in lines]
    done = run("audit", str(write(path, early)))
    assert done.code == 1
    assert f"capacity: user/api calls=1 at once: 2 slots were held at once, of 1, the last by {second}" in done.err


def _earlier(line: dict[str, Any], by: int) -> dict[str, Any]:
    """Return a line with all its times earlier."""
    charges = [(place, text, units, start and start - by, since) for place, text, units, start, since in line["charges"]]
    return line | {"begin": line["begin"] - by, "end": line["end"] and line["end"] - by, "charges": charges}


def test_files_that_are_no_records(run: Callable[..., Any], tmp_path: Path) -> None:
    """A file that cannot be judged is wrong usage."""
    assert run("audit").code == 2
    done = run("audit", str(tmp_path / "absent"))
    assert (done.code, "cannot read" in done.err) == (2, True)
