"""Detects what prevents the limiter from working in this process: late or partial patching, or a running event loop.

If none of gevent, eventlet and asyncio was imported, the check costs a few dictionary lookups; it imports nothing.
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

from ..exceptions import BlockingCallWarning, RuntimeNotReady

if TYPE_CHECKING:
    from types import FrameType

_BETWEEN = {__name__.partition(".")[0], "langchain_core"}
"""Packages between the limiter and the line that called it."""
_REMEDIES = {
    "gevent": "call gevent.monkey.patch_all(), with no arguments",
    "eventlet": "call eventlet.monkey_patch(), with no arguments",
}
_FIRST = "before anything else is imported; with gunicorn --preload, at the top of its configuration file"
# Parts that have to be patched, as each library names them. Eventlet's "socket" includes TLS.
_PARTS = {
    "gevent": {"socket": "sockets", "ssl": "TLS", "threading": "threads and locks", "time": "time.sleep"},
    "eventlet": {"socket": "sockets", "thread": "threads and locks", "time": "time.sleep"},
}
MAX_PLACES = 1_000
"""The most places that a warning is given for."""

_places: set[tuple[str, int]] = set()


def patcher() -> str | None:
    """Return the library that has patched anything in this process: "gevent", "eventlet", or None."""
    return next((library for library in _PARTS if any(_patched(library).values())), None)


def check_patching() -> None:
    """Raise `RuntimeNotReady` if a client would recurse endlessly, deadlock, or block all greenlets."""
    library = patcher()
    if library is None:
        return
    missing = [part for part, done in _patched(library).items() if not done]
    if missing:
        raise RuntimeNotReady(
            f"{library} has patched this process in part, without {', '.join(missing)}, so greenlets would block each other, "
            f"some of them forever; {_REMEDIES[library]}, {_FIRST}"
        )
    if _holds_old_tls():
        raise RuntimeNotReady(
            f"boto3, or urllib3 below it, was imported before {library} patched TLS, so HTTPS calls would recurse without end; "
            f"{_REMEDIES[library]}, {_FIRST}"
        )


def check_made_after_patching(before: str | None) -> None:
    """Raise `RuntimeNotReady` if the process was patched since `patcher()` returned `before`."""
    library = patcher()
    if library is not None and library != before:
        raise RuntimeNotReady(
            f"this limiter was made before {library} patched the process, so the application was imported too early, and "
            f"locks that it made would hang; {_REMEDIES[library]}, {_FIRST}"
        )


def warn_of_blocking(call: str) -> None:
    """Warn, once for each place, that a sync call blocks the event loop that runs in this thread.

    Does not warn under gevent or eventlet, where the call yields to other greenlets, or in a Jupyter kernel, whose loop waits for
    the cell anyway.
    """
    frame = _calling_frame()
    if frame is None or patcher() is not None or _in_kernel():
        return
    place = (frame.f_code.co_filename, frame.f_lineno)
    if place in _places or len(_places) >= MAX_PLACES:
        return
    _places.add(place)
    message = (
        f"SyncRateLimiter.{call} blocks the event loop that runs in this thread ({place[0]}:{place[1]}), and all its tasks, for "
        f"as long as each call takes; use the async version, RateLimiter.{call}, or call it from a plain `def` or a thread"
    )
    warnings.warn_explicit(message, BlockingCallWarning, *place, module=frame.f_globals.get("__name__"))


def _calling_frame() -> FrameType | None:
    """Return the innermost frame of the caller's own code."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        frame = frame.f_back
    return frame


def _in_kernel() -> bool:
    """Tell whether this is a Jupyter kernel."""
    shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def _patched(library: str) -> dict[str, bool]:
    """Return the relevant parts that `library` has patched; empty if it was never imported."""
    module: Any = sys.modules.get("gevent.monkey" if library == "gevent" else "eventlet.patcher")
    test = getattr(module, "is_module_patched" if library == "gevent" else "is_monkey_patched", None)
    return {part: bool(test(name)) for name, part in _PARTS[library].items()} if test is not None else {}


def _holds_old_tls() -> bool:
    """Tell whether urllib3 holds the unpatched class `ssl.SSLContext`, whose setters then call themselves."""
    held = getattr(sys.modules.get("urllib3.util.ssl_"), "SSLContext", None)
    current = getattr(sys.modules.get("ssl"), "SSLContext", None)
    # A class of another module, such as pyOpenSSL's, is no sign of late patching.
    return getattr(held, "__module__", None) == "ssl" and held is not current
