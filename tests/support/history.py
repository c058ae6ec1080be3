"""The record of a run of whole limiters: what each caller asked of each bucket, and what each write consumed and refunded."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from support.kinds_measure import PLAIN, Terms, cost_of

from limiter.core.preview import NONE_AHEAD, Ahead
from limiter.core.units import NANOSECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.limiter_world import World

    from limiter import Limit
    from limiter.core.records import BucketKey
    from limiter.core.request import Grant, Refusal, Request
    from limiter.core.state import BucketState

    Place = tuple[BucketKey, str]


@dataclass(slots=True, eq=False)
class Life:
    """One lease from its acquire to its end, or one other cause of writes, such as closing a limiter.

    `units` is what the caller was told that it holds; None when everything was to be given back. What it asks for now is asked
    on these `terms`.
    """

    name: str
    client: Client
    units: dict[str, int] | None = None
    started: bool = False
    doubtful: bool = False
    paid: bool = False
    terms: Terms = PLAIN
    limits: dict[Place, Limit] = field(default_factory=dict)
    taken: dict[Place, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    returned: dict[Place, int] = field(default_factory=lambda: defaultdict(int))
    refunded: dict[tuple[Place, int], int] = field(default_factory=lambda: defaultdict(int))
    submissions: list[Submission] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Submission:
    """One request to one bucket, from when it was made, behind those `ahead`."""

    client: Client
    key: BucketKey
    request: Request
    life: Life
    began: int
    clock: int
    answers: int
    losses: int
    terms: Terms = PLAIN
    ahead: Ahead = NONE_AHEAD
    ended: int = -1
    outcome: Grant | Refusal | BaseException | None = None
    carried: list[int] = field(default_factory=list)
    refunded: list[int] = field(default_factory=list)
    takings: list[Taking] = field(default_factory=list)

    @property
    def is_impatient(self) -> bool:
        """Whether it has to start at once or not at all."""
        return not self.request.forced and self.request.deadline <= self.clock

    @property
    def cost(self) -> int:
        """Return the cost of the requested units; slots have none."""
        return sum(cost_of(*charge) for charge in self.request.charges if not charge.limit.holds)


@dataclass(slots=True, eq=False)
class Taking:
    """Units of one limit that one request consumed. `start` is by the clock of its client, `time` the true time.

    With `oversize` they may exceed the capacity.
    """

    limit: Limit
    units: int
    cost: int
    start: int
    tat: int
    since: int
    order: int
    time: int
    forced: bool
    life: Life | None
    booked: bool = False
    cancelled: bool = False
    gone: bool = False
    remembered: int = -1
    oversize: bool = False


@dataclass(frozen=True, slots=True)
class Giving:
    """The refund of one limit in one update, of requests that had started; `own` of it was no unspent block."""

    cost: int
    own: int
    order: int
    time: int


@dataclass(frozen=True, slots=True)
class Payment:
    """Units that were paid from a block."""

    limit: Limit
    units: int
    time: int
    life: Life


@dataclass(slots=True, eq=False)
class Account:
    """The log of one limit of one bucket, and the start of its present busy period."""

    since: int = -1
    takings: list[Taking] = field(default_factory=list)
    givings: list[Giving] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Moment:
    """A bucket's state from one write to the next, and how far each limit was ahead before that write refunded."""

    order: int
    time: int
    state: BucketState
    peaks: Mapping[str, int]


@dataclass(slots=True, eq=False)
class Advance:
    """What one client has taken of one limit of one bucket in advance, and where it went; `blocks` are times and units."""

    taken: int = 0
    cost: int = 0
    paid: int = 0
    spent: int = 0
    returned: int = 0
    blocks: list[list[int]] = field(default_factory=list)


class Client:
    """One process: its clock, the responses that it has seen, and its pending failures."""

    def __init__(self, world: World, name: str, *, offset: int = 0, denial_ttl: float = 0.0) -> None:
        self.world = world
        self.name = name
        self.offset = offset
        self.denial_ns = round(denial_ttl * NANOSECONDS)
        self.answers: dict[BucketKey, list[tuple[int, BucketState]]] = defaultdict(list)
        self.losses = 0
        self.advances: dict[tuple[BucketKey, Limit], Advance] = defaultdict(Advance)
        self.closing = Life(f"closing {name}", self)

    def clock(self) -> int:
        """The time as this client sees it."""
        return self.world.now + self.offset

    def see(self, key: BucketKey, state: BucketState) -> None:
        """Record a response."""
        self.answers[key].append((self.clock(), state))
