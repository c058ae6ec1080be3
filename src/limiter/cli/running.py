"""Runs a command as a child of this process, which goes on renewing the slots that it holds."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

PASSED_ON = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
"""Signals that the command is sent when this process receives them."""
FOR_ALL = ("SIGINT", "SIGQUIT")
"""Signals that a terminal sends to the command too, whose end this process awaits."""
SIGNALLED = 128
"""The number that a shell adds to the number of the signal that ended a command."""
FENCE = "LIMITER_FENCE"
"""The environment variable in which the command finds the fence of its slots."""


def run_beside(program: str, command: list[str], fence: int | None) -> int:
    """Run the command to its end, and return its exit code. Raises `OSError` if it cannot be started."""
    runner = _Runner()
    before = {number: signal.signal(number, runner.receive) for number in _numbers(PASSED_ON)}
    # A handler does nothing where ignoring would do, because a child inherits that a signal is ignored, and no handler.
    before |= {number: signal.signal(number, lambda *_: None) for number in _numbers(FOR_ALL)}
    environment = os.environ | ({} if fence is None else {FENCE: str(fence)})
    try:
        code = runner.run([program, *command[1:]], environment)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else SIGNALLED - code


class _Runner:
    """Starts a child, and passes signals on to it, also those that came before its start."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def receive(self, number: int, _: FrameType | None) -> None:
        """Pass a signal on."""
        if self._child is None:
            self._early.append(number)
        else:
            self._child.send_signal(number)

    def run(self, arguments: list[str], environment: dict[str, str]) -> int:
        """Run the child to its end."""
        self._child = subprocess.Popen(arguments, env=environment)  # noqa: S603 - as the user asks
        for number in self._early:
            self._child.send_signal(number)
        return self._child.wait()


def _numbers(names: tuple[str, ...]) -> list[signal.Signals]:
    """Return the signals of this system that were not ignored before: as under `nohup`, the child then ignores them too."""
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
