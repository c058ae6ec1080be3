"""Reports one call to a hook, from its decision to the end of its lease, so that a record of it can be audited."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Any

from .core.chain import call_requests
from .core.visible import visible
from .events import Charged, DecisionEvent, LeaseEvent, buckets_of, requested

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .core.call import Call
    from .core.chain import Bucket
    from .core.records import BucketKey
    from .core.request import Request
    from .events import Admitted
    from .models import BaseLimit

    Change = tuple[BucketKey, BaseLimit, int]

_log = logging.getLogger("limiter")
decisions = logging.getLogger("limiter.decisions")

_UNLOGGED = frozenset(("statuses", "buckets", "charges"))
"""What the log does not show of a decision."""
NOTE = "note"
"""The method of a hook that receives events other than decisions, if the hook has it."""


class Hook:
    """The `listener` that a limiter was given as `on_decision`, and the log of decisions. What a listener raises is logged only.

    `note` passes on an event other than a decision; None if the listener wants decisions only.
    """

    __slots__ = ("listener", "note")

    def __init__(self, listener: Callable[[DecisionEvent], object] | None) -> None:
        self.listener = listener
        self.note = None if getattr(listener, NOTE, None) is None else self._note

    def tell(self, event: DecisionEvent, namespace: str) -> None:
        """Report a decision."""
        if decisions.isEnabledFor(logging.DEBUG):
            _log_decision(event, namespace)
        if self.listener is not None:
            _call(self.listener, event, event.entity_id, event.resource)

    def _note(self, event: LeaseEvent) -> None:
        entity_id, resource = event.buckets[0] if event.buckets else ("", "")
        _call(getattr(self.listener, NOTE), event, entity_id, resource)


def _call(listener: Callable[[Any], object], event: object, entity_id: str, resource: str) -> None:
    try:
        listener(event)
    except Exception as error:
        fields = {"entity_id": visible(entity_id), "resource": visible(resource), "error": visible(str(error))}
        _log.exception("on_decision raised, which changes no decision", extra=fields)


class Trail:
    """Reports one call and its lease to a hook.

    `clock` is the repository's. `note` receives every event other than a decision; None if the hook wants decisions only.
    """

    __slots__ = ("_clock", "_degraded", "_note", "_order", "_process_id", "_waits", "begin", "id")

    def __init__(
        self, process_id: str, number: int, clock: Callable[[], int], note: Callable[[LeaseEvent], object] | None, *, waits: bool
    ) -> None:
        self.id = f"{process_id}-{number}"
        self.begin = clock()
        self._process_id = process_id
        self._clock = clock
        self._note = note
        self._waits = waits
        self._degraded = False
        self._order: tuple[Bucket, Request] | None = None

    def now(self) -> int:
        """Return the time of the repository's clock."""
        return self._clock()

    def decision(self, call: Call, admission: Admitted) -> DecisionEvent:
        """Return the event of the decision, as of the time of the decision: before the caller waited for its turn."""
        self._degraded = admission.degraded
        granted = max([grant.now for _, grant in admission.grants], default=self.begin)
        return DecisionEvent(
            entity_id=call.key.entity_id,
            resource=call.key.resource,
            allowed=admission.allowed,
            degraded=admission.degraded,
            waited=admission.waited,
            seconds=max(0.0, monotonic() - call.asked - admission.waited),
            id=self.id,
            process_id=self._process_id,
            begin=self.begin,
            end=max(granted, self.begin, admission.decided or self._clock()),
            waits=self._waits,
            retried=admission.retried,
            headroom=call.headroom,
            oversize=call.oversize,
            _call=call,
            _admission=admission,
        )

    def ordering(self, order: Callable[[Bucket], Request]) -> Callable[[Bucket], Request]:
        """Return a function that makes the same request of a bucket, and keeps it for `ordered`."""

        def make(bucket: Bucket) -> Request:
            self._order = bucket, order(bucket)
            return self._order[1]

        return make

    def ordered(self, *, written: bool) -> None:
        """Report a change from outside a lease that has been written, or may have been."""
        if self._order is None:
            return
        bucket, order = self._order
        end, outcome = self._clock(), "allowed" if written else "failed"
        changes = [(order.key, limit, units) for limit, units in order.charges]
        self._tell("correction", self.begin, end, outcome, _charged(changes))
        self._tell("withdrawal", self.begin, end, outcome, _charged((key, limit, -units) for key, limit, units in changes))
        for kind, start in (("reset", None), ("pause", order.pause)):
            limits = [each for each in bucket.limits if (start is not None if kind == "pause" else each.name in order.clear)]
            about = [Charged(order.key.entity_id, order.key.resource, limit, 0, start) for limit in limits]
            self._tell(kind, self.begin, end, outcome, about)

    def failed(self, call: Call, chain: Sequence[Bucket]) -> None:
        """Report that the call was not decided: it may have consumed what it requested."""
        asked = call_requests(chain, call) if chain else ()
        self._tell("decision", self.begin, self._clock(), "failed", requested(asked))

    def consumed(self, begin: int, outcome: str, charges: Sequence[Charged]) -> None:
        """Report that the lease has requested more."""
        self._tell("consume", begin, self._clock(), outcome, charges)

    def changing(self, changes: Sequence[Change]) -> int:
        """Report a refund that is about to be made, and return the time: a process killed from now on may have made it."""
        begin = self._clock()
        self._tell("refund", begin, None, "allowed", _charged((key, limit, -units) for key, limit, units in changes))
        return begin

    def expired(self, renewed: int, key: BucketKey, limit: BaseLimit, units: int) -> None:
        """Report that slots which were renewed last at that time were lost."""
        self._tell("expiry", renewed, self._clock(), "allowed", _charged([(key, limit, units)]))

    def changed(self, begin: int, changes: Sequence[Change], *, written: bool) -> None:
        """Report that additions and refunds have been written, or may have been."""
        end = self._clock()
        self._tell("correction", begin, end, "allowed" if written else "failed", _charged(changes))
        if written and any(units < 0 for _, _, units in changes):
            self._tell("written", begin, end, "allowed", (), always=True)

    def _tell(
        self, kind: str, begin: int, end: int | None, outcome: str, charges: Sequence[Charged], *, always: bool = False
    ) -> None:
        if self._note is not None and (charges or always):
            about = self.id, self._process_id, begin, end, outcome, self._degraded, self._waits
            self._note(LeaseEvent(kind, *about, buckets_of(charges), tuple(charges)))


def _charged(changes: Iterable[Change]) -> list[Charged]:
    """Return what is added to each bucket."""
    return [Charged(key.entity_id, key.resource, limit, units) for key, limit, units in changes if units > 0]


def _log_decision(event: DecisionEvent, namespace: str) -> None:
    """Log a decision."""
    violated = [visible(status.limit.name) for status in event.statuses if status.exceeded]
    fields = {name: value for name, value in event.values().items() if name not in _UNLOGGED}
    fields |= {"entity_id": visible(event.entity_id), "resource": visible(event.resource)}
    result = "allowed" if event.allowed else f"refused by {', '.join(violated) or 'a level that is BLOCKED'}"
    extra = fields | {"namespace": visible(namespace), "violated": violated}
    decisions.debug("%s/%s %s", fields["entity_id"], fields["resource"], result, extra=extra)
