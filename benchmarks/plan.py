"""What is measured: the peers, the scenarios, and how long each takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast

Driver = Literal["closed", "distinct", "turns", "paced", "cold", "waiters", "web"]
Transport = Literal["direct", "botocore"]

AMPLE = 10_000_000
"""Capacity of a limit that never refuses: it refills by one per second, so its bucket is always partly used."""


@dataclass(frozen=True, slots=True)
class Job:
    """One measurement, as its process receives it.

    `rate` is the limit in units per second, 0 for one that is never in the way, and `burst` its capacity, 0 for as much; `demand`
    is the decisions per second that a paced driver asks for. `prefix` starts every key, so that no two measurements share one.
    `authority` is the file of certificates to trust, if the endpoint speaks TLS.
    """

    peer: str
    scenario: str
    driver: Driver
    engine: str
    endpoint_url: str
    redis_url: str
    table: str
    prefix: str
    callers: int
    seconds: float
    keys: int = 0
    rate: int = 0
    burst: int = 0
    demand: int = 0
    chain: str = ""
    authority: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the job in JSON's types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer to measure.

    `adapter` is its module and class in `benchmarks.peers`; `needs` must be importable. `options` are those of this library's
    limiter, limit and repository.
    """

    name: str
    adapter: str
    runtime: Literal["asyncio", "threads", "gevent"]
    store: Literal["dynamodb", "redis"] = "dynamodb"
    needs: tuple[str, ...] = ()
    package: str = ""
    options: tuple[tuple[str, float | str], ...] = ()

    @property
    def module(self) -> str:
        """The module of the adapter."""
        return self.adapter.partition(":")[0]

    @property
    def transport(self) -> Transport | None:
        """How this library sends the peer's calls, directly by default; None for other libraries."""
        if self.module not in ("ours", "in_turns"):
            return None
        return cast("Transport", dict(self.options).get("transport", "direct"))


