"""Patches this process in some order, then takes from one bucket with 200 greenlets; reports in JSON.

    python tests/support/greenlets.py gevent|eventlet ORDER

ORDER says what happens ahead of patching, or which part of it is left out.
"""
# ruff: noqa: E402, T201 - patching comes first, what is printed is the answer to the test

import sys

LIBRARY, ORDER = sys.argv[1:]
GREENLETS, CAPACITY, TICK = 200, 150, 0.005
LEFT_OUT = {"without-threads": "thread", "without-sockets": "socket", "without-time": "time"}


def patch() -> None:
    """Patch everything, or a part."""
    parts = {LEFT_OUT[ORDER]: False} if ORDER in LEFT_OUT else {}
    if LIBRARY == "gevent":
        import gevent.monkey

        if ORDER == "sockets-only":
            gevent.monkey.patch_socket()
        else:
            gevent.monkey.patch_all(**parts)
    else:
        import warnings

        # It emits its own deprecation warning.
        warnings.simplefilter("ignore")
        import eventlet

        eventlet.monkey_patch(**({"socket": True} if ORDER == "sockets-only" else parts))


def make(client: object = None) -> object:
    """Make a limiter."""
    import os

    from limiter import Limit, SyncRateLimiter, SyncRepository

    options = {"endpoint_url": os.environ["ENDPOINT"], "connect_timeout": 60, "read_timeout": 60}
    repository = SyncRepository(os.environ["STACK"], client=client, **options)
    return SyncRateLimiter(repository, [Limit("requests", CAPACITY, 1, 86400.0)], decision_timeout=60)


if ORDER == "imported":
    from limiter import SyncLease, SyncMemoryRepository, SyncRateLimiter, SyncRepository  # noqa: F401 - to have them imported

    sockets = {"ssl", "socket", "select", "selectors", "asyncio", "http.client", "queue", "concurrent.futures"}
    boto = {"urllib3", "botocore", "boto3", "aiobotocore", "aioboto3"}
    if early := sorted((sockets | boto) & sys.modules.keys()):
        sys.exit(f"`import limiter` has imported {early}")
if ORDER == "boto3":
    import boto3
if ORDER == "client":
    import os

    import boto3

    client = boto3.client("dynamodb", endpoint_url=os.environ["ENDPOINT"])
made = make() if ORDER in {"made", "used"} else None
if ORDER == "used":
    made.try_acquire()  # type: ignore[union-attr]  # made above

patch()

import json
import threading
import time
import traceback


class Counter:
    """Counts of what happened so far."""

    ticks = inside = most_inside = admitted = 0
    error = ""
    done = False


def tick() -> None:
    """Run beside the others."""
    while not Counter.done:
        time.sleep(TICK)
        Counter.ticks += Counter.inside > 0


def take(limiter: object) -> None:
    """Consume one unit."""
    Counter.inside += 1
    Counter.most_inside = max(Counter.most_inside, Counter.inside)
    try:
        allowed = limiter.try_acquire().allowed  # type: ignore[attr-defined]  # a SyncRateLimiter
        Counter.admitted += allowed
    except Exception as error:
        Counter.error = f"{type(error).__name__}: {error}"
        traceback.print_exc()
    finally:
        Counter.inside -= 1


limiter_in_use = made or make(client if ORDER == "client" else None)
sibling = threading.Thread(target=tick)
if ORDER not in LEFT_OUT:
    sibling.start()
# Under either library these are greenlets.
takers = [threading.Thread(target=take, args=[limiter_in_use]) for _ in range(1 if ORDER in LEFT_OUT else GREENLETS)]
for taker in takers:
    taker.start()
for taker in takers:
    taker.join()
Counter.done = True
if ORDER not in LEFT_OUT:
    sibling.join()
seen = ("ticks", "most_inside", "admitted", "error")
print(json.dumps({name: getattr(Counter, name) for name in seen}))
