"""Tools that watch or replace the calls of AWS's libraries go on seeing those of the limiter: each with its real package."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from limiter import Limit, SyncRateLimiter, SyncRepository
from limiter.core.records import BucketKey

TESTS = Path(__file__).resolve().parent.parent
PACKAGES = {"opentelemetry": "opentelemetry.instrumentation.", "ddtrace": "ddtrace.", "xray": "aws_xray_sdk.", "mock": "__main__"}
MOCKED = """
import boto3
from moto import mock_aws
from limiter import Limit, SyncRateLimiter, SyncRepository
from limiter.testing import create_table

with mock_aws():
    create_table("my-app", client=boto3.client("dynamodb", region_name="us-east-1"))
    repository = SyncRepository("my-app", region="us-east-1", connect_timeout=30.0, read_timeout=30.0)
    limiter = SyncRateLimiter(repository, [Limit.per_hour("requests", 1)])
    decisions = [limiter.try_acquire().allowed for _ in range(2)]
    print(decisions, limiter.stats().transport, limiter.stats().transport_reason)
"""


def run(*arguments: str) -> str:
    """The last line that a Python process prints."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, cwd=TESTS)
    assert done.returncode == 0, done.stderr[-2_000:]
    return done.stdout.splitlines()[-1]


def watched(tool: str, kind: str) -> dict[str, Any]:
    """What `tracing_tools.py` tells."""
    found: dict[str, Any] = json.loads(run("-m", "support.tracing_tools", tool, kind))
    return found


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("tool", PACKAGES)
def test_a_tool_sees_every_call(tool: str, kind: str) -> None:
    """A tracing tool sees all calls after its start, of existing and new clients; none of them is sent directly."""
    found = watched(tool, kind)
    assert found["before"] == ["direct", ""]
    assert found["seen before"] == []
    assert found["seen"] == ["GetItem", "GetItem"]
    for name, reason in (found["later"], found["from the start"]):
        assert name == "botocore"
        assert f"_make_api_call is patched by {PACKAGES[tool]}" in reason
    assert found.get("after", ["direct", ""]) == ["direct", ""]
    assert found.get("seen after", found["seen"]) == found["seen"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_patch_below_the_client_is_seen_too(kind: str) -> None:
    """What replaces the function that sends is called by every repository that is opened after it."""
    found = watched("send", kind)
    transports = [found[each][0] for each in ("before", "later", "from the start", "after")]
    assert transports == ["direct", "botocore", "botocore", "direct"]
    assert found["seen"][-1:] == ["GetItem"]


def test_moto_answers_every_call() -> None:
    """Within `mock_aws` nothing reaches a network, and limits hold."""
    found = run("-c", MOCKED)
    assert found.startswith("[True, False] botocore a handler of moto.core.")


def test_a_stubber_answers_every_call() -> None:
    """A client that was given is the one that makes the calls."""
    client = boto3.client("dynamodb", region_name="us-east-1")
    with Stubber(client) as stubber:
        stubber.add_response("get_item", {})
        repository = SyncRepository("my-app", client=client)
        repository.read_bucket(BucketKey("default", "user", "api"))
        stubber.assert_no_pending_responses()
    limiter = SyncRateLimiter(repository, [Limit.per_hour("requests", 1)])
    assert (limiter.stats().transport, limiter.stats().transport_reason) == ("botocore", "client= was given")
