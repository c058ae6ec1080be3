"""The README's application, with any peer as its limiter: one job's application, for gunicorn.

A header names the client's address, as a load balancer does. Paths below `/-/` are for the measuring process.
"""

from __future__ import annotations

import json
import os
import resource
from typing import TYPE_CHECKING, Any

from .metering import METER
from .plan import Job
from .web_worker import CONTROL, JOB_VARIABLE
from .worker import adapter_of, count_calls

if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIEnvironment

TIMEOUT = 0.5
"""Seconds for which the README's application waits rather than refuse."""

job = Job(**json.loads(os.environ[JOB_VARIABLE]))
peer = adapter_of(job)
peer.open()
count_calls(job)


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer a client, or refuse it."""
    if environ["PATH_INFO"].startswith(CONTROL):
        return control(environ["PATH_INFO"].removeprefix(CONTROL), start_response)
    if peer.acquire(f"{job.prefix}{environ['HTTP_X_FORWARDED_FOR']}", TIMEOUT):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"allowed\n"]
    start_response("429 Too Many Requests", [("Retry-After", "1")])
    return [b"too many requests\n"]


def control(command: str, start_response: StartResponse) -> Iterable[bytes]:
    """Start to count anew, or to account for the calls; return what was counted so far."""
    if command == "reset":
        METER.reset()
    if command == "account":
        METER.accounting = True
    usage = resource.getrusage(resource.RUSAGE_SELF)
    found: dict[str, Any] = {"meter": METER.summary(), "cpu_user": usage.ru_utime, "cpu_system": usage.ru_stime}
    if hasattr(peer, "statistics"):
        statistics = peer.statistics()
        found["statistics"] = {"transport": statistics.transport, "transport_reason": statistics.transport_reason}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(found).encode()]
