"""Two gevent workers, as in production; `bind` comes from the command line."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

worker_class = "gevent"
workers = 2
graceful_timeout = 3
loglevel = "warning"


def when_ready(server: Any) -> None:
    """End with the program that started this one, which closes our standard input when it ends."""
    threading.Thread(target=end_with_standard_input, args=[server.pid], daemon=True).start()


def end_with_standard_input(pid: int) -> None:
    """Wait for the end of standard input, then ask the process to stop."""
    while os.read(0, 1024):
        pass
    os.kill(pid, signal.SIGTERM)