BY_BOTOCORE = ("transport", "botocore")
PEERS = {
    peer.name: peer
    for peer in (
        Peer("limiter", "ours:Limiter", "asyncio"),
        Peer("limiter-threads", "ours:ThreadedLimiter", "threads"),
        Peer("limiter-gevent", "ours:ThreadedLimiter", "gevent", needs=("gevent",), package="gevent"),
        Peer("limiter-botocore", "ours:Limiter", "asyncio", options=(BY_BOTOCORE,)),
        Peer("limiter-threads-botocore", "ours:ThreadedLimiter", "threads", options=(BY_BOTOCORE,)),
        Peer("limiter-unstored", "ours:Limiter", "asyncio", options=(("stored", False),)),
        Peer("limiter-threads-unstored", "ours:ThreadedLimiter", "threads", options=(("stored", False),)),
        Peer("limiter-allotment", "ours:Limiter", "asyncio", options=(("allotment", 0.1),)),
        Peer("limiter-threads-allotment", "ours:ThreadedLimiter", "threads", options=(("allotment", 0.1),)),
        Peer("limiter-linger", "ours:Limiter", "asyncio", options=(("linger", 0.02),)),
        Peer("limiter-replayed", "ours:ReplayedLimiter", "asyncio", options=(BY_BOTOCORE,)),
        Peer("limiter-and-aiobotocore", "in_turns:Aiobotocores", "asyncio", needs=("aiobotocore",), package="aiobotocore"),
        Peer("limiter-and-boto3", "in_turns:Boto3s", "threads", package="boto3"),
        Peer("limiter-two-keys", "ours:TwoKeys", "asyncio"),
        Peer("limiter-threads-two-keys", "ours:ThreadedTwoKeys", "threads"),
        Peer("limiter-gevent-two-keys", "ours:ThreadedTwoKeys", "gevent", needs=("gevent",), package="gevent"),
        Peer("aiobotocore", "bare:Aiobotocore", "asyncio", needs=("aiobotocore",), package="aiobotocore"),
        Peer("boto3", "bare:Boto3", "threads", package="boto3"),
        Peer("aiobotocore-tuned", "bare:TunedAiobotocore", "asyncio", needs=("aiobotocore",), package="aiobotocore"),
        Peer("boto3-tuned", "bare:TunedBoto3", "threads", package="boto3"),
        Peer("zae-limiter", "zae:Zae", "asyncio", needs=("zae_limiter",), package="zae-limiter"),
        Peer("zae-limiter-threads", "zae:ThreadedZae", "threads", needs=("zae_limiter",), package="zae-limiter"),
        Peer("limiter-before", "before:Limiter", "asyncio"),
        Peer("limiter-threads-before", "before:ThreadedLimiter", "threads"),
        Peer("limiter-gevent-before", "before:ThreadedLimiter", "gevent", needs=("gevent",), package="gevent"),
        Peer("unlimited", "unlimited:Unlimited", "gevent", needs=("gevent", "gunicorn"), package="gunicorn"),
        Peer("limits-gevent", "on_redis:ThreadedLimits", "gevent", "redis", ("limits", "redis", "gevent"), "limits"),
        Peer("limits", "on_redis:Limits", "asyncio", "redis", ("limits", "coredis"), "limits"),
        Peer("throttled-py", "on_redis:Throttled", "asyncio", "redis", ("throttled", "redis"), "throttled-py"),
    )
}
OURS = ("limiter", "limiter-threads", "limiter-gevent")
BOTOCORE = ("limiter-botocore", "limiter-threads-botocore")
UNSTORED = ("limiter-unstored", "limiter-threads-unstored")
BARE = ("aiobotocore", "boto3")
TUNED = ("aiobotocore-tuned", "boto3-tuned")
ZAE = ("zae-limiter", "zae-limiter-threads")
REDIS = ("limits", "throttled-py")
IN_TURNS = ("limiter-and-aiobotocore", "limiter-and-boto3")
TWO_KEYS = ("limiter-two-keys", "limiter-threads-two-keys", "limiter-gevent-two-keys")
ALLOTTED = ("limiter-allotment", "limiter-threads-allotment")
BEFORE = ("limiter-before", "limiter-threads-before", "limiter-gevent-before")
WEB = ("unlimited", "limiter-gevent", "limits-gevent")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One situation, and the peers that are measured in it.

    `delay` is the milliseconds that are added to every exchange with the engine. `core` scenarios run on every engine, the
    others on the first only. With `tls` the engine stands behind a proxy that speaks it. `once`: its figures are counts, so one
    round is enough. A phase lasts `stretch` times as long as the profile says: where a peer answers later than within
    one, or a bucket that was drained admits too seldom for a glance.
    """

    name: str
    title: str
    driver: Driver
    peers: tuple[str, ...]
    callers: int = 1
    rate: int = 0
    burst: int = 0
    demand: int = 0
    keys: bool = False
    delay: float = 0.0
    chain: str = ""
    core: bool = False
    stretch: int = 1
    tls: bool = False
    once: bool = False
    needs: tuple[str, ...] = ()


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "single",
            "one warm caller, one key",
            "closed",
            (*OURS, *BEFORE, *BOTOCORE, *ALLOTTED, *BARE, *TUNED, *ZAE, *REDIS),
            core=True,
        ),
        Scenario(
            "overhead",
            "one warm caller of this library, and of bare clients, in turns: the figures are of all together",
            "turns",
            IN_TURNS,
            stretch=4,
        ),
        Scenario("overhead-https", "the same over TLS", "turns", IN_TURNS, stretch=4, tls=True, needs=("trustme",)),
        Scenario(
            "hot-50",
            "one hot key, 50 callers",
            "closed",
            (*OURS, *BEFORE, *BOTOCORE, *BARE, *ZAE, *REDIS),
            callers=50,
            core=True,
        ),
        Scenario(
            "hot-500",
            "one hot key, 500 callers",
            "closed",
            (*OURS, *BEFORE, *BOTOCORE, *BARE, *ZAE, *REDIS),
            callers=500,
            core=True,
            stretch=4,
        ),
        Scenario("distinct-50", "50 callers, each with a key of its own", "distinct", (*OURS, *BEFORE, *REDIS), callers=50),
        Scenario(
            "cold",
            "every key once, 50 callers",
            "cold",
            (*OURS, *UNSTORED, *BEFORE, *BOTOCORE, *BARE, *ZAE, *REDIS),
            callers=50,
            keys=True,
        ),
        Scenario(
            "cold-https",
            "every key once, 50 callers, over TLS",
            "cold",
            (*OURS[:2], *UNSTORED, *BARE),
            callers=50,
            keys=True,
            tls=True,
            needs=("trustme",),
        ),
        Scenario(
            "over-demand-25",
            "25/s allowed, 500/s asked, 50 callers",
            "paced",
            ("limiter", "limiter-threads", "limiter-gevent", *ZAE, *REDIS),
            callers=50,
            rate=25,
            demand=500,
            stretch=2,
        ),
        Scenario(
            "over-demand-1000",
            "1,000/s allowed, 20,000/s asked, 50 callers",
            "paced",
            ("limiter", "limiter-threads", "limiter-gevent", "limiter-linger", "zae-limiter", *REDIS),
            callers=50,
            rate=1_000,
            demand=20_000,
            stretch=2,
            core=True,
        ),
        Scenario(
            "cascade",
            "an entity and its parent, 50 callers",
            "closed",
            (*OURS, *ZAE),
            callers=50,
            chain="cascade",
        ),
        Scenario("two-keys", "two independent keys, 50 callers each", "closed", TWO_KEYS, callers=100),
        Scenario(
            "delayed-single",
            "one warm caller, table 5 ms away",
            "closed",
            ("limiter", *ALLOTTED[:1], "aiobotocore", "zae-limiter"),
            delay=5.0,
        ),
        Scenario(
            "delayed-50",
            "one hot key, 50 callers, table 5 ms away",
            "closed",
            (*OURS, "aiobotocore", *ZAE),
            callers=50,
            delay=5.0,
        ),
        Scenario(
            "waiters",
            "1,000 callers wait for one key, 100/s, which owes 2 s",
            "waiters",
            OURS,
            callers=1_000,
            rate=100,
            burst=1,
            once=True,
        ),
        Scenario(
            "waiters-cold",
            "the same without the debt, and the key's limits have not been read yet",
            "waiters",
            OURS,
            callers=1_000,
            rate=100,
            burst=1,
            chain="cold",
            once=True,
        ),
        Scenario(
            "web-one-address",
            "a web worker, 64 connections, all from one address",
            "web",
            WEB,
            callers=64,
            stretch=3,
            needs=("gunicorn",),
        ),
        Scenario(
            "web-addresses",
            "a web worker, 64 connections, 2,000 addresses",
            "web",
            WEB,
            callers=64,
            keys=True,
            stretch=3,
            needs=("gunicorn",),
        ),
        Scenario(
            "memory", "100,000 keys seen, answers replayed", "cold", ("limiter-replayed",), callers=50, keys=True, once=True
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Profile:
    """How much is measured; `keys` by scenario, `lesser_repetitions` on every engine but the first."""

    name: str
    seconds: float
    warm_up: float
    repetitions: int
    lesser_repetitions: int
    start_ups: int
    keys: dict[str, int] = field(default_factory=dict)
    scenarios: tuple[str, ...] = tuple(SCENARIOS)
    waiters: int = 1_000
    simulated_seconds: float = 10.0
    fleet: tuple[int, ...] = (1, 10, 30, 100, 300, 1_000)


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="tiny",
            seconds=0.1,
            warm_up=0.05,
            repetitions=1,
            lesser_repetitions=1,
            start_ups=1,
            keys={"cold": 20, "cold-https": 20, "web-addresses": 20, "memory": 200},
            waiters=20,
            simulated_seconds=0.2,
            fleet=(1, 10),
        ),
        Profile(
            name="short",
            seconds=0.6,
            warm_up=0.2,
            repetitions=3,
            lesser_repetitions=1,
            start_ups=5,
            keys={"cold": 2_000, "cold-https": 2_000, "web-addresses": 2_000, "memory": 100_000},
        ),
        Profile(
            name="long",
            seconds=3.0,
            warm_up=1.0,
            repetitions=7,
            lesser_repetitions=3,
            start_ups=25,
            keys={"cold": 10_000, "cold-https": 10_000, "web-addresses": 2_000, "memory": 100_000},
            fleet=(1, 3, 10, 30, 100, 300, 1_000, 3_000),
        ),
    )
}
