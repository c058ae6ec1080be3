"""`limiter demo`: threads that share one limit, on an engine in a process of its own."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import click

from .amounts import read_limit
from .exit_codes import FAILED, OK
from .output import say

if TYPE_CHECKING:
    from ..core.limits import Limit
    from ..sync_limiter import SyncRateLimiter

STACK = "limiter-demo"


@click.command()
@click.option("--limit", default="requests=20/second burst 50", show_default=True, help="The limit that they share.")
@click.option("--workers", type=click.IntRange(1, 64), default=8, show_default=True, help="How many ask, all the time.")
@click.option("--seconds", type=click.FloatRange(0.5, 60), default=5.0, show_default=True, help="How long.")
def demo(limit: str, workers: int, seconds: float) -> int:
    """Let workers compete for one limit on this machine, and compare what they got with what the limit allows.

    Needs no AWS account. Status 1 when they got more than that, which they never do.
    """
    from ..local import LocalEngine
    from ..testing import create_table

    shared = read_limit(limit)
    say("starting an engine on this machine ...")
    with LocalEngine() as engine:
        client = _client(engine.endpoint_url)
        create_table(STACK, client=client)
        competition = Competition(client, shared, workers)
        elapsed = competition.run(seconds)
    return _report(shared, competition, elapsed)


def _client(endpoint_url: str) -> object:
    import boto3

    from ..aws.client import ClientOptions, sync_open_client
    from .local import ACCESS_KEY, DEFAULT_REGION, SECRET_KEY

    session = boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=DEFAULT_REGION)
    return sync_open_client("dynamodb", ClientOptions(endpoint_url=endpoint_url, session=session, read_timeout=30.0))


class Competition:
    """Workers that take one unit after the other, each with a limiter of its own, as processes would have."""

    def __init__(self, client: object, limit: Limit, workers: int) -> None:
        self.admitted = [0] * workers
        self.refused = [0] * workers
        self._client = client
        self._limit = limit
        self._stop = threading.Event()

    def run(self, seconds: float) -> float:
        """Let them compete, and return how long it took from the first request to the last."""
        threads = [threading.Thread(target=self._work, args=[number]) for number in range(len(self.admitted))]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        try:
            while (left := begin + seconds - time.monotonic()) > 0:
                time.sleep(min(1.0, left))
                say(f"{time.monotonic() - begin:4.1f} s: {sum(self.admitted)} admitted, {sum(self.refused)} refused")
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        return time.monotonic() - begin

    def _work(self, number: int) -> None:
        limiter = self._limiter()
        while not self._stop.is_set():
            if limiter.try_acquire("everybody", "demo", {self._limit.name: 1}, timeout=0.05):
                self.admitted[number] += 1
            else:
                self.refused[number] += 1

    def _limiter(self) -> SyncRateLimiter:
        from ..sync_limiter import SyncRateLimiter
        from ..sync_repository import SyncRepository

        return SyncRateLimiter(SyncRepository(STACK, client=self._client), [self._limit])


def _report(limit: Limit, competition: Competition, elapsed: float) -> int:
    total = sum(competition.admitted)
    # One unit for rounding, and what the bookings at the end may run ahead.
    allowed = limit.capacity + limit.refill_amount / limit.refill_period * (elapsed + 0.05) + 1
    click.echo(f"limit      {limit}")
    click.echo(f"workers    {len(competition.admitted)}, each with a limiter of its own")
    click.echo(f"admitted   {total} in {elapsed:.2f} s: {', '.join(map(str, competition.admitted))}")
    click.echo(f"refused    {sum(competition.refused)}")
    click.echo(f"allowed    at most {allowed:.0f}: the burst and what was refilled since")
    click.echo("held" if total <= allowed else "NOT HELD")
    return OK if total <= allowed else FAILED
