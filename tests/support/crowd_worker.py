"""Forks processes of one runtime whose callers take turns without end, until they are killed.

    python worker.py threads|gevent|eventlet|tasks PLAY JOB

PLAY is a module with a class `Play`, which says what the callers do; JOB is JSON for it. For each line on standard input it forks
one more process, whose play gets the line. All processes write lines to standard output; see turns.py. The parent ends with
standard input, and each forked process with its parent.
"""

from __future__ import annotations

import sys

sys.path[0] += "/.."

from support import pipe
from support.run_patched import patch

# Must come before any other import.
if __name__ == "__main__" and sys.argv[1] in ("gevent", "eventlet"):
    patch(sys.argv[1])

import asyncio
import importlib
import json
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.turns import CALLERS, async_turn, sync_turn

from limiter import RateLimiter, Repository, SyncRateLimiter, SyncRepository
from limiter.audit import record

if TYPE_CHECKING:
    from support.turns import Play


def hooks(job: dict[str, Any]) -> dict[str, Any]:
    """Return the hooks that record this process's decisions, if the test asks for a record."""
    return {"on_decision": record(Path(job["record"]) / f"{os.getpid()}.jsonl")} if "record" in job else {}


def run_threads(job: dict[str, Any], play: Play) -> None:
    """Take turns in threads, or in greenlets where threads are patched, without end."""
    repository = SyncRepository(job["table"], endpoint_url=job["endpoint_url"], **play.repository_options)
    limiter = SyncRateLimiter(repository, **play.limiter_options, **hooks(job))
    play.begin(limiter)

    def call() -> None:
        while True:
            turn, failure = play.turn(), None
            try:
                sync_turn(limiter, turn)
            except BaseException as error:
                failure = error
            time.sleep(play.after(turn, failure))

    callers = [threading.Thread(target=call) for _ in range(CALLERS)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()


async def run_tasks(job: dict[str, Any], play: Play) -> None:
    """Take turns in tasks, without end."""
    repository = Repository(job["table"], endpoint_url=job["endpoint_url"], **play.repository_options)
    limiter = RateLimiter(repository, **play.limiter_options, **hooks(job))
    play.begin(limiter)

    async def call() -> None:
        while True:
            turn, failure = play.turn(), None
            try:
                await async_turn(limiter, turn)
            except BaseException as error:
                failure = error
            await asyncio.sleep(play.after(turn, failure))

    await asyncio.gather(*(call() for _ in range(CALLERS)))


def main(runtime: str, module: str, job: dict[str, Any]) -> None:
    """Fork for each line, and report the new process's id.

    Ended processes are not waited for, so that their ids are not reused and a kill cannot hit another process.
    """
    # Their code is loaded once here, rather than in each of the short-lived processes.
    import boto3  # noqa: F401

    if runtime == "tasks":
        import aiobotocore.session  # noqa: F401
    play = importlib.import_module(module).Play
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            try:
                asyncio.run(run_tasks(job, play(line))) if runtime == "tasks" else run_threads(job, play(line))
            finally:
                os._exit(1)
        pipe.say(f"= {pid}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
