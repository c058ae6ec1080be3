# twin: ../sync/test_stack_manager.py
"""The stack manager on a scripted CloudFormation, path by path, and once on an engine.

The test of `limiter.infra.change_set`, `limiter.infra.cloudformation_errors`, `limiter.infra.drift`, `limiter.infra.ownership`,
`limiter.infra.stack_client`, `limiter.infra.stack_operation` and `limiter.infra.stack_summary`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import EndpointConnectionError, NoCredentialsError
from support.scripted_cloudformation import (
    POLICY,
    SUCCESS,
    TABLE,
    Client,
    Cloud,
    change,
    denied,
    failed_creation,
    failed_update,
    refused,
)

from limiter import (
    ConfigurationError,
    DeletionProtected,
    LimiterError,
    PermissionDenied,
    RateLimiterUnavailable,
    ReplacementRefused,
    StackBusy,
    StackFailed,
    StackManager,
    StackNotFound,
    StackNotOwned,
    StackSettings,
    ValidationError,
)

if TYPE_CHECKING:
    from support.engines import Engine

    from limiter import StackEvent

THROTTLED = refused("Throttling", "Rate exceeded")


@pytest.fixture
def cloud() -> Cloud:
    """A cloud without stacks."""
    return Cloud()


def manage(cloud: Cloud, name: str = "my-app") -> StackManager:
    """A manager of one stack, for whom waiting moves the clock."""

    async def sleep(seconds: float) -> None:
        assert seconds > 0
        cloud.now += seconds

    async def respond(method: str, **parameters: Any) -> Any:
        return cloud.respond(method, parameters)

    client = Client(respond)
    return StackManager(name, client=client, table_client=client, policy_client=client, clock=cloud.clock, sleep=sleep)


class TestDeploy:
    async def test_creates_a_stack_and_marks_it(self, cloud: Cloud) -> None:
        """A new stack has the limiter's tags, and the chosen parameters only."""
        settings = StackSettings(point_in_time_recovery=True, tags={"team": "platform"})
        done = await manage(cloud).deploy(settings)
        assert done.changed
        assert done.stack.status == "CREATE_COMPLETE"
        assert done.stack.own
        assert done.stack.schema_version == 1
        assert done.stack.tags["team"] == "platform"
        assert done.stack.parameters == {"PointInTimeRecovery": "true"}
        assert [each.resource for each in done.changes] == ["Table"]

    async def test_is_idempotent(self, cloud: Cloud) -> None:
        """A second deploy of the same changes nothing, succeeds, and leaves no change set."""
        await manage(cloud).deploy(StackSettings(alarms=True))
        again = await manage(cloud).deploy(StackSettings(alarms=True))
        assert not again.changed
        assert cloud.count("ExecuteChangeSet") == 1
        assert cloud.stacks[0].change_sets == {}

    async def test_is_idempotent_also_where_the_request_is_refused(self, cloud: Cloud) -> None:
        """Engines that refuse to make an empty change set are understood too."""
        cloud.add("my-app")
        cloud.fail("CreateChangeSet", refused("ValidationError", "No updates are to be performed."))
        assert not (await manage(cloud).deploy()).changed

    async def test_keeps_what_is_not_said(self, cloud: Cloud) -> None:
        """What a deploy does not mention stays: parameters, tags and the retained table."""
        await manage(cloud).deploy(StackSettings(deletion_protection=True, retain=True, tags={"team": "platform"}))
        done = await manage(cloud).deploy(StackSettings(alarms=True))
        assert done.stack.parameters == {"DeletionProtection": "true", "Alarms": "true"}
        assert done.stack.tags["team"] == "platform"
        assert done.stack.retains_table
        assert "DeletionPolicy: Retain" in cloud.stacks[0].template

    async def test_changes_what_is_said(self, cloud: Cloud) -> None:
        """A deploy can take back a setting, a tag and the retention."""
        await manage(cloud).deploy(StackSettings(deletion_protection=True, retain=True, tags={"team": "platform"}))
        done = await manage(cloud).deploy(StackSettings(deletion_protection=False, retain=False, tags={}))
        assert done.stack.parameters == {"DeletionProtection": "false"}
        assert "team" not in done.stack.tags
        assert not done.stack.retains_table
        assert "DeletionPolicy: Retain" not in cloud.stacks[0].template

    async def test_regions_are_kept_and_not_changed(self, cloud: Cloud) -> None:
        """A table in several regions keeps them in later deploys; other regions and settings that it lacks are refused."""
        regions, witness = ("us-east-1", "us-east-2"), "us-west-2"
        await manage(cloud).deploy(StackSettings(regions=regions, witness=witness))
        assert "AWS::DynamoDB::GlobalTable" in cloud.last("CreateChangeSet")["TemplateBody"]
        await manage(cloud).deploy(StackSettings(alarms=True))
        assert f"GlobalTableWitnesses: [{{Region: {witness}}}]" in cloud.last("CreateChangeSet")["TemplateBody"]
        assert not (await manage(cloud).deploy(StackSettings(regions=regions[::-1], witness=witness))).changed
        with pytest.raises(ValidationError, match="has us-east-1, us-east-2 with the witness us-west-2"):
            await manage(cloud).deploy(StackSettings(regions=(*regions, witness)))
        with pytest.raises(ValidationError, match=r"billing_mode '[a-z-]+' is a setting of tables in one region"):
            await manage(cloud).deploy(StackSettings(billing_mode="provisioned"))

    async def test_a_table_in_one_region_stays_there(self, cloud: Cloud) -> None:
        """CloudFormation might delete a table whose type changes, so nothing is proposed."""
        await manage(cloud).deploy()
        before = cloud.count("CreateChangeSet")
        with pytest.raises(ValidationError, match="has one region"):
            await manage(cloud).deploy(StackSettings(regions=("us-east-1", "us-east-2", "us-west-2")))
        assert cloud.count("CreateChangeSet") == before

    async def test_a_failed_creation_takes_its_retained_table_along(self, cloud: Cloud) -> None:
        """Only a creation deletes a retained table when it fails; an update never does."""
        await manage(cloud).deploy(StackSettings(retain=True))
        assert cloud.last("ExecuteChangeSet")["RetainExceptOnCreate"] is True
        await manage(cloud).deploy(StackSettings(alarms=True))
        assert "RetainExceptOnCreate" not in cloud.last("ExecuteChangeSet")

    async def test_tells_each_event_once_and_in_order(self, cloud: Cloud) -> None:
        """Progress comes oldest first, without the events of earlier operations, however many pages they fill."""
        cloud.page_size = 1
        seen: list[StackEvent] = []
        await manage(cloud).deploy()
        await manage(cloud).deploy(StackSettings(alarms=True), on_event=seen.append)
        assert [(event.resource, event.status) for event in seen] == [
            ("my-app", "UPDATE_IN_PROGRESS"),
            ("Table", "UPDATE_COMPLETE"),
            ("my-app", "UPDATE_COMPLETE"),
        ]

    async def test_names_the_first_failure(self, cloud: Cloud) -> None:
        """The error carries the resource that failed by itself, not those cancelled in consequence."""
        cloud.page_size = 2
        cloud.outcomes["CREATE"].append(failed_creation("Subscriber limit exceeded"))
        with pytest.raises(StackFailed, match=r"ROLLBACK_COMPLETE: Table \(AWS::DynamoDB::Table\): Subscriber limit") as caught:
            await manage(cloud).deploy()
        assert (caught.value.resource, caught.value.reason) == ("Table", "Subscriber limit exceeded")
        assert caught.value.status == "ROLLBACK_COMPLETE"

    async def test_names_the_action_that_a_resource_lacked(self, cloud: Cloud) -> None:
        """A permission that is missing inside the stack is named."""
        cloud.outcomes["CREATE"].append(failed_creation("User: x is not authorized to perform: iam:CreatePolicy on resource"))
        with pytest.raises(StackFailed, match="allow iam:CreatePolicy to the credentials that deploy"):
            await manage(cloud).deploy()

    async def test_a_rolled_back_update_is_a_failure(self, cloud: Cloud) -> None:
        """A deploy fails if its update was rolled back, although the stack is in order."""
        cloud.add("my-app")
        cloud.outcomes["UPDATE"].append(failed_update("Too many changes of the table class"))
        with pytest.raises(StackFailed, match=r"UPDATE_ROLLBACK_COMPLETE: Table .*: Too many changes"):
            await manage(cloud).deploy()
        assert (await manage(cloud).deploy()).changed

    async def test_recreates_a_stack_whose_creation_failed(self, cloud: Cloud) -> None:
        """After the cause is gone, the same command deletes what is left and begins anew."""
        cloud.outcomes["CREATE"].append(failed_creation("Subscriber limit exceeded"))
        with pytest.raises(StackFailed):
            await manage(cloud).deploy()
        done = await manage(cloud).deploy()
        assert done.stack.status == "CREATE_COMPLETE"
        assert [stack.status for stack in cloud.stacks] == ["DELETE_COMPLETE", "CREATE_COMPLETE"]

    async def test_leaves_a_failed_stack_that_holds_something(self, cloud: Cloud) -> None:
        """A stack whose rollback failed may hold a table, so it is not deleted by a deploy."""
        stack = cloud.add("my-app", "ROLLBACK_FAILED")
        for step in failed_creation("Subscriber limit exceeded", "ROLLBACK_FAILED"):
            cloud.begin(stack, [step])
        stack.resources["Table"] = "DELETE_FAILED"
        with pytest.raises(StackFailed, match=r"left it in ROLLBACK_FAILED: Table .*: Subscriber limit"):
            await manage(cloud).deploy()
        assert cloud.count("DeleteStack") == 0

    async def test_an_operator_has_to_help_a_stuck_stack(self, cloud: Cloud) -> None:
        """After a failed rollback of an update, the message names the command that helps."""
        cloud.add("my-app", "UPDATE_ROLLBACK_FAILED")
        with pytest.raises(StackFailed, match="continue-update-rollback --stack-name my-app"):
            await manage(cloud).deploy()
        assert cloud.count("DeleteStack") == 0

    async def test_goes_on_with_a_stack_in_review(self, cloud: Cloud) -> None:
        """A creation that was interrupted before it was executed is taken up."""
        cloud.fail("ExecuteChangeSet", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            await manage(cloud).deploy()
        assert cloud.stacks[0].status == "REVIEW_IN_PROGRESS"
        assert (await manage(cloud).deploy()).stack.status == "CREATE_COMPLETE"

    async def test_waits_for_what_is_under_way(self, cloud: Cloud) -> None:
        """A deploy that finds an operation under way tells its events, waits for its end, and then does its own work."""
        stack = cloud.add("my-app", "UPDATE_COMPLETE")
        cloud.begin(stack, SUCCESS["UPDATE"])
        seen: list[StackEvent] = []
        done = await manage(cloud).deploy(StackSettings(alarms=True), on_event=seen.append)
        assert done.stack.parameters == {"Alarms": "true"}
        assert [event.status for event in seen if event.of_stack] == ["UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"] * 2

    async def test_reports_the_failure_of_what_was_under_way(self, cloud: Cloud) -> None:
        """A resumed creation that fails says why, and the next deploy begins anew."""
        stack = cloud.add("my-app", "CREATE_IN_PROGRESS")
        cloud.begin(stack, failed_creation("Subscriber limit exceeded"))
        with pytest.raises(StackFailed, match=r"a running operation on stack 'my-app' failed .*: Subscriber limit"):
            await manage(cloud).deploy()
        assert (await manage(cloud).deploy()).changed

    async def test_creates_again_after_a_deletion_under_way(self, cloud: Cloud) -> None:
        """A stack that is just being deleted is created anew."""
        cloud.begin(cloud.add("my-app"), SUCCESS["DELETE"])
        assert (await manage(cloud).deploy()).stack.status == "CREATE_COMPLETE"

    async def test_gives_up_waiting_and_resumes(self, cloud: Cloud) -> None:
        """A timeout leaves the operation to AWS; the same call waits for it again."""
        slow = [*SUCCESS["CREATE"][:2], *[("CREATE_IN_PROGRESS", [])] * 50, SUCCESS["CREATE"][2]]
        cloud.outcomes["CREATE"].append(slow)
        with pytest.raises(StackBusy, match=r"took longer than 20 s.*same command again"):
            await manage(cloud).deploy(timeout=20)
        assert cloud.now < 30
        done = await manage(cloud).deploy()
        assert (done.changed, done.stack.status) == (False, "CREATE_COMPLETE")
        assert cloud.count("ExecuteChangeSet") == 1

    async def test_a_status_that_lags_behind_is_not_the_end(self, cloud: Cloud) -> None:
        """Status and events from before the update, read right after it began, are not taken for its success."""
        await manage(cloud).deploy()
        cloud.outcomes["UPDATE"].append([("CREATE_COMPLETE", []), *failed_update("Too many changes")])
        with pytest.raises(StackFailed, match="Too many changes"):
            await manage(cloud).deploy(StackSettings(alarms=True))
        assert cloud.stacks[0].status == "UPDATE_ROLLBACK_COMPLETE"

    async def test_takes_its_turn_after_another_operation(self, cloud: Cloud) -> None:
        """Two deploys at once: the later one waits for the other's update and then makes its own."""
        stack = cloud.add("my-app", template=StackManager.template())
        cloud.interfere("CreateChangeSet", lambda: cloud.begin(stack, SUCCESS["UPDATE"]))
        done = await manage(cloud).deploy(StackSettings(alarms=True))
        assert done.stack.parameters == {"Alarms": "true"}
        assert cloud.count("CreateChangeSet") == 2

    async def test_proposes_again_when_its_change_set_is_gone(self, cloud: Cloud) -> None:
        """Executing another change set deletes this one's, which is no failure."""
        stack = cloud.add("my-app")
        cloud.interfere("ExecuteChangeSet", stack.change_sets.clear)
        assert (await manage(cloud).deploy()).changed
        assert cloud.count("ExecuteChangeSet") == 2

    async def test_gives_up_a_stack_that_is_always_contested(self, cloud: Cloud) -> None:
        """The number of turns is bounded."""
        stack = cloud.add("my-app")
        for _ in range(20):
            cloud.interfere("ExecuteChangeSet", stack.change_sets.clear)
        with pytest.raises(LimiterError, match="changed by other operations; try again later"):
            await manage(cloud).deploy()

    async def test_refuses_to_lose_the_table(self, cloud: Cloud) -> None:
        """A change set that replaces the table is never executed, and not left behind."""
        cloud.add("my-app")
        cloud.changes = [change("Table", TABLE, "Modify", "True", "KeySchema")]
        with pytest.raises(ReplacementRefused, match=r"because of KeySchema"):
            await manage(cloud).deploy()
        assert cloud.count("ExecuteChangeSet") == 0
        assert cloud.stacks[0].change_sets == {}

    async def test_removes_the_shell_of_a_refused_creation(self, cloud: Cloud) -> None:
        """A template or parameter that CloudFormation refuses leaves no stack in review behind."""
        cloud.refusal = "Parameter KmsKey failed to satisfy constraint"
        with pytest.raises(LimiterError, match="refused to deploy stack 'my-app': Parameter KmsKey failed"):
            await manage(cloud).deploy()
        assert [stack.status for stack in cloud.stacks] == ["DELETE_COMPLETE"]

    async def test_adopts_a_table_on_request(self, cloud: Cloud) -> None:
        """Taking over a table that exists needs a table that is retained, as CloudFormation demands."""
        await manage(cloud).deploy(StackSettings(retain=True), adopt=True)
        assert cloud.last("CreateChangeSet")["ImportExistingResources"] is True
        with pytest.raises(ValidationError, match="retain=True"):
            await manage(cloud).deploy(adopt=True)

    async def test_refuses_a_newer_layout(self, cloud: Cloud) -> None:
        """An older release does not change what a newer one has deployed."""
        cloud.add("my-app", tags={"limiter:schema-version": "2", "limiter:version": "9.0.0"})
        with pytest.raises(LimiterError, match=r"version 9\.0\.0 with table layout 2.*pip install --upgrade"):
            await manage(cloud).deploy()
        assert cloud.count("CreateChangeSet") == 0


class TestOwnership:
    @pytest.mark.parametrize("method", ["deploy", "plan", "delete", "status", "events", "drift", "wait"])
    @pytest.mark.parametrize("status", ["CREATE_COMPLETE", "ROLLBACK_COMPLETE", "UPDATE_IN_PROGRESS", "REVIEW_IN_PROGRESS"])
    async def test_nothing_touches_the_stack_of_another_owner(self, cloud: Cloud, method: str, status: str) -> None:
        """Without the limiter's tag, a stack is looked at and nothing more."""
        cloud.add("my-app", status, own=False)
        with pytest.raises(StackNotOwned, match="my-app"):
            await getattr(manage(cloud), method)()
        reads = {"DescribeStacks", "ListChangeSets", "DescribeChangeSet"}
        assert {action for action, _ in cloud.calls} <= reads

    async def test_a_review_of_another_owner_stays(self, cloud: Cloud) -> None:
        """A stack in review whose change set has other tags is not the limiter's, under any name of its change set."""
        stack = cloud.add("my-app", "REVIEW_IN_PROGRESS", own=False)
        stack.change_sets["dynamodb-limiter-x"] = {"Tags": [{"Key": "team", "Value": "web"}], "looks": 0, "type": "CREATE"}
        with pytest.raises(StackNotOwned, match="delete-stack --stack-name my-app"):
            await manage(cloud).deploy()

    @pytest.mark.parametrize("name", ["ab", "1app", "my_app", "my.app", "a" * 129, "", "ä-app", "my app", "my-app\n", None])
    def test_names_that_aws_would_refuse(self, name: Any) -> None:
        """Such a name is refused before any call."""
        with pytest.raises(ValidationError, match="invalid stack name"):
            StackManager(name)


class TestPlan:
    async def test_shows_a_creation_and_leaves_nothing(self, cloud: Cloud) -> None:
        """A plan of a new stack lists what would be added; no stack is left, not even in review."""
        plan = await manage(cloud).plan()
        assert plan.creates
        assert plan.changed
        assert [(each.resource, each.action) for each in plan.changes] == [("Table", "Add")]
        assert [stack.status for stack in cloud.stacks] == ["DELETE_COMPLETE"]
        assert cloud.count("ExecuteChangeSet") == 0

    async def test_marks_replacements(self, cloud: Cloud) -> None:
        """Every page of the changes is read, and those that replace a resource are marked, certain or not."""
        cloud.page_size = 1
        cloud.add("my-app")
        cloud.changes = [
            change("Table", TABLE, "Modify", "False", "Tags"),
            change("ReadPolicy", POLICY, "Modify", "True", "Path"),
            change("AdminPolicy", POLICY, "Modify", "Conditional", "Path", "PolicyDocument"),
            change("AlarmTopic", "AWS::SNS::Topic", "Remove"),
        ]
        plan = await manage(cloud).plan()
        assert not plan.creates
        assert [(each.resource, each.replacement) for each in plan.replacements] == [
            ("ReadPolicy", "always"),
            ("AdminPolicy", "possible"),
        ]
        assert plan.changes[2].properties == ("Path", "PolicyDocument")
        assert len(plan.changes) == 4
        assert cloud.stacks[0].change_sets == {}

    async def test_says_that_nothing_would_change(self, cloud: Cloud) -> None:
        """Right after a deploy, a plan is empty."""
        await manage(cloud).deploy()
        plan = await manage(cloud).plan()
        assert (plan.changed, plan.creates, plan.changes) == (False, False, ())
        assert cloud.stacks[0].change_sets == {}

    async def test_says_that_it_would_begin_anew(self, cloud: Cloud) -> None:
        """Of a stack whose creation failed, a plan says that it is recreated, and leaves it."""
        cloud.add("my-app", "ROLLBACK_COMPLETE")
        plan = await manage(cloud).plan()
        assert plan.recreates
        assert cloud.count("DeleteStack") == 0

    async def test_cleans_up_when_it_fails(self, cloud: Cloud) -> None:
        """A plan that is denied a look at its own change set takes it away again."""
        cloud.add("my-app")
        cloud.fail("DescribeChangeSet", denied("cloudformation:DescribeChangeSet"))
        with pytest.raises(PermissionDenied, match="lack cloudformation:DescribeChangeSet"):
            await manage(cloud).plan()
        assert cloud.stacks[0].change_sets == {}

    async def test_leaves_the_change_sets_of_others(self, cloud: Cloud) -> None:
        """Another's change set, the limiter's or not, survives a plan."""
        stack = cloud.add("my-app")
        stack.change_sets["dynamodb-limiter-other"] = {}
        await manage(cloud).plan()
        assert list(stack.change_sets) == ["dynamodb-limiter-other"]


class TestDelete:
    async def test_deletes_and_says_so(self, cloud: Cloud) -> None:
        """A stack is deleted once; where there is none, nothing is done."""
        cloud.add("my-app")
        seen: list[StackEvent] = []
        assert await manage(cloud).delete(on_event=seen.append) is True
        assert seen[-1].status == "DELETE_COMPLETE"
        assert await manage(cloud).delete() is False
        assert cloud.count("DeleteStack") == 1

    async def test_refuses_while_the_table_is_protected(self, cloud: Cloud) -> None:
        """The table's own protection counts, and the message says how to end it; nothing is deleted."""
        cloud.add("my-app")
        cloud.tables["my-app"]["DeletionProtectionEnabled"] = True
        with pytest.raises(DeletionProtected, match="limiter deploy my-app --no-deletion-protection"):
            await manage(cloud).delete()
        assert cloud.count("DeleteStack") == 0

    async def test_refuses_by_the_parameter_when_the_table_is_hidden(self, cloud: Cloud) -> None:
        """Who may not look at the table is told by the stack's own record."""
        cloud.add("my-app", parameters={"DeletionProtection": "true"})
        cloud.fail("DescribeTable", denied("dynamodb:DescribeTable"))
        with pytest.raises(DeletionProtected):
            await manage(cloud).delete()

    async def test_a_retained_table_may_be_protected(self, cloud: Cloud) -> None:
        """A table that outlives its stack is no reason not to delete the stack."""
        cloud.add("my-app", tags={"limiter:retain": "true"})
        cloud.tables["my-app"]["DeletionProtectionEnabled"] = True
        assert await manage(cloud).delete() is True

    async def test_refuses_while_the_stack_is_protected(self, cloud: Cloud) -> None:
        """Termination protection of the stack is named with the command that ends it."""
        cloud.add("my-app", protected=True)
        with pytest.raises(DeletionProtected, match="update-termination-protection --no-enable-termination-protection"):
            await manage(cloud).delete()
        assert cloud.count("DeleteStack") == 0

    async def test_refuses_while_a_policy_is_attached_elsewhere(self, cloud: Cloud) -> None:
        """The table is not deleted before a policy that cannot be; the message says how to detach the policy."""
        cloud.page_size = 1
        stack = cloud.add("my-app")
        stack.resources |= {"AcquireRole": "CREATE_COMPLETE", "ReadPolicy": "CREATE_COMPLETE", "AcquirePolicy": "CREATE_COMPLETE"}
        cloud.holders["my-app-AcquirePolicy"] = [("Role", "my-app-AcquireRole"), ("Role", "web"), ("User", "ann")]
        with pytest.raises(DeletionProtected, match="attached to role 'web' and 1 more") as caught:
            await manage(cloud).delete()
        assert "aws iam detach-role-policy --role-name web --policy-arn my-app-AcquirePolicy" in str(caught.value)
        assert cloud.count("DeleteStack") == 0
        cloud.holders["my-app-AcquirePolicy"] = [("Role", "my-app-AcquireRole")]
        assert await manage(cloud).delete() is True

    @pytest.mark.parametrize("kind", ["User", "Group"])
    async def test_policies_attached_to_users_and_groups(self, cloud: Cloud, kind: str) -> None:
        """Each kind of principal is named with its own command."""
        cloud.add("my-app").resources["ReadPolicy"] = "CREATE_COMPLETE"
        cloud.holders["my-app-ReadPolicy"] = [(kind, "x")]
        with pytest.raises(DeletionProtected, match=f"aws iam detach-{kind.lower()}-policy --{kind.lower()}-name x"):
            await manage(cloud).delete()

    async def test_deletes_without_the_permission_to_look(self, cloud: Cloud) -> None:
        """Credentials that may not see attachments can still delete; CloudFormation then says what it could not delete."""
        cloud.add("my-app").resources["ReadPolicy"] = "CREATE_COMPLETE"
        cloud.fail("ListEntitiesForPolicy", denied("iam:ListEntitiesForPolicy"))
        assert await manage(cloud).delete() is True

    async def test_names_what_could_not_be_deleted(self, cloud: Cloud) -> None:
        """A deletion that fails says which resource and why; deleting again goes on."""
        cloud.add("my-app")
        reason = "Cannot delete a policy attached to entities."
        failing = [
            SUCCESS["DELETE"][0],
            ("DELETE_FAILED", [("ReadPolicy", "DELETE_FAILED", reason), ("", "DELETE_FAILED", "The following failed")]),
        ]
        cloud.outcomes["DELETE"].append(failing)
        with pytest.raises(StackFailed, match=r"deleting stack 'my-app' failed .*ReadPolicy .*attached to entities"):
            await manage(cloud).delete()
        assert await manage(cloud).delete() is True

    async def test_waits_for_what_is_under_way(self, cloud: Cloud) -> None:
        """A creation under way is waited for, even if it fails, and then deleted."""
        cloud.begin(cloud.add("my-app", "CREATE_IN_PROGRESS"), failed_creation("Subscriber limit exceeded"))
        assert await manage(cloud).delete() is True
        assert cloud.stacks[0].status == "DELETE_COMPLETE"

    async def test_waits_for_a_deletion_under_way(self, cloud: Cloud) -> None:
        """An interrupted deletion is waited for; there is nothing left to delete."""
        cloud.begin(cloud.add("my-app"), SUCCESS["DELETE"])
        assert await manage(cloud).delete() is False
        assert cloud.count("DeleteStack") == 0

    async def test_takes_its_turn_after_another_operation(self, cloud: Cloud) -> None:
        """An update that begins in between is waited for."""
        stack = cloud.add("my-app")
        cloud.interfere("DeleteStack", lambda: cloud.begin(stack, SUCCESS["UPDATE"]))
        assert await manage(cloud).delete() is True


class TestStatus:
    async def test_shows_the_stack_and_its_table(self, cloud: Cloud) -> None:
        """Status, version, outputs and the table's size, in one frozen value."""
        cloud.add("my-app")
        found = await manage(cloud).status()
        assert (found.status, found.version, found.outputs) == ("CREATE_COMPLETE", "0.0.1", {"TableName": "my-app"})
        assert found.table is not None
        assert (found.table.status, found.table.size_bytes, found.table.items) == ("ACTIVE", 2048, 7)
        with pytest.raises(AttributeError):
            found.status = "changed"

    async def test_the_table_may_be_hidden_or_gone(self, cloud: Cloud) -> None:
        """A table that the caller may not see, or that is gone, is None; the rest is shown."""
        cloud.add("my-app")
        cloud.fail("DescribeTable", denied("dynamodb:DescribeTable"))
        assert (await manage(cloud).status()).table is None
        cloud.tables.clear()
        assert (await manage(cloud).status()).table is None

    @pytest.mark.parametrize("method", ["status", "events", "drift"])
    async def test_a_missing_stack_names_the_command(self, cloud: Cloud, method: str) -> None:
        """The error says how to deploy it, and how to look elsewhere."""
        with pytest.raises(StackNotFound, match=r"limiter deploy my-app.*limiter list --region"):
            await getattr(manage(cloud), method)()

    async def test_lists_the_last_events_in_order(self, cloud: Cloud) -> None:
        """Events come oldest first, and no more than asked for."""
        cloud.page_size = 2
        await manage(cloud).deploy()
        await manage(cloud).deploy(StackSettings(alarms=True))
        everything = await manage(cloud).events()
        assert [event.status for event in everything if event.of_stack][:3] == [
            "REVIEW_IN_PROGRESS",
            "CREATE_IN_PROGRESS",
            "CREATE_COMPLETE",
        ]
        assert await manage(cloud).events(3) == everything[-3:]

    async def test_waits_for_the_end_of_an_operation(self, cloud: Cloud) -> None:
        """`wait` returns the stack as the operation left it, good or bad, and None when it is gone."""
        stack = cloud.add("my-app", "CREATE_IN_PROGRESS")
        cloud.begin(stack, failed_creation("Subscriber limit exceeded"))
        ended = await manage(cloud).wait()
        assert ended is not None
        assert ended.status == "ROLLBACK_COMPLETE"
        cloud.begin(stack, SUCCESS["DELETE"])
        assert await manage(cloud).wait() is None


class TestDrift:
    async def test_shows_what_differs(self, cloud: Cloud) -> None:
        """Resources that were modified or deleted are listed with their properties; others are not."""
        cloud.page_size = 1
        cloud.add("my-app")
        difference = {"PropertyPath": "/Billing", "ExpectedValue": "a", "ActualValue": "b", "DifferenceType": "NOT_EQUAL"}
        cloud.drifts = [
            {"LogicalResourceId": "Table", "ResourceType": TABLE, "StackResourceDriftStatus": "MODIFIED"},
            {"LogicalResourceId": "ReadPolicy", "ResourceType": POLICY, "StackResourceDriftStatus": "IN_SYNC"},
            {"LogicalResourceId": "AdminPolicy", "ResourceType": POLICY, "StackResourceDriftStatus": "DELETED"},
        ]
        cloud.drifts[0]["PropertyDifferences"] = [difference]
        drift = await manage(cloud).drift()
        assert not drift.in_sync
        assert [(each.resource, each.status) for each in drift.resources] == [("Table", "MODIFIED"), ("AdminPolicy", "DELETED")]
        assert drift.resources[0].differences[0].actual == "b"

    async def test_in_sync(self, cloud: Cloud) -> None:
        """A stack without changes is in sync."""
        cloud.add("my-app")
        assert (await manage(cloud).drift()).in_sync

    async def test_a_failed_detection_is_an_error(self, cloud: Cloud) -> None:
        """What could not be compared is not in sync."""
        cloud.add("my-app")
        cloud.drift_status = "DETECTION_FAILED"
        with pytest.raises(LimiterError, match="could not detect the drift of stack 'my-app'"):
            await manage(cloud).drift()


class TestLostAccess:
    async def test_throttling_is_waited_out(self, cloud: Cloud) -> None:
        """Calls that are throttled are made again, a little later each time, and change nothing about the outcome."""
        for action in ("DescribeStacks", "CreateChangeSet", "DescribeChangeSet", "ExecuteChangeSet", "DescribeStackEvents"):
            cloud.fail(action, THROTTLED, THROTTLED, THROTTLED)
        assert (await manage(cloud).deploy()).changed
        requests = [parameters for action, parameters in cloud.calls if action == "CreateChangeSet"]
        assert len({request["ClientToken"] for request in requests}) == 1

    async def test_endless_throttling_is_an_error(self, cloud: Cloud) -> None:
        """After half a minute it gives up."""
        cloud.fail("DescribeStacks", *[THROTTLED] * 20)
        with pytest.raises(RateLimiterUnavailable, match="throttled: Rate exceeded"):
            await manage(cloud).status()
        assert 20 < cloud.now < 60

    async def test_access_lost_while_waiting(self, cloud: Cloud) -> None:
        """Credentials that expire half-way leave the operation to AWS; with new ones the same call waits for its end."""
        cloud.interfere("DescribeStacks", lambda: None)
        cloud.interfere("ExecuteChangeSet", lambda: cloud.fail("DescribeStacks", refused("ExpiredToken")))
        with pytest.raises(PermissionDenied, match=r"expired; renew them.*AWS continues"):
            await manage(cloud).deploy()
        done = await manage(cloud).deploy()
        assert (done.changed, done.stack.status) == (False, "CREATE_COMPLETE")

    async def test_the_missing_action_is_named(self, cloud: Cloud) -> None:
        """Also when it is another one than the call's own."""
        cloud.fail("CreateChangeSet", denied("cloudformation:TagResource"))
        with pytest.raises(PermissionDenied, match=r"lack cloudformation:TagResource, which cloudformation:CreateChangeSet"):
            await manage(cloud).deploy()

    @pytest.mark.parametrize("code", ["InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException"])
    async def test_unknown_credentials(self, cloud: Cloud, code: str) -> None:
        """Credentials of another partition, or deleted ones, are called that."""
        cloud.fail("DescribeStacks", refused(code))
        with pytest.raises(ConfigurationError, match="does not accept these credentials"):
            await manage(cloud).status()

    async def test_no_credentials(self, cloud: Cloud) -> None:
        """The message says where credentials are looked for."""
        cloud.fail("DescribeStacks", NoCredentialsError())
        with pytest.raises(ConfigurationError, match="AWS_PROFILE"):
            await manage(cloud).status()

    async def test_no_such_region(self, cloud: Cloud) -> None:
        """A region that does not exist has no address; the message says what to check."""
        unreachable = EndpointConnectionError(endpoint_url="https://cloudformation.us-esat-1.amazonaws.com/")
        cloud.fail("DescribeStacks", *[unreachable] * 20)
        with pytest.raises(RateLimiterUnavailable, match="check the region's name"):
            await manage(cloud).status()

    async def test_an_error_of_aws_itself_is_tried_again(self, cloud: Cloud) -> None:
        """A status of 500 is passing."""
        cloud.add("my-app")
        cloud.fail("DescribeStacks", refused("InternalFailure", "", 500))
        assert (await manage(cloud).status()).status == "CREATE_COMPLETE"

    async def test_any_other_refusal_is_passed_on(self, cloud: Cloud) -> None:
        """What the limiter has no better words for is shown as AWS said it."""
        cloud.fail("CreateChangeSet", refused("LimitExceededException", "Limit for stack has been exceeded"))
        with pytest.raises(LimiterError, match="LimitExceededException: Limit for stack has been exceeded"):
            await manage(cloud).deploy()


@pytest.mark.engines("moto")
class TestOnAnEngine:
    async def test_deploys_finds_and_deletes(self, server_engine: Engine, table_name: str) -> None:
        """A stack on an engine has the table, the outputs and the tags, and is gone afterwards."""
        manager = StackManager(table_name, region="us-east-1", endpoint_url=server_engine.endpoint_url)
        plan = await manager.plan()
        assert plan.creates
        done = await manager.deploy(StackSettings(namespace="tenant"))
        assert done.stack.own
        assert not (await manager.deploy()).changed
        found = await manager.status()
        assert found.parameters["Namespace"] == "tenant"
        assert found.table is not None
        assert found.table.status == "ACTIVE"
        assert await manager.delete() is True
        assert await manager.delete() is False
