"""The examples of clients, jobs, models and metrics run and print what they say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.model_provider import TEXT, serving
from support.presence import need

from limiter.local import LocalEngine
from limiter.testing import create_table

EXAMPLES = Path(__file__).parents[2] / "examples" / "adapters"
SEVEN = "[200, 200, 200, 200, 200, 200, 200]\n"
PRINTS = {
    "with_limits": (["limits", "flask_limiter"], "[200, 200, 200, 429, 429]\n"),
    "with_httpx": (["httpx2"], SEVEN),
    "with_requests": (["requests"], SEVEN),
    "with_aiohttp": (["aiohttp", "aiobotocore"], SEVEN),
    "with_celery": (["celery"], "['RETRY', 'RETRY', 'SUCCESS', 'SUCCESS', 'SUCCESS']\n"),
    "with_dramatiq": (["dramatiq"], f"{[f'mail {number}' for number in range(6)]}\n"),
    "with_taskiq": (["taskiq", "aiobotocore"], f"{[f'mail {number} to ann' for number in range(6)]}\n"),
    "with_rq": (["rq"], f"{[f'mail {number} to ann' for number in range(3)]}\n"),
    "with_arq": (["arq", "aiobotocore"], f"{[f'mail {number} to ann' for number in range(3)]}\n"),
    "with_llm": ([], "420 tokens charged\n"),
    "with_langchain": (["langchain"], "Because.\n29580 tokens left\n"),
    "with_litellm": (["litellm", "aiobotocore"], "Because.\nBecause.\nrefused by requests\n"),
    "with_pydantic_ai": (["pydantic_ai", "aiobotocore"], "Because.\n"),
    "with_prometheus": (
        ["prometheus_client"],
        "".join(
            f'limiter_decisions_total{{namespace="default",outcome="{outcome}",table="my-app"}} {count}\n'
            for outcome, count in (("admitted", 2.0), ("refused", 3.0))
        ),
    ),
    "with_opentelemetry": (["opentelemetry.sdk"], "5 durations\n2 admitted, 3 refused\n"),
    "with_botocore": ([], "['my-app', 'my-app', 'my-app', 'my-app', 'my-app', 'my-app', 'my-app']\n"),
}


@pytest.mark.parametrize("name", PRINTS)
def test_an_example_prints_what_it_should(name: str, request: pytest.FixtureRequest) -> None:
    """Each example runs as a separate program on a separate table, and prints the expected text."""
    packages, printed = PRINTS[name]
    redis = request.getfixturevalue("redis_url") if name in {"with_arq", "with_rq"} else ""
    assert run(name, *packages, REDIS_URL=redis) == printed


def test_the_example_for_lambda_writes_metrics() -> None:
    """The example for Lambda prints a line of JSON for each decision, and then its result."""
    *lines, returned = run("with_emf").splitlines()
    assert [json.loads(line)["Refusals"] for line in lines] == [0, 0, 1]
    assert returned == "[200, 200, 429]"


def test_the_example_of_an_agent_calls_its_provider() -> None:
    """The OpenAI Agents SDK reaches a provider on this machine, once."""
    with serving() as provider:
        environment = {"OPENAI_API_KEY": "none", "OPENAI_BASE_URL": provider.url, "OPENAI_AGENTS_DISABLE_TRACING": "1"}
        assert run("with_openai_agents", "agents", "aiobotocore", **environment) == f"{TEXT}\n"
    assert provider.requests == 1


def test_every_example_is_run() -> None:
    """A new one has to be named here."""
    programs = {path.stem for path in EXAMPLES.glob("with_*.py")}
    assert programs == {*PRINTS, "with_emf", "with_openai_agents"}


def test_every_example_is_on_a_page() -> None:
    """The page of the integrations has a link to each."""
    page = (EXAMPLES.parents[1] / "docs" / "integrations" / "index.md").read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f"examples/adapters/{path.name})" not in page] == []


def run(name: str, *packages: str, **environment: str) -> str:
    """What an example prints."""
    need(*packages)
    with LocalEngine() as engine:
        create_table("my-app", endpoint_url=engine.endpoint_url)
        environment |= {"AWS_ENDPOINT_URL_DYNAMODB": engine.endpoint_url, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", f"{name}.py"],
            cwd=EXAMPLES,
            # Celery would set up the Django project of other tests.
            env={name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"} | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout
