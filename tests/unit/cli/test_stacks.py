"""Commands on stacks, on a scripted CloudFormation: what they print, where, and their exit codes.

The test of `limiter.cli.deploy`, `limiter.cli.documents` and `limiter.cli.stack`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import NoCredentialsError
from support.scripted_cloudformation import SUCCESS, TABLE, change, denied, failed_creation, refused

from limiter.infra.settings import TEMPLATE_FIELDS, parameter_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.scripted_cloudformation import Cloud


def test_deploy_prints_outputs_and_tells_progress_on_stderr(cloud: Cloud, run: Callable[..., Any]) -> None:
    """The result goes to standard output, and everything else to standard error."""
    done = run("deploy", "my-app", "-o", "json")
    assert done.code == 0
    document = json.loads(done.out)
    assert document["changed"] is True
    assert document["stack"]["status"] == "CREATE_COMPLETE"
    assert document["changes"][0]["resource"] == "Table"
    assert "CREATE_COMPLETE" in done.err
    assert "Deployed stack my-app." in done.err
    again = run("deploy", "my-app", "-o", "json")
    assert (again.code, json.loads(again.out)["changed"]) == (0, False)
    assert "up to date" in again.err


def test_every_setting_has_an_option(cloud: Cloud, run: Callable[..., Any]) -> None:
    """All of the template's parameters, the tags and the retention can be chosen."""
    done = run(
        *("deploy", "my-app", "--billing-mode", "provisioned", "--read-capacity", "10", "--write-capacity", "20"),
        *("--table-class", "infrequent-access", "--point-in-time-recovery", "--deletion-protection", "--retain"),
        *("--kms-key", "aws/dynamodb", "--policies", "--policy-namespace", "tenant", "--name-prefix", "corp"),
        *("--iam-path", "/team/", "--permissions-boundary", "arn:aws:iam::123456789012:policy/boundary"),
        *("--trusted-principal", "123456789012", "--trusted-service", "ecs-tasks.amazonaws.com"),
        *("--trusted-service", "lambda.amazonaws.com", "--alarms", "--alarm-email", "me@example.com", "--tag", "team=web"),
        *("--alarm-topic-arn", "arn:aws:sns:us-east-1:123456789012:alarms", "--dashboard", "--dashboard-namespace", "shop"),
        *("--max-read-units", "100", "--max-write-units", "100", "--warm-read-units", "12000", "--warm-write-units", "4000"),
    )
    assert done.code == 0, done.err
    (stack,) = cloud.stacks
    assert stack.tags["team"] == "web"
    assert stack.tags["limiter:retain"] == "true"
    assert set(stack.parameters) == {parameter_name(field) for field in TEMPLATE_FIELDS}
    assert stack.parameters["TrustedServices"] == "ecs-tasks.amazonaws.com,lambda.amazonaws.com"
    run("deploy", "my-app", "--trusted-service", "", "--no-deletion-protection")
    assert stack.parameters["TrustedServices"] == ""
    assert stack.parameters["DeletionProtection"] == "false"
    assert stack.parameters["TrustedPrincipals"] == "123456789012"


def test_a_failed_deploy(cloud: Cloud, run: Callable[..., Any]) -> None:
    """The first failing resource and its reason are the last line, the status is 1, and there is no traceback."""
    cloud.outcomes["CREATE"].append(failed_creation("Subscriber limit exceeded"))
    done = run("deploy", "my-app")
    assert done.code == 1
    last = done.err.splitlines()[-1]
    assert last.startswith("Error: deploying stack 'my-app' failed")
    assert "Table (AWS::DynamoDB::Table): Subscriber limit exceeded" in last
    assert "Traceback" not in done.err
    assert done.out == ""


def test_an_interrupted_deploy(cloud: Cloud, run: Callable[..., Any]) -> None:
    """Ctrl-C says that AWS goes on, and what to do; the status is 130."""
    cloud.fail("DescribeChangeSet", KeyboardInterrupt())
    done = run("deploy", "my-app")
    assert done.code == 130
    assert "continues the operation. Run the same command again" in done.err


def test_plan_marks_replacements(cloud: Cloud, run: Callable[..., Any]) -> None:
    """Each change is a row; what would be replaced says so."""
    cloud.add("my-app")
    cloud.changes = [change("Table", TABLE, "Modify"), change("ReadPolicy", "AWS::IAM::ManagedPolicy", "Modify", "True", "Path")]
    done = run("plan", "my-app", "-o", "text")
    assert done.code == 5
    assert done.out.splitlines() == [
        "Table\tAWS::DynamoDB::Table\tModify\t-\t-",
        "ReadPolicy\tAWS::IAM::ManagedPolicy\tModify\tyes\tPath",
    ]
    document = json.loads(run("plan", "my-app", "-o", "json").out)
    assert [each["replacement"] for each in document["changes"]] == ["never", "always"]


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(None, "does not exist"), ("ROLLBACK_COMPLETE", "created again"), ("CREATE_COMPLETE", "only the tags")],
)
def test_plan_in_a_sentence(cloud: Cloud, run: Callable[..., Any], status: str | None, sentence: str) -> None:
    """What the table cannot show is said."""
    if status:
        cloud.add("my-app", status)
        cloud.changes = []
    done = run("plan", "my-app")
    assert sentence in done.err.lower()
    assert "DELETE" not in done.err
    assert done.code == 5


