"""`limiter demo`: threads that share one limit, on an embedded engine in a separate process."""

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
@click.option("--limit", default="requests=20/second burst 50", show_default=True, help="Limit that the workers share.")
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Number of workers, each sending one request after the other.",
)
@click.option("--seconds", type=click.FloatRange(0.5, 60), default=5.0, show_default=True, help="Duration in seconds.")
def demo(limit: str, workers: int, seconds: float) -> int:
    """Run workers that share one limit on this machine, and compare what they consumed with what the limit allows.

    Needs no AWS account. Exits with 1 when they consumed more than the limit allows, which would be a bug.
    """
    from ..core.limits import Limit
    from ..exceptions import ValidationError
    from ..local import LocalEngine
    from ..testing import create_table

    shared = read_limit(limit)
    if not isinstance(shared, Limit):
        raise ValidationError(f"expected a rate such as '20/second', not {limit!r}")
    say("starting an embedded engine ...")
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
    """Workers that consume one unit after the other, each with its own limiter, as separate processes would."""

    def __init__(self, client: object, limit: Limit, workers: int) -> None:
        self.admitted = [0] * workers
        self.refused = [0] * workers
        self._client = client
        self._limit = limit
        self._stop = threading.Event()

    def run(self, seconds: float) -> float:
        """Run the workers, and return the seconds from the first request to the last."""
        threads = [threading.Thread(target=self._work, args=[number]) for number in range(len(self.admitted))]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        try:
            while (left := begin + seconds - time.monotonic()) > 0:
                time.sleep(min(1.0, left))
                say(f"{time.monotonic() - begin:4.1f} s: {sum(self.admitted):,} allowed, {sum(self.refused):,} refused")
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
    # One unit for rounding, and 0.05 s for callers who wait at the end.
    allowed = limit.capacity + limit.refill_amount / limit.refill_period * (elapsed + 0.05) + 1
    click.echo(f"limit      {limit}")
    click.echo(f"workers    {len(competition.admitted)}, each with its own limiter")
    click.echo(f"allowed    {total} in {elapsed:.2f} s: {', '.join(map(str, competition.admitted))}")
    click.echo(f"refused    {sum(competition.refused)}")
    click.echo(f"maximum    {allowed:.0f}: the burst, and the units refilled since")
    click.echo("The limit held." if total <= allowed else "THE LIMIT DID NOT HOLD.")
    return OK if total <= allowed else FAILED
