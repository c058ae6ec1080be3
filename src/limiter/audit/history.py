"""What is recorded: one line of JSON for each decision, and one for each correction, refund or expiry.

| field | meaning |
|---|---|
| `event` | `decision` (an acquire), `consume` (more for a lease), `correction` (more, in any case), `refund`, `expiry`, |
| | `written` (the refund of the same id and begin is known to be written), or from outside a lease `withdrawal` (units given |
| | back, of any lease), `reset`, or `pause` (its charges have `start` at its end) |
| `id` | joins the lines of one lease |
| `process` | the process that wrote the line |
| `begin`, `end` | when the call began, and when its outcome was known; null for a refund that may not be written yet |
| `outcome` | of a decision or a consume: `allowed`, `refused`, or `failed` if neither is known |
| `degraded` | true where it was decided without the table |
| `waits` | true where the caller was willing to wait for its turn |
| `retried` | true where the caller had waited before the call was decided |
| `buckets` | entity and resource of every bucket that the call is about |
| `charges` | for each limit: the bucket's place in `buckets`, the limit's text, the units, `start`, `since` |
| `headroom` | the share of every capacity that the call leaves to others, or of each limit by name, if any |
| `oversize` | true where more than a capacity was asked for, which a full bucket allows |
| `fence` | the fencing number of the slots, if any |

All times are integer nanoseconds of the repository's clock. `start` is the time from which the units may be used: the time of the
decision, or of the caller's turn if this limit made it wait. `since` is the time at which the period or session began that the
units count in, for limits that have one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ..exceptions import ValidationError

SEPARATORS = ",", ":"
_encode = json.JSONEncoder(separators=SEPARATORS).encode
_text = lru_cache(maxsize=1_000)(str)
"""Return the text of a limit, which many lines repeat."""


class Recorder:
    """A hook for `on_decision` that appends one line to a file for each event.

    An event is a `DecisionEvent` or a `LeaseEvent`; this room imports neither, and knows them by the fields of the table.
    Each line is one write, so the processes of one machine may share a file, and a process that is killed leaves whole lines.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise ValidationError(f"cannot write the record {self.path!r}: {error.strerror}; choose another file") from error

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}>"

    def __reduce__(self) -> tuple[type[Recorder], tuple[str]]:
        """Pickle and copy the path: what arrives opens the file anew, since a descriptor means nothing to another process."""
        return type(self), (self.path,)

    def __call__(self, event: Any) -> None:
        """Write the line of one event."""
        os.write(self._file, line(document(event)))

    def note(self, event: Any) -> None:
        """Write the line of an event other than a decision."""
        self(event)

    def close(self) -> None:
        """Close the file; a later event is an error."""
        os.close(self._file)


def record(path: str | os.PathLike[str]) -> Recorder:
    """Return a hook for `on_decision` that records every decision in a file, which is created or appended to.

    Raises `ValidationError` when the file cannot be written.
    """
    return Recorder(path)


def document(event: Any) -> dict[str, object]:
    """Return the fields of an event's line."""
    places = {bucket: place for place, bucket in enumerate(event.buckets)}
    charges = [
        (places[each.entity_id, each.resource], _text(each.limit), each.units, each.start, each.since) for each in event.charges
    ]
    fields: dict[str, object] = {"event": event.kind, "id": event.id, "process": event.process_id}
    fields |= {"begin": event.begin, "end": event.end, "outcome": event.outcome}
    if event.degraded:
        fields["degraded"] = True
    if event.waits:
        fields["waits"] = True
    if getattr(event, "retried", False):
        fields["retried"] = True
    if getattr(event, "headroom", None):
        fields["headroom"] = dict(event.headroom) if isinstance(event.headroom, Mapping) else event.headroom
    if getattr(event, "oversize", False):
        fields["oversize"] = True
    if getattr(event, "fence", None) is not None:
        fields["fence"] = event.fence
    return fields | {"buckets": list(places), "charges": charges}


def line(fields: Mapping[str, object]) -> bytes:
    """Return one line of a record."""
    return _encode(fields).encode() + b"\n"
