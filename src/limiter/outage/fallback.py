# twin: sync_fallback.py
"""What happens without the table, as `on_unavailable` says: fail closed, fail open, or limit within this process.

"block" never comes here. A new policy is a branch in `acquire` and in `correct`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..commit.charge import Admission, charge, charge_in_turn
from ..core import status
from ..core.chain import blocked, call_requests, check_held
from ..core.forgetting import is_forgettable
from ..core.request import Refusal, Request
from ..core.share import check_remembered, fitting, local_requests, unbounded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..commit.committer import Committer
    from ..core.call import Call
    from ..core.chain import Bucket
    from ..core.records import BucketKey
    from ..core.request import Charge
    from ..exceptions import RateLimiterUnavailable
    from ..repository_protocol import BucketStore
    from ..statistics import Counters
    from .log import OutageLog
    from .unreported import UnreportedUsage

LOOKED_AT = 2
"""Buckets that are examined in each decision."""
MAX_ROUNDS = 10
"""Charges for local usage that other processes may defeat before the rest is dropped."""


class Fallback:
    """Decides and corrects while the table cannot be reached, and reports local usage to the table when it is back.

    `alone` decides on the `local` store, at `share` of every limit; `committer` is the table's.
    """

    def __init__(
        self,
        committer: Committer,
        alone: Committer,
        local: BucketStore,
        unreported: UnreportedUsage,
        log: OutageLog,
        share: float,
        counters: Counters,
    ) -> None:
        self._committer = committer
        self._alone = alone
        self._local = local
        self._unreported = unreported
        self._log = log
        self._share = share
        self._counters = counters

    async def acquire(self, call: Call, chain: tuple[Bucket, ...], whole: bool, cause: RateLimiterUnavailable) -> Admission:
        """Decide a call that the table could not. `chain` is what is remembered of its buckets, `whole` if nothing is missing."""
        self._log.note(cause, call.on_unavailable)
        if not whole:
            if call.on_unavailable == "local":
                check_remembered(chain, call.names, cause)
            chain = unbounded(chain, call.names)
        admission = await self._admit(call, chain, call_requests(chain, call))
        admission.degraded = True
        return admission

    async def _admit(self, call: Call, chain: tuple[Bucket, ...], asked: tuple[Request, ...]) -> Admission:
        if (key := blocked(chain)) is not None:
            return Admission(None, chain, (), blocked=key)
        if never := status.never_satisfiable(asked):
            return Admission(None, chain, asked, never=never)
        if call.for_good:
            check_held(asked)
        if call.on_unavailable == "allow":
            return Admission(None, chain, asked)
        now = self._committer.clock()
        for bucket in chain:
            self._unreported.record(bucket.key, bucket.limits, now)
        await self._forget_refilled()
        admission = await charge_in_turn(self._alone, chain, local_requests(asked, self._share), call.patience)
        admission.share = self._share
        return admission

    async def correct(
        self, call: Call, lost: Sequence[Request], error: RateLimiterUnavailable, limited: bool
    ) -> Admission | None:
        """Continue a lease whose requests were not written, and count them as lost.

        With "local", what is `limited` is charged locally; returns how that was decided, None if there is nothing to decide.
        """
        self._log.note(error, call.on_unavailable)
        admission = None
        if call.on_unavailable == "local" and limited and lost:
            now = self._committer.clock()
            for request in lost:
                self._unreported.record(request.key, [limit for limit, _ in request.charges], now)
            admission = await charge(self._alone, (), local_requests(lost, self._share))
            if not admission.allowed:
                return admission
        for request in lost:
            self._committer.record_lost_refund(request, error)
        return admission

    async def report(self, chain: Sequence[Bucket]) -> None:
        """Charge the table with what was allowed locally and is in use yet, into no debt; what does not fit counts as lost."""
        for bucket in chain:
            if bucket.key in self._unreported:
                await self._report(bucket.key)
        await self._forget_refilled()

    async def _forget_refilled(self) -> None:
        """Examine a few locally used buckets at each decision, and forget those that have refilled."""
        now = self._committer.clock()
        for _ in range(LOOKED_AT):
            key = self._unreported.oldest(now)
            if key is None:
                return
            if is_forgettable(await self._local.read_bucket(key), now):
                self._unreported.forget(key, now)

    async def _report(self, key: BucketKey) -> None:
        now = self._committer.clock()
        usage = self._unreported.take(key, self._share, await self._local.read_bucket(key), now)
        try:
            if usage.charges and not await self._charge(key, usage.charges):
                self._counters.add("corrections_lost")
        except BaseException:
            self._unreported.put_back(usage)
            raise

    async def _charge(self, key: BucketKey, charges: tuple[Charge, ...]) -> bool:
        """Charge as much as fits, and return whether that was everything."""
        whole, forced = True, False
        for _ in range(MAX_ROUNDS):
            outcome = (await self._committer.decide([Request(key, charges, forced=forced)]))[0]
            if isinstance(outcome, Exception):
                raise outcome
            if not isinstance(outcome, Refusal):
                return whole
            fits = fitting(charges, outcome.levels, outcome.now)
            # What fits and is refused all the same meets a pause, which is for those who ask.
            whole, forced, charges = whole and fits == charges, fits == charges, fits
            if not charges:
                return False
        return False
