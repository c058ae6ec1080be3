"""`limiter check` and `limiter acquire -- COMMAND`.

The test of `limiter.cli.amounts`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.one_server,
    pytest.mark.skipif(os.name == "nt", reason="a command takes the place of another one on POSIX only"),
]
LIMIT = ("--limit", "2/hour")
ACQUIRE = [sys.executable, "-m", "limiter.cli", "acquire", "user", "api"]


def available(run: Callable[..., Any], limit: str = "2/hour") -> int:
    """What is left."""
    document = json.loads(run("check", "user", "api", "--limit", limit, "-o", "json").out)
    found: int = document["statuses"][0]["available"]
    return found


def call(*command: str, limit: str = "2/hour", options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a command under a limit, in a process of its own."""
    arguments = [*ACQUIRE, "--limit", limit, *options, "--", *command]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)


def test_check_takes_nothing(stack: str, run: Callable[..., Any]) -> None:
    """Asking twice gives the same answer; the JSON names every limit, and a refusal has status 3."""
    for _ in range(2):
        done = run("check", "user", "api", *LIMIT, "-o", "json")
        assert done.code == 0
        document = json.loads(done.out)
        assert (document["allowed"], document["statuses"][0]["available"]) == (True, 2)
    refused = run("check", "user", "api", "-c", "requests=3", *LIMIT, "-o", "json")
    assert refused.code == 3
    assert json.loads(refused.out)["retry_after"] is None


def test_check_uses_stored_limits(stack: str, run: Callable[..., Any]) -> None:
    """Without --limit, what is stored counts; with nothing stored, the command says so."""
    missing = run("check", "user", "api")
    assert missing.code == 2
    assert "no limits apply" in missing.err
    assert "pass --limit, or store some with `limiter limits set`" in missing.err
    run("limits", "set", "5/hour")
    assert "requests=5/hour" in run("check", "user", "api", "-o", "text").out


@pytest.mark.parametrize("amount", ["tokens", "tokens=", "tokens=-1", "tokens=1.5", "tokens=٣", "=1"])
def test_amounts_that_make_no_sense(stack: str, run: Callable[..., Any], amount: str) -> None:
    """They are refused as wrong usage."""
    assert run("check", "user", "api", "-c", amount, *LIMIT).code == 2


def test_runs_and_passes_the_status_through(stack: str, run: Callable[..., Any]) -> None:
    """The command's output and exit status are those of the call; it was paid for once, also when it fails."""
    done = call("sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert available(run) == 1


def test_leaves_the_commands_own_options_alone(stack: str) -> None:
    """Everything behind the dashes is the command's, more dashes included."""
    done = call("printf", "%s,", "--limit", "--", "-h", "")
    assert done.stdout == "--limit,--,-h,,"


def test_a_refusal_runs_nothing(stack: str, run: Callable[..., Any]) -> None:
    """When a limit refuses, the command is not run, the status is 3 or what the user chose, and the message says when."""
    call("true", options=("-c", "requests=2"))
    done = call("echo", "ran")
    assert (done.returncode, done.stdout) == (3, "")
    assert "retry after" in done.stderr
    assert call("true", options=("--refused-code", "75")).returncode == 75


def test_waits_for_its_turn(stack: str) -> None:
    """With --timeout the command runs when its turn comes."""
    limit = "1/second"
    assert call("true", limit=limit).returncode == 0
    done = call("echo", "ran", limit=limit, options=("--timeout", "5"))
    assert (done.returncode, done.stdout) == (0, "ran\n")


@pytest.mark.parametrize(("program", "code"), [("no-such-program", 127), ("/no/such", 127), ("/etc/passwd", 126), ("/etc", 126)])
def test_a_command_that_cannot_be_run(stack: str, run: Callable[..., Any], program: str, code: int) -> None:
    """Nothing is taken for a command that cannot be run."""
    done = call(program)
    assert done.returncode == code
    assert "nothing was consumed" in done.stderr
    assert ("cannot be executed" in done.stderr) is (code == 126)
    assert available(run) == 2


def test_a_command_that_cannot_be_executed(stack: str, run: Callable[..., Any], tmp_path: Any) -> None:
    """What was taken is given back, and the status is 126."""
    program = tmp_path / "program"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    done = call(str(program))
    assert done.returncode == 126
    assert "units were refunded" in done.stderr
    assert available(run) == 2


def test_needs_dashes(stack: str, run: Callable[..., Any]) -> None:
    """Without them, the command's options could be taken for the limiter's."""
    for arguments in (("true",), (), ("--",)):
        done = run("acquire", "user", "api", *LIMIT, *arguments)
        assert done.code == 2
        assert "Error: " in done.err
    assert available(run) == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_command(stack: str, number: signal.Signals) -> None:
    """A signal to the process is the command's to handle."""
    script = f"trap 'echo caught; exit 5' {number.name.removeprefix('SIG')}; echo ready; while :; do sleep 0.05; done"
    process = subprocess.Popen([*ACQUIRE, *LIMIT, "--", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.communicate(timeout=30)[0] == "caught\n"
    assert process.returncode == 5


def test_a_command_ended_by_a_signal(stack: str) -> None:
    """Its end is that of the process, as the shell sees it."""
    assert call("sh", "-c", "kill -KILL $$").returncode == -signal.SIGKILL


def test_a_command_ends_with_its_reader(stack: str) -> None:
    """SIGPIPE is what it is for every other program, although Python ignores it."""
    done = subprocess.run(
        ["sh", "-c", f"{{ {' '.join(ACQUIRE)} --limit 2/hour -- yes; echo $? >&2; }} | head -n 1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "y\n"
    assert done.stderr.strip() == str(128 + signal.SIGPIPE)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_caller_that_stops_waiting_gives_the_turn_back(
    stack: str, run: Callable[..., Any], number: signal.Signals, code: int
) -> None:
    """A signal while it waits ends it without running the command, and the booked turn is free again."""
    limit = "1/minute"
    assert call("true", limit=limit).returncode == 0
    options = ["--limit", limit, "--timeout", "100", "--", "echo", "ran"]
    process = subprocess.Popen([*ACQUIRE, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while available(run, limit) > -1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert available(run, limit) == -1
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (code, "")
    assert "Traceback" not in errors
    assert available(run, limit) == 0


def test_without_a_store(table_name: str, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """By default nothing runs and the status is 4; --on-unavailable allow runs it unlimited."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("LIMITER_STACK", table_name)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    done = call("echo", "ran")
    assert (done.returncode, done.stdout) == (4, "")
    assert "could not connect" in done.stderr
    allowed = call("echo", "ran", options=("--on-unavailable", "allow"))
    assert (allowed.returncode, allowed.stdout) == (0, "ran\n")
