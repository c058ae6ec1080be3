"""Measures what sync programs could use instead of a native sync limiter.

    python benchmarks/why_native_sync.py [--calls N] [--engine NAME] [--write]

Each way is tried in each runtime, in a process of its own, on an engine that is 50 ms away. Each caller has a
bucket of its own. Prints the tables of docs/why-native-sync.md, and how they were measured; `--write` also puts both into
the page. Ratios compare with the native limiter.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DELAY = 50.0
PATIENCE = 120.0
FORK_PATIENCE = 20.0
SETTLING = 3.0
"""Seconds after which everything that continues after an interruption has certainly ended."""
CALLERS = {"threads": 16, "gevent": 50, "gevent, one caller": 1, "running loop": 1}
CAPACITY = 10_000
WIDTH = 128
"""Columns of the page's lines."""
WAYS = ("native", "asyncio.run for each call", "nest_asyncio", "loop in a thread")
PACKAGES = ("dynamodb-limiter", "boto3", "aiobotocore", "gevent", "nest_asyncio")
PAGE = Path(__file__).parents[1] / "docs" / "why-native-sync.md"
BEGIN, END = "<!-- measured: written by benchmarks/why_native_sync.py -->", "<!-- end of what was measured -->"


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description="what could be used instead of a native synchronous limiter")
    parser.add_argument("--calls", type=int, default=400, help="calls for each way and runtime (default: %(default)s)")
    parser.add_argument("--engine", default="dynoxide", help="one of tests/support/engines.py (default: %(default)s)")
    parser.add_argument("--write", action="store_true", help="write the tables into the page")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(*options.child)
    lines = []
    for line in tables(options.engine, options.calls):
        print(line, flush=True)
        lines.append(line)
    if options.write:
        PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), lines), encoding="utf-8")
    return None


def tables(engine: str, calls_in_all: int) -> Iterator[str]:
    """Measure every way in every runtime; yield the lines of both tables, and then how they were measured."""
    from servers import Servers

    load, transports = os.getloadavg()[0], set()
    with Servers() as servers:
        endpoint = servers.engine(engine, DELAY)
        yield "| runtime | way | calls that worked | seconds | ratio | CPU ms per call | median ms | slowest ms |"
        yield "|---|---|---|---|---|---|---|---|"
        for runtime, callers in CALLERS.items():
            calls = calls_in_all // callers * callers if callers > 1 else calls_in_all // 10
            native = 0.0
            for way in WAYS:
                result = measure(way, runtime, endpoint, calls)
                native = native or result.get("seconds", 0.0)
                transports.add(result.get("transport"))
                yield timing(runtime, way, calls, native, result)
        yield "\n| way | a forked child's call | units lost in interrupted calls |\n|---|---|---|"
        for way in WAYS:
            fork, interruption = (measure(way, runtime, endpoint, calls_in_all) for runtime in ("fork", "interruption"))
            yield f"| {way} | {outcome(fork)} | {outcome(interruption)} |"
    yield f"\n{conditions(engine, calls_in_all, sorted(transports - {None}), load)}"


def conditions(engine: str, calls: int, transports: Sequence[str], load: float) -> str:
    """Return how the tables were measured, in lines of the page."""
    command = f"python {Path(__file__).relative_to(PAGE.parents[1])} --calls {calls}"
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    callers = f"{CALLERS['threads']} threads, {CALLERS['gevent']} greenlets or one caller, each with its own bucket"
    text = (
        f"Measured by `{command}` on {time.strftime('%Y-%m-%d', time.gmtime())}: {engine}, {DELAY:.0f} ms away; {callers};"
        f" [transport](production.md#transport) {' and '.join(transports)}; CPython {platform.python_version()}, {versions};"
        f" {os.cpu_count()} processors, load average {load:.1f} at the start."
    )
    return textwrap.fill(text, WIDTH, break_on_hyphens=False, break_long_words=False)


