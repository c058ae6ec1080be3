"""The main job on one machine: gunicorn with two gevent workers and an asyncio program share one limit on one table.

    python examples/demo/run.py [--seconds N]

Starts the embedded engine, deploys the stack on it, starts both programs, sends a bounded load, and compares what was admitted
with what the limit allows. Needs no AWS account and leaves nothing running. Status 0: they agree; 1: they do not, or a program
failed; 130: interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from programs import Client, DemoFailed, Load, Server
from rich.console import Console
from rich.live import Live
from rich.table import Table
from verdict import Tally, Verdict, judge, units_within

from limiter import Limit, LimiterError, SyncRateLimiter, SyncRepository, SyncStackManager
from limiter.core.records import BucketKey
from limiter.local import LocalEngine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from programs import Program

STACK = "limiter-demo"
LIMIT = Limit.per_second("requests", 10, burst=50)
OPENING = 20
"""Units that this script consumes first, so that the bucket cannot be full again before the others have begun."""
SECONDS = 12.0
LOOK = 0.25
"""Seconds between two looks at the progress."""
PLAIN_LOOKS = 4
"""Looks for each line if there is no terminal."""
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Run the demo; return its exit status."""
    seconds = parse_arguments()
    console = Console(highlight=False, soft_wrap=True)
    for number in INTERRUPTIONS:
        signal.signal(number, interrupt)
    point_at_nobodys_aws()
    try:
        verdict = run(console, seconds)
    except KeyboardInterrupt:
        console.print("interrupted; nothing is left running")
        return 130
    except (DemoFailed, LimiterError) as error:
        console.print("[bold red]FAILED:[/] ", end="")
        console.print(str(error), markup=False)
        return 1
    return 1 if verdict.complaints else 0


def interrupt(number: int, frame: object) -> None:
    """Begin to stop everything, which no further signal interrupts."""
    for each in INTERRUPTIONS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def parse_arguments() -> float:
    """Return the seconds of load."""
    parser = argparse.ArgumentParser(description="gunicorn gevent workers and an asyncio program share one limit")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="seconds of load (default: %(default)s)")
    seconds: float = parser.parse_args().seconds
    if not 1 <= seconds <= 600:
        parser.error(f"--seconds must be between 1 and 600, not {seconds}")
    return seconds


def point_at_nobodys_aws() -> None:
    """Replace every AWS setting of the user, for this process and its children, with one that the engine accepts."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


def run(console: Console, seconds: float) -> Verdict:
    """Start everything, send the load, stop everything, and print the result."""
    progress = Progress(console)
    with ExitStack() as stack:
        engine = stack.enter_context(LocalEngine())
        os.environ["AWS_ENDPOINT_URL"] = engine.endpoint_url
        progress.say(f"engine     {engine.endpoint_url}, embedded, in memory")
        SyncStackManager(STACK).deploy()
        progress.say(f"stack      {STACK!r} deployed by CloudFormation, with its table")
        repository = stack.enter_context(SyncRepository(STACK, read_timeout=2.0))
        limiter = SyncRateLimiter(repository, decision_timeout=5.0)
        limiter.set_limits([LIMIT])
        progress.say(f"limit      {LIMIT}, stored in the table, for all programs together")

        server, client = stack.enter_context(Server()), stack.enter_context(Client(progress.tally))
        server.wait_until_ready()
        progress.say(f"program 1  a WSGI application under gunicorn, 2 gevent workers, http://127.0.0.1:{server.port}")
        client.wait_until_ready()
        progress.say("program 2  an asyncio client\n")

        limiter.try_acquire("demo", "api", {"requests": OPENING})
        progress.tally("this script, to begin with").admit(time.time_ns(), OPENING)
        bucket = BucketKey(repository.namespace, "demo", "api")
        since = repository.read_bucket(bucket).level(LIMIT.identity).since
        client.begin()
        with Load(server, progress.tally):
            progress.watch(since, seconds, (server, client))
            client.finish()
        ended = time.time_ns()
        level = repository.read_bucket(bucket).level(LIMIT.identity)
    verdict = judge(LIMIT, list(progress.tallies.values()), level.since, level.tat, ended)
    progress.conclude(verdict, max(tally.last for tally in progress.tallies.values()) - level.since, ended - level.since)
    return verdict


class Progress:
    """The decisions of each program so far, shown as a live table on a terminal and as plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self.tallies: dict[str, Tally] = {}
        self._console = console
        self._began = time.monotonic()

    def tally(self, program: str) -> Tally:
        """Return the tally of one program."""
        return self.tallies.setdefault(program, Tally())

    def say(self, words: str) -> None:
        """Print what was done, and when."""
        self._console.print(f"{time.monotonic() - self._began:5.1f} s  {words}", markup=False)

    def watch(self, since: int, seconds: float, programs: Iterable[Program]) -> None:
        """Show the progress for some seconds, and check the programs all the while."""
        live = self._console.is_terminal and not self._console.is_dumb_terminal
        end, looks = time.monotonic() + seconds, 0
        with ExitStack() as stack:
            show = stack.enter_context(Live(console=self._console, auto_refresh=False, transient=True)) if live else None
            while (left := end - time.monotonic()) > 0:
                time.sleep(min(LOOK, left))
                for program in programs:
                    program.check()
                looks += 1
                span = time.time_ns() - since
                if show is not None:
                    table = self._table()
                    table.add_row(f"allowed by now, after {span / 1e9:.1f} s", str(units_within(LIMIT, span)))
                    show.update(table, refresh=True)
                elif looks % PLAIN_LOOKS == 0:
                    self._print_line(span)

    def conclude(self, verdict: Verdict, to_last: int, to_end: int) -> None:
        """Print all the numbers, and whether they agree."""
        rule = f"{LIMIT.capacity} + {LIMIT.refill_amount} per second × "
        say = self._console.print
        say(self._table())
        say(f"\nthe table counts  {verdict.booked:6}   units taken since the bucket was last full")
        say(f"allowed           {verdict.allowed:6}   {rule}{to_last / 1e9:.3f} s, from the first admission to the last")
        say(f"possible          {verdict.possible:6}   {rule}{to_end / 1e9:.3f} s, from the first admission to the end\n")
        for complaint in verdict.complaints:
            say(f"[bold red]DISAGREE:[/] {complaint}")
        if not verdict.complaints:
            say(f"[bold green]AGREE:[/] {verdict.admitted} admitted by {len(self.tallies)} processes, {verdict.allowed} allowed")

    def _print_line(self, span: int) -> None:
        admitted, refused = self._totals()
        self._console.print(
            f"{span / 1e9:5.1f} s  admitted {admitted:4}  refused {refused:4}  allowed by now {units_within(LIMIT, span):4}"
        )

    def _totals(self) -> tuple[int, int]:
        tallies = tuple(self.tallies.values())
        return sum(tally.admitted for tally in tallies), sum(tally.refused for tally in tallies)

    def _table(self) -> Table:
        table = Table("program", box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for name in ("admitted", "refused"):
            table.add_column(name, justify="right")
        for program, tally in tuple(self.tallies.items()):
            table.add_row(program, str(tally.admitted), str(tally.refused))
        admitted, refused = self._totals()
        table.add_row("all together", str(admitted), str(refused), style="bold")
        return table


if __name__ == "__main__":
    sys.exit(main())