def test_a_plan_without_changes_exits_with_0(cloud: Cloud, run: Callable[..., Any]) -> None:
    """The exit code tells a plan with changes from one without."""
    run("deploy", "my-app")
    done = run("plan", "my-app")
    assert (done.code, done.out) == (0, "")
    assert "nothing would change" in done.err
    assert run("plan", "my-app", "--alarms").code == 5


def test_status_in_all_forms(cloud: Cloud, run: Callable[..., Any]) -> None:
    """A table for people, JSON with stable names, and tab-separated pairs."""
    cloud.add("my-app", parameters={"Alarms": "true"})
    assert "2048 bytes, 7 items" in run("status", "my-app").out
    document = json.loads(run("status", "my-app", "--output", "json").out)
    assert set(document) == {
        *("name", "stack_id", "status", "reason", "version", "schema_version", "created", "updated", "retains_table"),
        *("termination_protection", "parameters", "outputs", "tags", "table"),
    }
    assert document["table"] == {"status": "ACTIVE", "size_bytes": 2048, "items": 7, "deletion_protection": False}
    assert "parameter Alarms\ttrue" in run("status", "my-app", "--output", "text").out.splitlines()


def test_status_waits_on_request(cloud: Cloud, run: Callable[..., Any]) -> None:
    """With --wait, the operation under way is followed to its end."""
    cloud.begin(cloud.add("my-app"), SUCCESS["UPDATE"])
    done = run("status", "my-app", "--wait", "-o", "json")
    assert json.loads(done.out)["status"] == "UPDATE_COMPLETE"
    assert "UPDATE_IN_PROGRESS" in done.err


def test_events_and_follow(cloud: Cloud, run: Callable[..., Any]) -> None:
    """Events are rows; --follow prints the past events first, then those of the running operation, each once."""
    run("deploy", "my-app")
    assert run("events", "my-app", "-n", "1", "-o", "text").out.split("\t")[1:3] == ["CREATE_COMPLETE", "my-app"]
    past = run("events", "my-app", "-o", "text").out.splitlines()
    cloud.begin(cloud.stacks[0], SUCCESS["UPDATE"])
    done = run("events", "my-app", "--follow", "-o", "text")
    assert done.out.splitlines()[: len(past)] == past
    assert [line.split("\t")[1] for line in done.out.splitlines()[len(past) :]] == [
        "UPDATE_IN_PROGRESS",
        "UPDATE_COMPLETE",
        "UPDATE_COMPLETE",
    ]


@pytest.mark.parametrize("output", ["table", "json", "text"])
def test_following_without_an_operation(cloud: Cloud, run: Callable[..., Any], output: str) -> None:
    """Only the past events are printed; JSON is one document per line."""
    run("deploy", "my-app")
    done = run("events", "my-app", "-f", "-o", output)
    lines = done.out.splitlines()
    assert (done.code, done.err, len(lines)) == (0, "", 5)
    assert "CREATE_COMPLETE" in lines[-1]
    if output == "json":
        assert json.loads(lines[-1])["status"] == "CREATE_COMPLETE"


def test_an_operation_that_ends_between_two_calls(cloud: Cloud, run: Callable[..., Any]) -> None:
    """Events of an operation that ends after the past events were read are printed as well."""
    run("deploy", "my-app")

    def update() -> None:
        cloud.begin(cloud.stacks[0], SUCCESS["UPDATE"])
        while cloud.stacks[0].steps:
            cloud.respond("describe_stacks", {"StackName": "my-app"})

    cloud.interfere("DescribeStacks", lambda: None)
    cloud.interfere("DescribeStacks", update)
    assert "UPDATE_COMPLETE" in run("events", "my-app", "-f").out


def test_list(cloud: Cloud, run: Callable[..., Any]) -> None:
    """Own stacks are listed, those of others are not; without any, there is nothing."""
    assert run("list").out == ""
    assert json.loads(run("list", "-o", "json").out) == []
    cloud.add("app-a")
    cloud.add("app-b", own=False)
    assert run("list", "-o", "text").out == "app-a\tCREATE_COMPLETE\t0.0.1\t1\tACTIVE\t7\t2048\n"


def test_delete_needs_a_yes(cloud: Cloud, run: Callable[..., Any]) -> None:
    """Without a terminal, --yes has to be said, and the message says so; then it deletes, and a second time is no error."""
    cloud.add("my-app")
    done = run("delete", "my-app")
    assert done.code == 2
    assert "pass --yes to confirm" in done.err
    assert cloud.count("DeleteStack") == 0
    assert run("delete", "my-app", "--yes").code == 0
    again = run("delete", "my-app", "--yes", "-o", "json")
    assert (again.code, json.loads(again.out)) == (0, {"stack": "my-app", "deleted": False})


