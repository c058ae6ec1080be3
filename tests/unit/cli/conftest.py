"""Runs the command, in this process and in others, on a scripted CloudFormation or on an engine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.scripted_cloudformation import Cloud

import limiter.infra.sync_stack_client as sync_stack_client
from limiter import cli
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import Engine

SOURCE = Path(__file__).parents[3] / "src"


@dataclass(frozen=True)
class Outcome:
    """What a call of the command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs the command in this process; nobody is there to answer."""

    def call(*arguments: str) -> Outcome:
        capsys.readouterr()
        code = cli.run(list(arguments))
        return Outcome(code, *capsys.readouterr())

    return call


class Client:
    """Passes every call to the cloud."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    def __getattr__(self, method: str) -> Callable[..., Any]:
        return lambda **parameters: self.cloud.respond(method, parameters)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """A scripted cloud in place of AWS, where waiting takes no time."""
    cloud = Cloud()
    monkeypatch.setattr(sync_stack_client, "sync_open_client", lambda *_: Client(cloud))
    monkeypatch.setattr(sync_stack_client, "sync_close_client", lambda _: None)
    monkeypatch.setattr(sync_stack_client.SyncStackClient, "pause", lambda *_: None)
    return cloud


@pytest.fixture
def engine_environment(server_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment in which the command uses an engine, in this process and in others."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", str(server_engine.endpoint_url))
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    return dict(os.environ)


@pytest.fixture
def stack(engine_environment: dict[str, str], table_name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A table on an engine, which is the stack that commands use by default."""
    create_table(table_name, endpoint_url=engine_environment["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("LIMITER_STACK", table_name)
    return table_name
