"""On the embedded engine, commands say what is imitated and what is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from limiter.local import ENGINE_HEADER, ENGINE_NAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripted_cloudformation import Cloud

NOTE = "Note: this is the embedded engine, not AWS."


@pytest.mark.engines("moto")
class TestOnTheEmbeddedEngine:
    def test_every_response_names_the_engine(self, engine_environment: dict[str, str]) -> None:
        """A header tells programs that they do not talk to AWS."""
        headers = boto3.client("sts").get_caller_identity()["ResponseMetadata"]["HTTPHeaders"]
        assert headers[ENGINE_HEADER] == ENGINE_NAME

    def test_deploy(self, engine_environment: dict[str, str], table_name: str, run: Callable[..., Any]) -> None:
        """A deploy names the settings that have no effect on this engine."""
        done = run("deploy", table_name, "--point-in-time-recovery")
        assert done.code == 0
        assert NOTE in done.err
        assert "neither time to live, backups" in done.err

    def test_a_deploy_that_changes_nothing(
        self, engine_environment: dict[str, str], table_name: str, run: Callable[..., Any]
    ) -> None:
        """The engine compares no tags or resources, so a stack that exists is not said to be up to date."""
        run("deploy", table_name)
        done = run("deploy", table_name, "--tag", "team=web")
        assert done.code == 0
        assert "whether it is as these settings say is unknown; nothing was changed" in done.err
        assert "up to date" not in done.err

    def test_a_change_of_a_deployed_stack(
        self, engine_environment: dict[str, str], table_name: str, run: Callable[..., Any]
    ) -> None:
        """The engine cannot change a stack: the error says so at once, and the note says it as well."""
        run("deploy", table_name)
        done = run("deploy", table_name, "--deletion-protection")
        assert done.code == 1
        assert "the embedded engine does not imitate ExecuteChangeSet" in done.err
        assert "Traceback" not in done.err
        assert "does not change a stack that exists" in done.err

    def test_plan(self, engine_environment: dict[str, str], table_name: str, run: Callable[..., Any]) -> None:
        """What this engine does not compare is unknown rather than unchanged."""
        new = run("plan", table_name, "-o", "json")
        assert (new.code, json.loads(new.out)["changed"]) == (5, True)
        assert NOTE in new.err
        run("deploy", table_name)
        done = run("plan", table_name, "--tag", "team=web", "-o", "json")
        assert (done.code, json.loads(done.out)["changed"]) == (0, None)
        assert "whether it would change is unknown" in done.err
        changed = run("plan", table_name, "--deletion-protection", "-o", "json")
        assert (changed.code, json.loads(changed.out)["changed"]) == (5, True)
        assert "which resources is unknown" in changed.err

    def test_drift(self, engine_environment: dict[str, str], table_name: str, run: Callable[..., Any]) -> None:
        """Drift is not detected, and the exit code is not that of a stack as deployed."""
        run("deploy", table_name)
        done = run("drift", table_name)
        assert (done.code, done.out) == (1, "")
        assert "It does not detect drift, so nothing was compared" in done.err
        assert "Traceback" not in done.err

    def test_deletion_protection(self, engine_environment: dict[str, str], table_name: str, run: Callable[..., Any]) -> None:
        """It holds, and the error says that a deploy cannot end it on this engine."""
        run("deploy", table_name, "--deletion-protection")
        done = run("delete", table_name, "--yes")
        assert done.code == 1
        assert "has deletion protection" in done.err
        assert "restart it instead" in done.err


def test_on_aws_nothing_is_noted(cloud: Cloud, run: Callable[..., Any]) -> None:
    """Other responses carry no such header, so no command speaks of an engine."""
    for arguments in (("plan",), ("deploy",), ("drift",), ("delete", "--yes")):
        assert "embedded" not in run(*arguments, "-s", "my-app").err