def test_delete_is_refused_while_protected(cloud: Cloud, run: Callable[..., Any]) -> None:
    """The message names the command that ends the protection."""
    cloud.add("my-app")
    cloud.tables["my-app"]["DeletionProtectionEnabled"] = True
    done = run("delete", "my-app", "--yes")
    assert done.code == 1
    assert "limiter deploy my-app --no-deletion-protection" in done.err


def test_drift(cloud: Cloud, run: Callable[..., Any]) -> None:
    """In sync is 0, and a difference is 1."""
    cloud.add("my-app")
    assert run("drift", "my-app").code == 0
    cloud.drifts = [{"LogicalResourceId": "Table", "ResourceType": TABLE, "StackResourceDriftStatus": "DELETED"}]
    done = run("drift", "my-app", "-o", "json")
    assert done.code == 1
    assert json.loads(done.out)["resources"][0]["status"] == "DELETED"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (denied("cloudformation:DescribeStacks"), 1, "lack cloudformation:DescribeStacks"),
        (NoCredentialsError(), 1, "AWS_PROFILE"),
        (refused("ExpiredToken"), 1, "renew them"),
        (refused("InvalidClientTokenId"), 1, "does not accept these credentials"),
    ],
)
def test_errors_say_what_to_do(cloud: Cloud, run: Callable[..., Any], error: Exception, code: int, words: str) -> None:
    """One line on standard error, nothing on standard output, no traceback."""
    cloud.fail("DescribeStacks", error)
    done = run("status", "my-app")
    assert (done.code, done.out) == (code, "")
    assert words in done.err
    assert done.err.count("\n") == 1


def test_aws_unavailable(cloud: Cloud, run: Callable[..., Any]) -> None:
    """Endless throttling has a status of its own."""
    cloud.fail("DescribeStacks", *[refused("Throttling", "Rate exceeded")] * 20)
    assert run("status", "my-app").code == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ("deploy", "my_app"),
        ("deploy", "my-app", "--tag", "team"),
        ("deploy", "my-app", "--kms-key", "mine"),
        ("deploy", "my-app", "--adopt"),
        ("deploy", "my-app", "--output", "xml"),
        ("deploy",),
        ("nonsense",),
        ("status", "my-app", "--nonsense"),
        ("status", "my-app", "--timeout", "0"),
    ],
)
def test_wrong_usage(cloud: Cloud, run: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    """What cannot be meant has status 2, and AWS is not asked."""
    done = run(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert "Error: " in done.err
    assert cloud.calls == []


def test_an_unknown_profile(run: Callable[..., Any]) -> None:
    """A profile that is not in the files is named, with the way to choose another one."""
    done = run("status", "my-app", "--profile", "unknown", "--region", "us-east-1")
    assert done.code == 1
    assert "(unknown)" in done.err
    assert "--profile" in done.err


def test_the_stack_from_the_environment(cloud: Cloud, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """LIMITER_STACK names the stack, and LIMITER_OUTPUT the form."""
    cloud.add("my-app")
    monkeypatch.setenv("LIMITER_STACK", "my-app")
    monkeypatch.setenv("LIMITER_OUTPUT", "json")
    assert json.loads(run("status").out)["name"] == "my-app"


def test_template(run: Callable[..., Any]) -> None:
    """The template is printed as it is, and nothing else."""
    assert run("template").out.startswith("AWSTemplateFormatVersion")
    assert run("template", "--retain").out != run("template").out
    several = run("template", "--regions", "us-east-1, us-east-2", "--witness", "us-west-2").out
    assert "    Type: AWS::DynamoDB::GlobalTable\n" in several
    wrong = run("template", "--regions", "us-east-1")
    assert (wrong.code, wrong.out) == (2, "")
    assert "three different regions" in wrong.err
    assert "invalid region ''" in run("template", "--regions", "").err


def test_deploy_in_several_regions(cloud: Cloud, run: Callable[..., Any]) -> None:
    """The regions are chosen once, and kept."""
    assert run("deploy", "my-app", "--regions", "us-east-1,us-east-2", "--witness", "us-west-2").code == 0
    assert run("deploy", "my-app", "--alarms").code == 0
    assert cloud.stacks[0].tags["limiter:regions"] == "us-east-1 us-east-2 witness:us-west-2"


@pytest.mark.engines("moto")
def test_on_an_engine(engine_environment: dict[str, str], table_name: str, run: Callable[..., Any]) -> None:
    """Deploying, finding, examining and deleting work on an engine."""
    assert run("deploy", table_name).code == 0
    assert json.loads(run("status", table_name, "-o", "json").out)["table"]["status"] == "ACTIVE"
    assert table_name in [each["name"] for each in json.loads(run("list", "-o", "json").out)]
    assert run("delete", table_name, "--yes").code == 0
    missing = run("status", table_name)
    assert missing.code == 1
    assert f"limiter deploy {table_name}" in missing.err
