"""The examples of clients, jobs, models and metrics run and print what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from limiter.local import LocalEngine
from limiter.testing import create_table

EXAMPLES = Path(__file__).parents[2] / "examples" / "adapters"
SEVEN = "[200, 200, 200, 200, 200, 200, 200]\n"
PRINTS = {
    "with_limits": (["limits", "flask_limiter"], "[200, 200, 200, 429, 429]\n"),
    "with_httpx": (["httpx2"], SEVEN),
    "with_requests": (["requests"], SEVEN),
    "with_aiohttp": (["aiohttp", "aiobotocore"], SEVEN),
    "with_botocore": ([], "['my-app', 'my-app', 'my-app', 'my-app', 'my-app', 'my-app', 'my-app']\n"),
}


@pytest.mark.parametrize("name", PRINTS)
def test_an_example_prints_what_it_should(name: str) -> None:
    """Each runs as a program of its own, on a table of its own."""
    packages, printed = PRINTS[name]
    for package in packages:
        pytest.importorskip(package)
    with LocalEngine() as engine:
        create_table("my-app", endpoint_url=engine.endpoint_url)
        done = subprocess.run(
            [sys.executable, f"{name}.py"],
            cwd=EXAMPLES,
            env={**os.environ, "AWS_ENDPOINT_URL_DYNAMODB": engine.endpoint_url},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed
