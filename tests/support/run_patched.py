"""Runs pytest in a process that was monkey-patched before anything else was imported.

    python tests/support/run_patched.py gevent|eventlet [PYTEST ARGUMENT ...]

The patching must stand first: a lock made, or boto imported, before it is the very fault that this run looks for.
"""

from __future__ import annotations

import os
import sys
import warnings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

RUNTIMES = ("gevent", "eventlet")
GRACE = 30.0


def patch(runtime: str) -> str:
    """Patch everything the runtime can; return its version."""
    if runtime == "gevent":
        import gevent.monkey

        gevent.monkey.patch_all()
        return gevent.__version__
    # Its resolver imports dnspython, which imports httpx and anyio if installed, all before anything is patched.
    os.environ["EVENTLET_NO_GREENDNS"] = "yes"
    with warnings.catch_warnings():
        # A separate class of warning, which cannot be named before the import that defines it.
        warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
        import eventlet

        eventlet.monkey_patch()
    return eventlet.__version__


def find_unpatched(runtime: str) -> list[str]:
    """Return what is not the runtime's own although it should be."""
    import socket
    import threading
    import time

    subjects = {
        "threading.Lock": type(threading.Lock()),
        "threading.get_ident": threading.get_ident,
        "socket.socket": socket.socket,
        "time.sleep": time.sleep,
    }
    return [name for name, subject in subjects.items() if not subject.__module__.startswith(runtime)]


def main(arguments: list[str]) -> int:
    """Patch, check, and run pytest; return its exit status."""
    if not arguments or arguments[0] not in RUNTIMES:
        sys.exit(__doc__)
    runtime = arguments[0]
    if early := {"threading", "socket"} & set(sys.modules):
        sys.exit(f"{runtime}: imported before patching: {', '.join(sorted(early))}")
    version = patch(runtime)
    if unpatched := find_unpatched(runtime):
        sys.exit(f"{runtime} {version} left unpatched: {', '.join(unpatched)}")
    print(f"{runtime} {version}: patched before any other import", flush=True)  # noqa: T201 - the answer to the user
    return run(runtime, version, arguments[1:])


def run(runtime: str, version: str, arguments: list[str]) -> int:
    """Run pytest, which names the runtime at its beginning and end."""
    import faulthandler
    import os
    import signal

    import pytest

    errors = os.dup(2)  # pytest captures the descriptor itself

    class Patched:
        def pytest_report_header(self) -> str:
            return f"patched by: {runtime} {version}"

        def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
            terminalreporter.section("runtime")
            terminalreporter.write_line(f"patched by: {runtime} {version}")

        @pytest.hookimpl(tryfirst=True)
        def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool:
            """Bound a test by a signal: pytest-timeout sees no main thread here, and its timer would be a greenlet.

            The signal can strike a greenlet that is not the test's. Should the test go on all the same, a thread that
            no patching reaches ends the process.
            """

            def fail(number: int, frame: object) -> None:
                pytest.fail(f"Timeout (>{settings.timeout}s) from a signal")

            def cancel() -> None:
                signal.setitimer(signal.ITIMER_REAL, 0)
                faulthandler.cancel_dump_traceback_later()

            signal.signal(signal.SIGALRM, fail)
            signal.setitimer(signal.ITIMER_REAL, settings.timeout)
            faulthandler.dump_traceback_later(settings.timeout + GRACE, exit=True, file=errors)
            item.cancel_timeout = cancel  # type: ignore[attr-defined]  # pytest-timeout's own place for it
            return True

    return int(pytest.main(arguments, plugins=[Patched()]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
