"""The limiter in processes that gevent or eventlet has patched: in time, too late, or in part.

The test of `limiter.runtime.patching`.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.presence import need
from support.processes import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import Engine
    from support.processes import Proxy, Script

LIBRARIES = ("gevent", "eventlet")
REMEDIES = {"gevent": "call gevent.monkey.patch_all()", "eventlet": "call eventlet.monkey_patch()"}
CAPACITY = 150


@pytest.mark.parametrize("order", ["first", "imported"])
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.engines("dynoxide")
def test_greenlets_overlap_and_admit_exactly(
    server_engine: Engine,
    table: str,
    library: str,
    order: str,
    run_script: Callable[..., Script],
    slow_network: Callable[..., Proxy],
) -> None:
    """200 greenlets wait together while another one runs, and the limit is exact; importing the limiter first does no harm."""
    need(library)
    result = run_script("greenlets.py", library, order, STACK=table, **slow_network(server_engine).environment).result

    assert result["error"] == ""
    assert result["admitted"] == CAPACITY
    assert result["ticks"] > 0
    assert result["most_inside"] > 20


@pytest.mark.parametrize("order", ["without-threads", "without-sockets", "without-time", "sockets-only"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_patching_in_part_is_explained(library: str, order: str, run_script: Callable[..., Script]) -> None:
    """Where only a part was patched, opening fails with an error that names the part and the fix, without any call."""
    need(library)
    result = run_script("greenlets.py", library, order, STACK="nowhere", ENDPOINT="http://127.0.0.1:1").result

    assert result["error"].startswith(f"RuntimeNotReady: {library} has patched this process in part, without ")
    assert {"without-sockets": "sockets", "without-time": "time.sleep"}.get(order, "threads and locks") in result["error"]
    assert REMEDIES[library] in result["error"]


@pytest.mark.parametrize("order", ["boto3", "client", "made", "used"])
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.engines("dynoxide")
def test_patching_too_late_is_explained(
    server_engine: Engine,
    table: str,
    library: str,
    order: str,
    run_script: Callable[..., Script],
    slow_network: Callable[..., Proxy],
) -> None:
    """Where boto3 was imported, or a client or the limiter made, before patching, the first use fails and names the fix."""
    need(library)
    result = run_script("greenlets.py", library, order, STACK=table, **slow_network(server_engine).environment).result

    assert result["error"].startswith("RuntimeNotReady: ")
    assert f"before {library} patched" in result["error"]
    assert REMEDIES[library] in result["error"]
    assert result["admitted"] == 0


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_fault_that_is_looked_for_exists(library: str) -> None:
    """boto3 that was imported before patching recurses without end; the day it does not, the check can go."""
    need(library)
    patch = {"gevent": "import gevent.monkey; gevent.monkey.patch_all()", "eventlet": "import eventlet; eventlet.monkey_patch()"}
    call = "boto3.client('dynamodb', endpoint_url='https://127.0.0.1:1').list_tables()"
    program = f"import boto3; {patch[library]}\ntry: {call}\nexcept RecursionError: print('recursion')"
    command = [sys.executable, "-W", "ignore", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stdout.strip() == "recursion", done.stderr
