"""`limiter acquire -- COMMAND` holds slots while the command runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.one_server,
    pytest.mark.skipif(os.name == "nt", reason="signals and shells of POSIX"),
]
LIMIT = ("--limit", "calls=1 at once")
CHECK = [sys.executable, "-m", "limiter.cli", "check", "user", "api", *LIMIT, "-o", "json"]
ACQUIRE = [sys.executable, "-m", "limiter.cli", "acquire", "user", "api", *LIMIT, "--"]


def call(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command that needs the slot, in a process of its own."""
    return subprocess.run([*ACQUIRE, *command], capture_output=True, text=True, timeout=60, check=False)


def held(run: Callable[..., Any]) -> int:
    """Slots that are held now."""
    found: int = json.loads(run("check", "user", "api", *LIMIT, "-o", "json").out)["statuses"][0]["slots"]["held"]
    return found


def test_a_slot_is_held_until_the_command_ends(stack: str, run: Callable[..., Any]) -> None:
    """Within the command no slot is left; after it, the slot is free, and the command's exit code is that of the call."""
    done = call(*CHECK)
    assert (done.returncode, done.stderr) == (3, "")
    assert json.loads(done.stdout)["statuses"][0]["slots"] == {"held": 1, "holders": 1, "expired": 0}
    assert held(run) == 0


def test_the_command_is_told_its_fence(stack: str) -> None:
    """Each number is greater than the one before."""
    first, second = (int(call("sh", "-c", "echo $LIMITER_FENCE").stdout) for _ in range(2))
    assert second > first > 0


def test_a_command_that_a_signal_ends(stack: str, run: Callable[..., Any]) -> None:
    """Its exit code is that of a shell, and the slot is free."""
    assert call("sh", "-c", "kill -KILL $$").returncode == 128 + signal.SIGKILL
    assert held(run) == 0


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_signals_are_passed_on(stack: str, run: Callable[..., Any], name: str) -> None:
    """The command decides what they mean; its slot is held until it ends."""
    script = f"trap 'echo got; exit 9' {name.removeprefix('SIG')}; echo ready; while :; do sleep 0.05; done"
    with subprocess.Popen([*ACQUIRE, "sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert held(run) == 1
        process.send_signal(getattr(signal, name))
        assert process.stdout.readline() == "got\n"
        assert process.wait(60) == 9
    assert held(run) == 0


def test_a_command_that_cannot_be_started_takes_no_slot(stack: str, run: Callable[..., Any], tmp_path: Any) -> None:
    """The slot is given back."""
    broken = tmp_path / "broken"
    broken.write_text("#!/no/such/interpreter\n")
    broken.chmod(0o700)
    done = call(str(broken))
    assert done.returncode == 126
    assert "cannot be executed" in done.stderr
    assert held(run) == 0


def test_ignored_signals_stay_ignored(stack: str) -> None:
    """Under `nohup`, a command that the CLI runs ignores what `nohup` lets it ignore."""
    script = "kill -HUP $$; echo alive"
    done = subprocess.run(["nohup", *ACQUIRE, "sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "alive\n")