def written(page: str, lines: Sequence[str]) -> str:
    """Return the page with these lines between its marks."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{PAGE.name} has lost the marks {BEGIN} and {END}")
    return "\n".join([f"{head}{begin}", "", *lines, "", f"{end}{tail}"])


def measure(way: str, runtime: str, endpoint: str, calls: int) -> dict[str, Any]:
    """Return the child's report, or why there is none."""
    command = [sys.executable, "-W", "ignore", __file__, "--child", way, runtime, endpoint, str(calls)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return {"outcome": f"hangs: not done after {PATIENCE:.0f} s"}
    if done.returncode:
        return {"outcome": f"fails: {done.stderr.strip().splitlines()[-1][:100]}"}
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def timing(runtime: str, way: str, calls: int, native: float, result: dict[str, Any]) -> str:
    """Return one row of the first table."""
    if "outcome" in result:
        return f"| {runtime} | {way} | {result['outcome']} | | | | | |"
    worked = f"{result['worked']} of {calls}" + "".join(f"; {count} × `{error}`" for error, count in result["errors"].items())
    if not result["worked"]:
        return f"| {runtime} | {way} | {worked} | | | | | |"
    numbers = [f"{result['seconds']:.2f}", f"{result['seconds'] / native:.1f}", f"{1000 * result['cpu'] / calls:.1f}"]
    numbers += [f"{1000 * result[name]:.0f}" for name in ("median", "slowest")]
    return f"| {runtime} | {way} | {worked} | {' | '.join(numbers)} |"


def outcome(result: dict[str, Any]) -> str:
    """Return one cell of the second table."""
    return str(result["outcome"])


def child(way: str, runtime: str, endpoint: str, calls: str) -> None:
    """Measure one way in one runtime, and print the report."""
    if runtime.startswith(("gevent", "interruption")):
        import gevent.monkey

        gevent.monkey.patch_all()
    limiter, call = make_call(way, endpoint)
    call("warm-up")
    if runtime == "running loop":
        import asyncio

        async def inside() -> dict[str, Any]:
            return run(call, CALLERS[runtime], int(calls))

        report = asyncio.run(inside())
    elif runtime == "fork":
        report = fork(call)
    elif runtime == "interruption":
        report = interrupt(call, way, endpoint, int(calls))
    else:
        report = run(call, CALLERS[runtime], int(calls))
    report["transport"] = limiter.stats().transport
    print(json.dumps(report), flush=True)
    os._exit(0)  # A way may have left loops and threads behind.


def run(call: Callable[[str], object], callers: int, calls: int) -> dict[str, Any]:
    """Let all callers call at the same time: under gevent these threads are greenlets."""
    import threading

    times: list[float] = []
    errors: Counter[str] = Counter()

    def take(name: str) -> None:
        for _ in range(calls // callers):
            begun = time.perf_counter()
            try:
                call(name)
            except Exception as error:
                errors[f"{type(error).__name__}: {error}"[:90]] += 1
            else:
                times.append(time.perf_counter() - begun)

    begun, cpu = time.perf_counter(), time.process_time()
    if callers == 1:
        take("caller")
    else:
        threads = [threading.Thread(target=take, args=[f"caller-{number}"]) for number in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return {
        "worked": len(times),
        "errors": errors,
        "seconds": time.perf_counter() - begun,
        "cpu": time.process_time() - cpu,
        "median": statistics.median(times or [0.0]),
        "slowest": max(times, default=0.0),
    }


def fork(call: Callable[[str], object]) -> dict[str, Any]:
    """Fork after a call, as a server does that loads its application first, and make one in the child."""
    import multiprocessing

    def work() -> None:
        call("child")
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(FORK_PATIENCE)
    if process.exitcode is None:
        process.kill()
        process.join()
        return {"outcome": f"hangs: not done after {FORK_PATIENCE:.0f} s"}
    return {"outcome": "works" if process.exitcode == 0 else "fails"}


def interrupt(call: Callable[[str], object], way: str, endpoint: str, calls: int) -> dict[str, Any]:
    """Interrupt calls in their middle, as a request's time limit does, and return what they consumed without a result."""
    import gevent

    names = [f"{way}, interrupted {number}" for number in range(8)]
    for name in names:
        call(name)  # So that the interruption below hits the write.
    got = 0

    def take(number: int) -> None:
        nonlocal got
        with gevent.Timeout(DELAY / 1000 * (0.2 + number % 8 / 10), exception=False):
            call(names[number % 8])
            got += 1

    gevent.joinall([gevent.spawn(take, number) for number in range(calls)])
    gevent.sleep(SETTLING)
    from limiter import SyncRateLimiter, SyncRepository

    looking = SyncRateLimiter(
        SyncRepository(TABLE, endpoint_url=endpoint, connect_timeout=30, read_timeout=30), limits(), decision_timeout=60
    )
    gone = sum(CAPACITY - looking.check(name).statuses[0].available for name in names)
    return {"outcome": f"{gone - len(names) - got} of {calls - got}"}


TABLE = "limiter-bench"


def limits() -> list[Any]:
    """Return a limit that no call reaches, and that does not refill during the run."""
    from limiter import Limit

    return [Limit("requests", CAPACITY, 1, 86400.0)]


def make_call(way: str, endpoint: str) -> tuple[Any, Callable[[str], object]]:
    """Return a limiter, and a function that consumes one unit of it for a caller."""
    from limiter import RateLimiter, Repository, SyncRateLimiter, SyncRepository

    where: dict[str, Any] = {"endpoint_url": endpoint, "connect_timeout": 30, "read_timeout": 30}
    if way == "native":
        native = SyncRateLimiter(SyncRepository(TABLE, **where), limits(), decision_timeout=60)
        return native, native.try_acquire

    import asyncio

    limiter = RateLimiter(Repository(TABLE, **where), limits(), decision_timeout=60)

    async def once(name: str) -> None:
        await limiter.try_acquire(name)
        await limiter.repository.close()

    if way == "asyncio.run for each call":
        return limiter, lambda name: asyncio.run(once(name))
    if way == "nest_asyncio":
        import nest_asyncio

        nest_asyncio.apply()
        return limiter, lambda name: asyncio.run(limiter.try_acquire(name))
    import threading

    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return limiter, lambda name: asyncio.run_coroutine_threadsafe(limiter.try_acquire(name), loop).result()


if __name__ == "__main__":
    main()
