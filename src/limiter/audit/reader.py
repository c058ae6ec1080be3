"""Reads records into accounts: the charges, refunds and refusals of each limit of each bucket, with their times."""

from __future__ import annotations

import gc
import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.units import NANOSECONDS
from ..exceptions import ValidationError
from .rules import Rule, rule

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

FOREVER = 1 << 100
"""Later than any time in nanoseconds."""
LATE = 60 * NANOSECONDS
"""Nanoseconds after a failed call in which its write may still be applied."""

Place = tuple[str, str, str]
"""An entity, a resource, and the text of a limit."""
Taking = tuple[int, int, int, int, str, int | None]
"""Units that were allowed: start, begin, end, units, id, since."""
Change = tuple[int, int, int, str]
"""Units that were refunded, or consumed unconditionally, at some time in an interval: begin, end, units, id."""
Refusal = tuple[int, int, int, int]
"""Units that were refused: begin, end, units, and the index in `History.refusals`."""


class Account:
    """The record of one limit of one bucket.

    `forced` are units consumed unconditionally, `withdrawals` units of any lease that were given back from outside. `doubts` are
    units that may have been consumed: calls that failed, or were decided without the table. `passing` are units that a call which
    was refused, in the end or at first, may have held for a time, while its other buckets were asked. `owners` are the processes
    of the calls that hold slots, by id; None for other kinds. `booked` says that a caller may have had to wait.
    """

    ENTRIES = ("takings", "forced", "refunds", "withdrawals", "resets", "pauses", "expiries", "doubts", "passing", "refusals")
    __slots__ = ("booked", "entity_id", "owners", "resource", "rule", "text", *ENTRIES)

    def __init__(self, place: Place, limit: Rule) -> None:
        self.entity_id, self.resource, self.text = place
        self.rule = limit
        self.booked = False
        self.takings: list[Taking] = []
        self.forced: list[Change] = []
        self.refunds: list[Change] = []
        self.withdrawals: list[Change] = []
        self.resets: list[Change] = []
        self.pauses: list[Change] = []
        self.expiries: list[Change] = []
        self.doubts: list[Change] = []
        self.passing: list[Change] = []
        self.refusals: list[Refusal] = []
        self.owners: dict[str, str] | None = {} if limit.kind == "slots" else None

    @property
    def bucket(self) -> tuple[str, str]:
        """The entity and the resource."""
        return self.entity_id, self.resource

    def enter_passing(self, begin: int, end: int, units: int, identifier: str, *, waits: bool) -> None:
        """Enter units that a call may have taken and given back. A turn that others were booked behind is not given back."""
        self.passing.append((begin, end, units, identifier))
        if waits:
            self.doubts.append((begin, end, units, identifier))

    def joined(self, others: Iterable[Account]) -> Account:
        """Return this account with the entries of others of the same bucket."""
        whole = Account((*self.bucket, self.text), self.rule)
        for each in (self, *others):
            whole.booked |= each.booked
            for name in Account.ENTRIES:
                getattr(whole, name).extend(getattr(each, name))
        return whole


class Refused(NamedTuple):
    """A call that was refused: when, and how many enforced limits may have refused it."""

    begin: int
    end: int
    id: str
    limits: int
    headroom: float | Mapping[str, float]
    buckets: tuple[tuple[str, str], ...]

    def share(self, name: str) -> float:
        """Return the share of a limit that the call left to others."""
        return self.headroom if isinstance(self.headroom, int | float) else self.headroom.get(name, 0.0)


class Chained(NamedTuple):
    """What one line says of the buckets of a call with several buckets."""

    event: str
    id: str
    buckets: tuple[tuple[str, str], ...]
    charged: frozenset[tuple[int, str, int]]


