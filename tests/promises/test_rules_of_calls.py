"""The rules of headroom, oversize, pauses and several targets, each beside what breaks when the rule is left out.

A row is a rule, what it promises in a few lines, and the fault that leaves it out. The promise holds, and not with the fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support import planted_kinds as faults
from support.bucket_world import EPOCH, KEY
from support.kinds_machine import KindsPlay
from support.store import Store

from limiter import Limit, SyncMemoryRepository, SyncRateLimiter, ValidationError
from limiter.commit import bucket_queue, sync_charge
from limiter.commit.sync_committer import SyncCommitter
from limiter.core import preview
from limiter.core.call import Target
from limiter.core.headroom import reserves
from limiter.core.limits import account
from limiter.core.request import Charge, Grant, Refusal, Request
from limiter.core.units import NANOSECONDS as SECOND
from limiter.exceptions import LimiterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.planted_faults import Fault

TEN, ONE = Limit.per_second("a", 10), Limit.per_second("a", 1)


class Process:
    """A limiter on a store of its own or a shared one, whose sleeps move the time and are noted."""

    def __init__(self, repository: Any = None, **options: Any) -> None:
        self.now = EPOCH
        self.slept: list[float] = []
        self.repository = SyncMemoryRepository(clock=lambda: self.now) if repository is None else repository
        self.limiter = SyncRateLimiter(self.repository, [TEN], sleep=self._sleep, **options)

    def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += round(seconds * SECOND)

    def left(self, entity: str = "user") -> int:
        """Units of `a` that are available."""
        return int(self.limiter.check(entity, "api", {"a": 0}).statuses[0].available)


def asks(store: Store, units: int = 1, limit: Limit = TEN, *, wait: int = 0, **options: Any) -> Any:
    """What one caller is told."""
    charges = (Charge(limit, units),)
    share = options.pop("headroom", None)
    request = Request(KEY, charges, deadline=store.now + wait, headroom=reserves(charges, share), **options)
    return store.ask(request)[0] or store.ask(request)[0]


def headroom_is_left() -> None:
    """Batch traffic takes what is not its headroom, all together."""
    store = Store()
    assert sum(isinstance(asks(store, headroom=0.2), Grant) for _ in range(20)) == 8


def headroom_never_books() -> None:
    """Batch callers who wait book nothing into the reserve."""
    store = Store()
    for _ in range(12):
        asks(store, headroom=0.2, wait=5 * SECOND)
    assert all(isinstance(asks(store), Grant) for _ in range(2))


def headroom_has_no_time_that_never_comes() -> None:
    """An amount above what headroom leaves is told to be hopeless."""
    process = Process()
    assert process.limiter.check("user", "api", {"a": 9}, headroom=0.2).retry_after is None
    assert process.limiter.try_acquire("user", "api", {"a": 9}, headroom=0.2).retry_after is None


def amounts_of_nothing_ask_for_debt_alone() -> None:
    """With headroom too."""
    store = Store()
    store.take(TEN, units=10)
    assert isinstance(asks(store, 0, headroom=0.5), Grant)


def queues_tell_windows_apart() -> None:
    """Those ahead who leave headroom are not those who ask exactly the same."""
    queue = bucket_queue.BucketQueue(KEY)
    batch = Request(KEY, (Charge(TEN, 1),), headroom=(2 * SECOND // 10,))
    queue.add(bucket_queue.PendingRequest(batch, queue, None), EPOCH)
    assert queue.before(batch, EPOCH).waiting == 1
    assert queue.before(batch._replace(headroom=()), EPOCH).waiting == 0


def denials_tell_windows_apart() -> None:
    """A remembered state that refuses batch traffic does not refuse others."""
    process = Process(denial_ttl=1.0)
    for _ in range(9):
        process.limiter.try_acquire("user", "api", {"a": 1}, headroom=0.2)
    assert process.limiter.try_acquire("user", "api", {"a": 1})


def headroom_excludes_oversize() -> None:
    """The debt would eat the reserve."""
    with pytest.raises(ValidationError, match="headroom"):
        Process().limiter.try_acquire("user", "api", {"a": 1}, headroom=0.2, oversize=True)


def who_keeps_to_the_reserve_is_never_refused() -> None:
    """A steady fifth of the rate fits beside batch traffic of twice the limit."""
    store = Store()
    for step in range(400):
        store.now += SECOND // 20
        asks(store, headroom=0.2)
        if step % 10 == 0:
            assert isinstance(asks(store), Grant)


def oversize_only_from_full() -> None:
    """More than a capacity is admitted when nothing is used, and nothing else until that is paid."""
    store = Store()
    store.take(TEN)
    assert isinstance(asks(store, 25, oversize=True), Refusal)
    store.now += SECOND // 10
    assert isinstance(asks(store, 25, oversize=True), Grant)
    store.now += 15 * SECOND // 10
    assert asks(store).start == store.now + SECOND // 10


def oversize_tells_when_it_is_full() -> None:
    """Without a timeout it is told to come back then."""
    store = Store()
    store.take(TEN, units=4)
    assert asks(store, 25, oversize=True).start == store.now + 4 * SECOND // 10


def oversize_books_its_start() -> None:
    """It starts when all before it is paid, and those behind it when it is."""
    store = Store()
    store.take(ONE)
    store.take(ONE, wait=5 * SECOND)
    assert asks(store, 3, ONE, wait=9 * SECOND, oversize=True).start == store.now + 2 * SECOND
    assert store.take(ONE, wait=9 * SECOND).start == store.now + 5 * SECOND


def cancelled_oversize_moves_nobody() -> None:
    """What is left on record of one that is undone is every start that may have been promised before it."""
    store = Store()
    first, known = store.take(ONE), store.known
    store.take(ONE, wait=9 * SECOND)
    store.known = known
    outcome = asks(store, 3, ONE, wait=9 * SECOND, oversize=True)
    store.ask(Request(KEY, refunds=tuple(each.refund() for each in outcome.receipts)))
    store.give(first, 1)
    assert store.take(ONE, wait=9 * SECOND).start == store.now + 2 * SECOND


def chains_start_at_the_latest() -> None:
    """A caller goes when the slowest of its buckets lets it."""
    process = Process()
    process.limiter.set_limits([ONE], entity_id="slow")
    process.limiter.try_acquire("slow", "api")
    with process.limiter.acquire("user", "api", {"a": 1}, also=[("slow", "api")], timeout=5.0) as lease:
        assert (process.slept, lease.waited) == ([1.0], 1.0)


def bookings_wait_for_known_refusals() -> None:
    """Where another bucket is known to refuse, nothing is booked in the first, so no refund is held back there."""
    process = Process(denial_ttl=1.0)
    process.limiter.set_limits([Limit("a", 1, 1, 60.0)], entity_id="full")
    process.limiter.try_acquire("full", "api")
    assert not process.limiter.try_acquire("full", "api")
    calls = process.limiter.stats().calls
    assert not process.limiter.try_acquire("user", "api", {"a": 1}, also=[("full", "api")], timeout=5.0)
    assert process.limiter.stats().calls - calls <= 1


def refused_chains_keep_nothing() -> None:
    """What other buckets took for a refused call comes back whole."""
    process = Process()
    process.limiter.set_limits([ONE], entity_id="full")
    SyncRateLimiter(process.repository).try_acquire("full", "api")
    assert not process.limiter.try_acquire("user", "api", {"a": 4}, also=[("full", "api", {"a": 1})])
    assert process.left() == 10


def meeting_chains_charge_once() -> None:
    """A parent that two targets share is charged once, so a call does not refuse itself."""
    process = Process()
    process.limiter.create_entity("team")
    process.limiter.set_limits([ONE], entity_id="team")
    for entity in ("user", "other"):
        process.limiter.create_entity(entity, parent_id="team")
    assert process.limiter.try_acquire("user", "api", {"a": 1}, also=[("other", "api", {"a": 5})])
    with pytest.raises(ValidationError, match="named twice"):
        process.limiter.try_acquire("user", "api", {"a": 1}, also=[("user", "api")])


def pauses_are_seen_by_all() -> None:
    """A process that has not seen the pause allows nothing, and a slow limit is complete after it."""
    process = Process()
    process.limiter.set_limits([Limit.per_day("a", 5)], entity_id="slow")
    process.limiter.try_acquire("slow", "api", {"a": 1})
    SyncRateLimiter(process.repository, [TEN]).pause("slow", "api", 30.0)
    assert not process.limiter.try_acquire("slow", "api")
    process.now += 30 * SECOND
    assert process.limiter.try_acquire("slow", "api", {"a": 4})


def pauses_spare_corrections() -> None:
    """What is forced or given back is written while the bucket is paused."""
    process = Process()
    with pytest.raises(ZeroDivisionError), process.limiter.acquire("user", "api", {"a": 4}) as lease:
        process.limiter.pause("user", "api", 30.0)
        lease.adjust(a=2)
        assert process.left() == 4
        raise ZeroDivisionError
    assert process.left() == 10


def pauses_are_slept_out() -> None:
    """A caller who waits sleeps until the pause is over, asks again, and books nothing before."""
    process = Process()
    process.limiter.pause("user", "api", 30.0)
    with process.limiter.acquire("user", "api", timeout=40.0):
        assert 30.0 < process.slept[0] <= 31.0
    assert process.left() == 9


def pauses_end_and_keep_the_item() -> None:
    """0 ends a pause, a shorter one changes nothing, and the item outlives it."""
    store = Store()
    store.ask(Request(KEY, pause=store.now + 90_000 * SECOND))
    store.ask(Request(KEY, pause=store.now + SECOND))
    assert store.state.ttl * SECOND >= store.state.paused == store.now + 90_000 * SECOND
    store.ask(Request(KEY, pause=0))
    assert isinstance(asks(store), Grant)


def play() -> None:
    """The exact model agrees with whole limiters."""
    for seed in range(100):
        KindsPlay(faults.chance(seed)).run(60)


def patch(target: str, replacement: Any) -> Fault:
    """A fault: something else stands in one place."""
    return lambda monkeypatch: monkeypatch.setattr(target, replacement)


def undone_to_its_own_start(level: Any, refunds: Any, now: int) -> tuple[int, int]:
    """A fault: an undone booking of more than a capacity leaves a start that is too early on record."""
    undone, booked = SOUND_UNDO(level, refunds, now)
    last = max(refunds, key=lambda each: each.level, default=None)
    return undone, last.start - last.cost if undone and last is not None else booked


def paused_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: the pause is no reason for the item to stay."""
    sound = planning_pause()
    monkeypatch.setattr("limiter.core.plan.pause", lambda draft, view, until: min(sound(draft, view, until), view.now))


