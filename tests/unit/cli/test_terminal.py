"""The command in a real terminal, and in pipes.

The test of `limiter.cli.demo`.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from support.presence import need

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals on this system")

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.one_server
LIMITER = [sys.executable, "-m", "limiter.cli"]
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-7]m")
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
DEADLINE = 60.0


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "200", **environment}
        for name in ("NO_COLOR", "FORCE_COLOR", "CI"):
            if name not in environment:
                variables.pop(name, None)
        self.process_id, self.descriptor = self._spawn(arguments, variables)
        self.output = ""

    @staticmethod
    def _spawn(arguments: tuple[str, ...], environment: Mapping[str, str]) -> tuple[int, int]:
        process_id, descriptor = pty.fork()
        if process_id == 0:
            os.execve(sys.executable, [*LIMITER, *arguments], dict(environment))  # noqa: S606 - the child
        return process_id, descriptor

    def read_until(self, text: str) -> None:
        """Read on until the output holds a text."""
        end = time.monotonic() + DEADLINE
        while text not in self.output:
            assert time.monotonic() < end, self.output
            assert self._read(), self.output

    def _read(self) -> bool:
        if not select.select([self.descriptor], [], [], DEADLINE)[0]:
            raise TimeoutError(self.output)
        try:
            chunk = os.read(self.descriptor, 65536)
        except OSError:  # Linux reports the end of a terminal so.
            return False
        self.output += chunk.decode()
        return bool(chunk)

    def _ended(self) -> bool:
        """Whether the command closes the terminal within a second."""
        while select.select([self.descriptor], [], [], 1.0)[0]:
            if not self._read():
                return True
        return False

    def write(self, text: str) -> None:
        """Type something."""
        os.write(self.descriptor, text.encode())

    def finish(self, *, interrupt: bool = False) -> int:
        """Read to the end, after Ctrl-C if told so, and return the exit status."""
        while interrupt and not self._ended():
            # Python misses a signal that comes right before it begins to read, as no user could manage.
            self.write("\x03")
        while self._read():
            pass
        _, status = os.waitpid(self.process_id, 0)
        os.close(self.descriptor)
        return os.waitstatus_to_exitcode(status)


def test_a_table_has_colours_unless_told_not_to(stack: str) -> None:
    """In a terminal results are coloured; NO_COLOR is honoured."""
    coloured = Terminal("doctor", stack)
    assert coloured.finish() == 0
    assert COLOUR.search(coloured.output)
    plain = Terminal("doctor", stack, NO_COLOR="1")
    assert plain.finish() == 0
    assert not COLOUR.search(plain.output)
    assert "permissions: acquire" in plain.output


@pytest.mark.engines("moto")
def test_a_pipe_has_neither_colours_nor_cut_lines(stack: str) -> None:
    """What a program reads is whole and plain."""
    done = subprocess.run([*LIMITER, "doctor", stack], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "fine on a local engine, or when the table was created by another tool" in done.stdout


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_a_question_before_deleting(stack: str, answer: str, code: int) -> None:
    """Only a yes deletes; anything else leaves everything as it is."""
    subprocess.run([*LIMITER, "limits", "set", "5/hour"], timeout=60, check=True, capture_output=True)
    terminal = Terminal("limits", "delete")
    terminal.read_until("[y/N]")
    terminal.write(answer)
    assert terminal.finish() == code
    left = subprocess.run([*LIMITER, "limits", "get"], timeout=60, check=False, capture_output=True)
    assert left.returncode == (1 if code == 0 else 0)


def test_ctrl_c_at_a_question(stack: str) -> None:
    """It is no answer, and no traceback."""
    terminal = Terminal("limits", "delete")
    terminal.read_until("[y/N]")
    assert terminal.finish(interrupt=True) == 130
    assert "Traceback" not in terminal.output


def test_ctrl_c_reaches_the_command_once(stack: str) -> None:
    """A command under a limit is the terminal's foreground process."""
    script = "trap 'echo caught' INT; echo ready; sleep 1; exit 9"
    terminal = Terminal("acquire", "user", "api", "--limit", "5/hour", "--", "sh", "-c", script)
    terminal.read_until("ready")
    terminal.write("\x03")
    assert terminal.finish() == 9
    assert terminal.output.count("caught") == 1


def test_top_is_live_and_ends_with_ctrl_c(stack: str) -> None:
    """It redraws until it is interrupted, which is its usual end: the exit code is 0."""
    subprocess.run([*LIMITER, "limits", "set", "5/hour", "-e", "u", "-r", "api"], timeout=60, check=True, capture_output=True)
    subprocess.run([*LIMITER, "acquire", "u", "api", "--", "true"], timeout=60, check=True)
    terminal = Terminal("top", "--resource", "api", "--interval", "0.2")
    terminal.read_until("5/hour")
    terminal.output = ""
    terminal.read_until("5/hour")
    terminal.write("\x03")
    assert terminal.finish() == 0
    assert "Traceback" not in terminal.output


def test_a_narrow_terminal_drops_columns(stack: str) -> None:
    """At 60 columns no line is wrapped: less important columns are left out, and the values that count stay."""
    limits = ["requests=1000000/minute burst 5000000", "tokens=5/hour"]
    subprocess.run([*LIMITER, "limits", "set", *limits], timeout=60, check=True, capture_output=True)
    subprocess.run([*LIMITER, "acquire", "user-42", "gpt-4", "--", "true"], timeout=60, check=True)
    widths = {}
    for width in ("60", "200"):
        terminal = Terminal("top", "--count", "1", COLUMNS=width, NO_COLOR="1")
        assert terminal.finish() == 0
        widths[width] = CONTROL.sub("", terminal.output)
    for output in widths.values():
        assert any({"user-42", "gpt-4", "requests"} <= set(line.split()) for line in output.splitlines()), output
    assert "burst 5000000" in widths["200"]
    assert "burst" not in widths["60"]
    assert "available" in widths["60"]


@pytest.mark.parametrize("arguments", [("template",), ("--version",)])
def test_a_reader_that_goes_away(arguments: tuple[str, ...]) -> None:
    """A closed pipe ends the command quietly, whether it has much to say or little."""
    process = subprocess.Popen(
        [*LIMITER, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 1
    assert errors == b""


def test_the_demo() -> None:
    """It starts an engine, lets workers compete, and says that the limit held."""
    need("moto")
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [*LIMITER, "demo", "--seconds", "1", "--workers", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env={**os.environ, **path})
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "The limit held."