class History:
    """The content of the records, ready to be judged."""

    def __init__(self) -> None:
        self.accounts: dict[Place, Account] = {}
        self.refusals: list[Refused] = []
        self.chained: list[Chained] = []
        self.fences: dict[tuple[str, str], list[tuple[int, int, int, str]]] = {}
        self.oversized: set[str] = set()
        self.last: dict[str, int] = {}
        self._chains: set[str] = set()
        self._unwritten: dict[tuple[str, int], list[tuple[list[Change], int]]] = {}
        self.events = self.decisions = self.degraded = self.failed = self.cut = 0

    def account(self, place: Place) -> Account:
        """Return the account of one limit of one bucket, made on first use."""
        found = self.accounts.get(place)
        if found is None:
            found = self.accounts[place] = Account(place, rule(place[2]))
        return found

    def groups(self, *kinds: str) -> Iterator[list[Account]]:
        """Return the accounts of these kinds by ascending capacity, grouped by what they count together."""
        shared: dict[tuple[Any, ...], list[Account]] = {}
        for account in self.accounts.values():
            if account.rule.kind in kinds:
                shared.setdefault((account.bucket, account.rule.identity), []).append(account)
        for group in shared.values():
            yield sorted(group, key=lambda each: each.rule.capacity)

    def enter(self, fields: Mapping[str, Any]) -> None:
        """Enter one line; raises `KeyError`, `TypeError` or `ValueError` for a malformed line."""
        event, begin, end = fields["event"], fields["begin"], fields["end"]
        buckets, charges = fields["buckets"], fields["charges"]
        self.events += 1
        process = fields["process"]
        if begin > self.last.get(process, 0):
            self.last[process] = begin
        # The common case first: a decision that consumed units.
        if (event == "decision" or event == "consume") and fields["outcome"] == "allowed" and "degraded" not in fields:
            self.decisions += 1
            identifier, waits = fields["id"], "waits" in fields
            for place, text, units, start, since in charges:
                entity, resource = buckets[place]
                account = self.accounts.get((entity, resource, text)) or self.account((entity, resource, text))
                if not units and not account.rule.enforced:
                    continue  # A shadow that would have refused.
                account.takings.append((start, begin, end, units, identifier, since))
                if waits or start > end:
                    account.booked = True
                if account.owners is not None:
                    account.owners[identifier] = process
            if "fence" in fields or "oversize" in fields or "retried" in fields:
                self._enter_options(fields)
        elif event == "decision" or event == "consume":
            self.decisions += 1
            self._enter_undecided(fields)
        else:
            self._enter_change(fields)
        if charges and (len(buckets) > 1 or fields["id"] in self._chains):
            self._chains.add(fields["id"])
            charged = frozenset((place, text, units) for place, text, units, *_ in charges)
            self.chained.append(Chained(f"{event} {fields['outcome']}", fields["id"], tuple(map(tuple, buckets)), charged))

    def _enter_options(self, fields: Mapping[str, Any]) -> None:
        if "fence" in fields:
            entity, resource = fields["buckets"][0]
            entry = fields["begin"], fields["end"], fields["fence"], fields["id"]
            self.fences.setdefault((entity, resource), []).append(entry)
        if "oversize" in fields:
            self.oversized.add(fields["id"])
        if "retried" in fields and len(fields["buckets"]) > 1:
            for place, text, units, *_ in fields["charges"]:
                account = self.account((*fields["buckets"][place], text))
                account.enter_passing(fields["begin"], fields["end"], units, fields["id"], waits=True)

    def _enter_undecided(self, fields: Mapping[str, Any]) -> None:
        """Enter a decision that consumed nothing, or whose effect is unknown."""
        begin, end, outcome = fields["begin"], fields["end"], fields["outcome"]
        degraded, number, identifier = fields.get("degraded", False), len(self.refusals), fields["id"]
        self.degraded += degraded
        self.failed += outcome == "failed"
        enforced = 0
        for place, text, units, *_ in fields["charges"]:
            account = self.account((*fields["buckets"][place], text))
            chained = len(fields["buckets"]) > 1
            if chained or (outcome == "failed" and not degraded):  # An interrupted call gives back what it has taken.
                account.enter_passing(begin, end, units, identifier, waits=chained and "waits" in fields)
            if outcome != "refused":
                # Units allowed without the table are charged when it is back.
                account.doubts.append((begin, FOREVER if degraded else end + LATE, units, identifier))
            elif account.rule.enforced and not degraded:
                enforced += 1
                account.refusals.append((begin, end, units, number))
        if enforced:
            buckets = tuple((entity, resource) for entity, resource in fields["buckets"])
            self.refusals.append(Refused(begin, end, identifier, enforced, fields.get("headroom", 0.0), buckets))

    def _enter_change(self, fields: Mapping[str, Any]) -> None:
        begin, end, event, identifier = fields["begin"], fields["end"], fields["event"], fields["id"]
        if event == "written":
            self._enter_written(begin, end, identifier)
            return
        entries_of = _doubts if event == "correction" and fields["outcome"] == "failed" else _ENTRIES_OF[event]
        if fields.get("degraded", False):
            return  # Units consumed without the table are refunded without it.
        for place, text, units, start, *_ in ((*charge, None) for charge in fields["charges"]):
            entries: list[Change] = entries_of(self.account((*fields["buckets"][place], text)))
            if event == "refund" and end is None:
                self._unwritten.setdefault((identifier, begin), []).append((entries, len(entries)))
            last = end if event != "pause" else max(start or 0, end)
            entries.append((begin, FOREVER if last is None else last, units, identifier))

    def _enter_written(self, begin: int, end: int, identifier: str) -> None:
        for entries, place in self._unwritten.pop((identifier, begin), ()):
            entries[place] = begin, end, *entries[place][2:]


def _doubts(account: Account) -> list[Change]:
    return account.doubts


_ENTRIES_OF = {
    "correction": lambda account: account.forced,
    "refund": lambda account: account.refunds,
    "expiry": lambda account: account.expiries,
    "withdrawal": lambda account: account.withdrawals,
    "reset": lambda account: account.resets,
    "pause": lambda account: account.pauses,
}


def read(paths: Iterable[str | os.PathLike[str]]) -> History:
    """Read records; raises `ValidationError` for a file that cannot be read and for a line that is not a record.

    A file that is given twice is read once. If the last line was cut off, because its process was killed, it is only counted.
    """
    history = History()
    with collector_paused():
        for path in {Path(each).resolve(): each for each in paths}.values():
            _read_file(history, Path(path))
    return history


def _read_file(history: History, path: Path) -> None:
    number, decode = 0, json.JSONDecoder().raw_decode
    try:
        with path.open(encoding="utf-8") as lines:
            for number, text in enumerate(lines, 1):
                try:
                    fields, end = decode(text)
                    if text[end:].strip():
                        raise ValueError("more than one value")
                    history.enter(fields)
                except (KeyError, TypeError, ValueError, IndexError) as error:
                    if isinstance(error, json.JSONDecodeError) and not text.endswith("\n"):
                        history.cut += 1
                        continue
                    raise ValidationError(
                        f"{str(path)!r}, line {number}, is not a record ({error!r}); give files that record() has written"
                    ) from error
    except OSError as error:
        raise ValidationError(f"cannot read {str(path)!r}: {error.strerror}; give files that record() has written") from error
    except UnicodeDecodeError as error:
        raise ValidationError(
            f"{str(path)!r} is not a record after line {number}; give files that record() has written"
        ) from error


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the garbage collector, which would examine every entry repeatedly."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