def planning_pause() -> Callable[..., int]:
    """What plans a pause."""
    from limiter.core.resetting import pause

    return pause


def first_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: a call starts with the earliest of its buckets."""
    sound = sync_charge.SyncAdmission.__init__

    def init(self: Any, *arguments: Any, **more: Any) -> None:
        sound(self, *arguments, **more)
        self.start = min([each.start for each in self.outcomes if isinstance(each, Grant)], default=0)

    monkeypatch.setattr(sync_charge.SyncAdmission, "__init__", init)


def looks_of_any_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault: what is remembered of a bucket is held against everybody as against those who leave headroom."""
    sound = preview.look
    kept = (2 * SECOND // 10,)
    monkeypatch.setattr(
        preview, "look", lambda state, asked, *others, **more: sound(state, asked._replace(headroom=kept), *others, **more)
    )


SOUND_UNDO = account.undo_last_bookings
RULES: dict[str, tuple[Callable[[], None], Fault]] = {
    "headroom plans with what is left beside the reserve": (headroom_is_left, faults.headroom_taken),
    "headroom never books": (headroom_never_books, faults.headroom_that_books),
    "headroom: above what it leaves is never satisfiable": (headroom_has_no_time_that_never_comes, faults.never_that_comes),
    "headroom: 0 asks for debt only": (amounts_of_nothing_ask_for_debt_alone, faults.headroom_of_debt),
    "headroom: queues compare windows": (
        queues_tell_windows_apart,
        patch("limiter.core.request.Request.terms", property(lambda request: request.charges)),
    ),
    "headroom: denials compare windows": (denials_tell_windows_apart, looks_of_any_window),
    "headroom excludes oversize": (
        headroom_excludes_oversize,
        patch("limiter.sync_limiter.check_headroom", lambda share, **_: share),
    ),
    "headroom's guarantee": (who_keeps_to_the_reserve_is_never_refused, faults.headroom_taken),
    "oversize: the larger of the window and the cost": (oversize_only_from_full, faults.oversize_beside_use),
    "oversize: never is no answer": (oversize_only_from_full, faults.oversize_of_any_cost),
    "oversize: retry when it is full": (oversize_tells_when_it_is_full, faults.oversize_beside_use),
    "oversize: its booking starts when all before is paid": (oversize_books_its_start, faults.oversize_without_wait),
    "oversize: undone": (
        cancelled_oversize_moves_nobody,
        patch("limiter.core.limits.account.undo_last_bookings", undone_to_its_own_start),
    ),
    "oversize of totals": (play, faults.oversize_of_totals),
    "pause: every taking asserts it": (pauses_are_seen_by_all, faults.relax(faults.pauses_unasserted)),
    "pause: an attribute of its own": (pauses_are_seen_by_all, faults.pause_by_tat),
    "pause: corrections go on": (pauses_spare_corrections, faults.pause_of_corrections),
    "pause: no bookings": (pauses_are_slept_out, faults.pause_that_books),
    "pause: it only grows": (pauses_end_and_keep_the_item, faults.pause_that_shortens),
    "pause: the item outlives it": (pauses_end_and_keep_the_item, paused_for_ever),
    "also: one request for a bucket": (meeting_chains_charge_once, faults.parents_charged_by_the_last),
    "also: no bucket is named twice": (
        meeting_chains_charge_once,
        patch("limiter.sync_limiter.check_also", lambda also, own, amounts: tuple(Target(own, amounts) for _ in also)),
    ),
    "also: a refusal gives back the rest": (refused_chains_keep_nothing, faults.refused_and_kept),
    "also: no booking beside a known refusal": (
        bookings_wait_for_known_refusals,
        lambda monkeypatch: monkeypatch.setattr(SyncCommitter, "_deny", lambda *_: False),
    ),
    "also: the latest start": (chains_start_at_the_latest, first_start),
    "also: corrections reach every bucket": (play, faults.corrections_of_the_first),
}


@pytest.mark.parametrize("rule", [rule for rule, (promised, _) in RULES.items() if promised is not play])
def test_a_rule_keeps_what_it_promises(rule: str) -> None:
    """Each promise holds."""
    RULES[rule][0]()


@pytest.mark.parametrize("rule", RULES)
def test_without_its_rule_a_promise_breaks(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No rule can be left out unseen."""
    promised, fault = RULES[rule]
    fault(monkeypatch)
    with pytest.raises((AssertionError, LimiterError, pytest.fail.Exception)):
        promised()
