"""Makes calls of a limiter while another tool watches those of botocore, and prints as JSON what either saw.

    python -m support.tracing_tools TOOL sync|async     # in tests/

In a process of its own, since tools patch for good. One call is made before the tool starts, two after, of which one by a new
client, and one more where the tool can be removed. Prints the transport after each, and the calls that the tool has seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import json
import os
import sys
from typing import TYPE_CHECKING, Any
from unittest import mock

from support.wire_server import WireServer

if TYPE_CHECKING:
    from collections.abc import Callable

os.environ |= {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1",
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    "DD_TRACE_STARTUP_LOGS": "false",
}
Seen = list[str]


def client_class(kind: str) -> tuple[str, str]:
    """Return the module and class through which all calls of one kind of client go."""
    return ("botocore.client", "BaseClient") if kind == "sync" else ("aiobotocore.client", "AioBaseClient")


def start_opentelemetry(kind: str, seen: Seen) -> Callable[[], None]:
    """Start OpenTelemetry's instrumentation, with its spans kept in memory."""
    from opentelemetry.instrumentation.botocore import AiobotocoreInstrumentor, BotocoreInstrumentor
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    class Keep(SpanProcessor):
        def on_end(self, span: Any) -> None:
            seen.append(span.attributes["rpc.method"])

    provider = TracerProvider()
    provider.add_span_processor(Keep())
    instrumentor: Any = BotocoreInstrumentor() if kind == "sync" else AiobotocoreInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    return instrumentor.uninstrument


def start_ddtrace(kind: str, seen: Seen) -> None:
    """Start Datadog's tracer, with its spans kept here."""
    from ddtrace import patch
    from ddtrace.trace import TraceFilter, tracer

    class Keep(TraceFilter):
        def process_trace(self, trace: Any) -> None:
            seen.extend(span.get_tag("aws.operation") for span in trace)

    tracer.configure(trace_processors=[Keep()])
    patch(**{"botocore" if kind == "sync" else "aiobotocore": True})


def start_xray(kind: str, seen: Seen) -> None:
    """Start X-Ray's recorder, with its segments kept here."""
    from aws_xray_sdk.core import patch, xray_recorder

    class Keep:
        def send_entity(self, entity: Any) -> None:
            seen.extend(each.aws["operation"] for each in entity.subsegments)

        def set_daemon_address(self, address: str) -> None:
            """Send nothing anywhere."""

    context: dict[str, Any] = {}
    if kind == "async":
        from aws_xray_sdk.core.async_context import AsyncContext

        context = {"context": AsyncContext()}
    xray_recorder.configure(sampling=False, service="limiter", emitter=Keep(), context_missing="LOG_ERROR", **context)
    patch(["botocore" if kind == "sync" else "aiobotocore"])
    xray_recorder.begin_segment("call")


def stop_xray() -> None:
    """Send the segment."""
    recorder: Any = sys.modules.get("aws_xray_sdk.core")
    if recorder is not None and recorder.xray_recorder.current_segment() is not None:
        recorder.xray_recorder.end_segment()


def start_mock(kind: str, seen: Seen) -> Callable[[], None]:
    """Put a mock of `unittest.mock` in place of the function that makes a call."""
    module, owner = client_class(kind)
    original = getattr(importlib.import_module(module), owner)._make_api_call

    def call(self: Any, operation: str, parameters: Any) -> Any:
        seen.append(operation)
        return original(self, operation, parameters)

    patcher = mock.patch(f"{module}.{owner}._make_api_call", call)
    patcher.start()
    return patcher.stop


def start_send(kind: str, seen: Seen) -> Callable[[], None]:
    """Put a mock of `unittest.mock` around the function by which botocore sends."""
    place = "botocore.httpsession.URLLib3Session" if kind == "sync" else "aiobotocore.httpsession.AIOHTTPSession"
    module, _, owner = place.rpartition(".")
    original = getattr(importlib.import_module(module), owner).send

    def send(self: Any, request: Any) -> Any:
        seen.append(request.headers["X-Amz-Target"].decode().partition(".")[2])
        return original(self, request)

    patcher = mock.patch(f"{place}.send", send)
    patcher.start()
    return patcher.stop


TOOLS: dict[str, Callable[[str, Seen], Callable[[], None] | None]] = {
    "opentelemetry": start_opentelemetry,
    "ddtrace": start_ddtrace,
    "xray": start_xray,
    "mock": start_mock,
    "send": start_send,
}


async def watch(tool: str, kind: str, server: WireServer) -> dict[str, Any]:
    """Return the outcome."""
    from limiter import Repository, SyncRepository
    from limiter.core.records import BucketKey

    async def call(repository: Any) -> Any:
        state = repository.read_bucket(BucketKey("default", "user", "api"))
        if inspect.isawaitable(state):
            await state
        return repository.transport.name, repository.transport.reason

    new: Any = SyncRepository if kind == "sync" else Repository
    options = {"endpoint_url": server.endpoint_url, "connect_timeout": 30.0, "read_timeout": 30.0}
    repositories = [new("my-app", **options), new("my-app", **options)]
    seen: Seen = []
    found: dict[str, Any] = {"before": await call(repositories[0]), "seen before": list(seen)}
    stop = TOOLS[tool](kind, seen)
    found["later"] = await call(repositories[0])
    found["from the start"] = await call(repositories[1])
    stop_xray()
    found["seen"] = list(seen)
    if stop is not None:
        stop()
        found["after"] = await call(repositories[0])
        found["seen after"] = list(seen)
    for repository in repositories:
        closed = repository.close()
        if inspect.isawaitable(closed):
            await closed
    return found


def main() -> None:
    """Print one line."""
    tool, kind = sys.argv[1:]
    with WireServer() as server, contextlib.redirect_stdout(sys.stderr):
        found = asyncio.run(watch(tool, kind, server))
    print(json.dumps(found))  # noqa: T201 - what this is for


if __name__ == "__main__":
    main()
