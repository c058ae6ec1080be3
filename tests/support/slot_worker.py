"""A process that holds a slot in one of four runtimes, and does what it is told by lines.

    python tests/support/slot_worker.py asyncio|threads|gevent|eventlet hold|leave|fork

It says `held FENCE` when it holds one. With `hold` it waits for a line, frees the slot, and says whether it was lost. With
`leave` its program ends while it holds the slot. With `fork` a child takes another slot, and leaves the parent's block too.
"""
# ruff: noqa: E402, T201 - patching comes first, what is printed is the answer to the test

from __future__ import annotations

import sys

RUNTIME, ACTION = sys.argv[1:3]
if RUNTIME in ("gevent", "eventlet"):
    from run_patched import patch

    patch(RUNTIME)

import asyncio
import os
import time

from limiter import Concurrency, LeaseLost, RateLimiter, Repository, SyncRateLimiter, SyncRepository

LIMITS = [Concurrency("calls", 1, ttl=float(os.environ.get("TTL", "3")))]
ENTITY = os.environ.get("ENTITY", RUNTIME)
OPTIONS = {"endpoint_url": os.environ["ENDPOINT"], "connect_timeout": 30.0, "read_timeout": 30.0}


def say(*words: object) -> None:
    """Tell the test."""
    print(*words, flush=True)


async def hold_async() -> None:
    """Hold a slot in a task."""
    async with Repository(os.environ["STACK"], **OPTIONS) as repository:
        limiter = RateLimiter(repository, LIMITS, decision_timeout=30.0)
        if ACTION == "leave":
            lease = await limiter.acquire(ENTITY).__aenter__()
            say("held", lease.fence)
            return
        async with limiter.acquire(ENTITY) as lease:
            say("held", lease.fence)
            await asyncio.to_thread(sys.stdin.readline)
            lost = lease.lost
            try:
                await lease.release(calls=1)
            except LeaseLost:
                say("LeaseLost")
    say("ended", lost)


def wait_for_line() -> None:
    """Wait for a line without holding up other greenlets."""
    if RUNTIME == "gevent":
        from gevent.os import tp_read

        tp_read(0, 1)
    elif RUNTIME == "eventlet":
        from eventlet import tpool

        tpool.execute(os.read, 0, 1)
    else:
        sys.stdin.readline()


def hold() -> None:
    """Hold a slot in a thread or greenlet."""
    limiter = SyncRateLimiter(SyncRepository(os.environ["STACK"], **OPTIONS), LIMITS, decision_timeout=30.0)
    if ACTION == "leave":
        lease = limiter.acquire(ENTITY).__enter__()
        say("held", lease.fence)
        return
    with limiter.acquire(ENTITY) as lease:
        say("held", lease.fence)
        wait_for_line()
        lost = lease.lost
        try:
            lease.release(calls=1)
        except LeaseLost:
            say("LeaseLost")
    say("ended", lost)


def fork() -> None:
    """Fork while a slot is held; the child takes one of its own, and leaves the block of the parent."""
    limits = [Concurrency("calls", 2, ttl=3.0)]
    limiter = SyncRateLimiter(SyncRepository(os.environ["STACK"], **OPTIONS), limits, decision_timeout=30.0)
    began = time.monotonic()
    with limiter.acquire(ENTITY) as lease:
        say("held", lease.fence)
        if (child := os.fork()) == 0:
            with limiter.acquire(ENTITY) as own:
                say("child", own.fence)
            lease.__class__.close(lease, refund=True)
            os._exit(0)
        os.waitpid(child, 0)
        while time.monotonic() - began < 5:
            time.sleep(0.1)
        (status,) = limiter.check(ENTITY).statuses
        say("left", status.available, lease.lost)
    (status,) = limiter.check(ENTITY).statuses
    say("ended", status.available)


if ACTION == "fork":
    fork()
elif RUNTIME == "asyncio":
    asyncio.run(hold_async())
else:
    hold()
