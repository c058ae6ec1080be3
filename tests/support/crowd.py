"""Processes of one runtime that take turns; see crowd_worker.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

WORKER = str(Path(__file__).with_name("crowd_worker.py"))
RUNTIMES = ("threads", "gevent", "eventlet", "tasks")
START = 60.0


class Crowd:
    """Processes of one runtime, and everything they reported."""

    def __init__(self, runtime: str, play: str, job: dict[str, Any]) -> None:
        self.runtime = runtime
        self.alive: list[int] = []
        self.reported: Counter[str] = Counter()
        self.began = time.monotonic()
        self.started = 0
        self.lines = 0
        self.complaints: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, WORKER, runtime, play, json.dumps(job)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        """Read their output until the last one has ended."""
        assert self.process.stdout is not None
        with self.process.stdout as said:
            for line in said:
                self.hear(*line.split())

    def hear(self, sign: str, first: str, *rest: str) -> None:
        """Record one line."""
        if sign == "=":
            self.alive.append(int(first))
        elif sign == "!":
            self.complaints.append(" ".join([first, *rest]))
        elif sign in "+-":
            self.reported[first] += int(sign + rest[0])
            self.lines += 1

    def start(self, line: str) -> None:
        """Start one more process, whose play gets the line."""
        assert self.process.stdin is not None
        self.started += 1
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def kill(self, chance: random.Random) -> None:
        """Kill one process, if there is any."""
        if self.alive:
            os.kill(self.alive.pop(chance.randrange(len(self.alive))), signal.SIGKILL)

    def stop(self) -> None:
        """Kill all, and return when all output has been read; a process that is not known yet ends with its parent."""
        if self.process.stdin is None or self.process.stdin.closed:
            return
        while self.alive:
            os.kill(self.alive.pop(), signal.SIGKILL)
        self.process.stdin.close()
        self.process.wait(START)
        self.reader.join(START)
        assert not self.reader.is_alive()
