# twin: sync_stack_operation.py
"""One deploy, plan or delete of one stack, from the first look at the stack to the end."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..exceptions import DeletionProtected, LimiterError, PermissionDenied
from . import change_set
from .cloudformation_errors import Missing, Unchanged
from .ownership import check_readable, is_own, not_owned, not_owned_shell
from .settings import check_names
from .stack_events import Watch, failure
from .stack_summary import SUCCEEDED, is_empty, physical_ids, read_tags

if TYPE_CHECKING:
    from .change_set import Change
    from .settings import StackSettings
    from .stack_client import StackClient
    from .stack_events import Pacing
    from .stack_summary import StackSummary

_SILENT_LOOKS = 3


class StackOperation:
    """The steps of operations on one stack. `watch` receives the events; `pacing` bounds the time of all steps together."""

    def __init__(self, aws: StackClient, watch: Watch, pacing: Pacing) -> None:
        self._aws = aws
        self._name = aws.stack
        self._watch = watch
        self._pacing = pacing
        self._proposed: dict[str, str] = {}

    async def settle(self, *, however: bool = False) -> StackSummary | None:
        """Wait for a running operation to end, and return the stack; None when it does not exist.

        Raises `StackNotOwned` when the limiter did not deploy it, and `StackFailed` when that operation failed, unless
        `however` accepts every outcome.
        """
        stack = await self._look()
        if stack is None or stack.phase != "moving":
            return stack
        self._watch.begin(None)
        before, stack = stack, await self._wait(stack.stack_id)
        if however or stack is None or stack.status in SUCCEEDED or before.status.startswith("DELETE"):
            return stack
        raise failure(stack, self._watch.events, "a running operation on")

    async def clear(self, stack: StackSummary) -> None:
        """Delete a stack whose creation failed; raises `StackFailed` when it still has resources."""
        await self.check_dead(stack)
        await self.delete(stack)

    async def check_dead(self, stack: StackSummary) -> None:
        """Raise `StackFailed` unless the stack can be deleted and created again without losing a resource."""
        resources = await self._aws.pages("ListStackResources", "StackResourceSummaries", StackName=stack.stack_id)
        if stack.phase != "dead" or not is_empty(resources):
            raise failure(stack, await self._aws.new_events(stack.stack_id, None), "an earlier operation on")

    async def propose(
        self, stack: StackSummary | None, settings: StackSettings, *, adopt: bool
    ) -> tuple[dict[str, Any], tuple[Change, ...]]:
        """Create a change set; return its description by CloudFormation, and its changes."""
        check_names(self._name, settings, stack.parameters if stack else {})
        name = f"{change_set.NAME_PREFIX}{uuid.uuid4().hex}"
        request = change_set.change_set_request(self._name, name, stack, settings, adopt=adopt)
        try:
            created = await self._aws.call("cloudformation", "CreateChangeSet", **request)
        except Unchanged:
            return change_set.UNCHANGED, ()
        self._proposed = {"ChangeSetName": created.get("Id", name), "StackName": created.get("StackId", self._name)}
        for delay in self._pacing.delays():
            described: dict[str, Any] = await self._aws.call("cloudformation", "DescribeChangeSet", **self._proposed)
            if change_set.is_finished(described):
                break
            await self._aws.pause(delay)
        entries = list(described.get("Changes", ()))
        if described.get("NextToken"):
            more = {**self._proposed, "NextToken": described["NextToken"]}
            entries += await self._aws.pages("DescribeChangeSet", "Changes", **more)
        if change_set.is_failed(described) and not change_set.is_unchanged(described):
            raise self._refused(described.get("StatusReason", "no reason given"))
        return described, change_set.read_changes(entries)

    async def discard(self, stack: StackSummary | None) -> None:
        """Delete the proposed change set, and the stack too when it contains nothing else."""
        if not self._proposed:
            return
        if stack is None or stack.phase == "review":
            found = await self._aws.find(self._proposed["StackName"])
            if found is not None and found.phase == "review":
                # The caller did not ask for this deletion, so its events are not reported.
                await StackOperation(self._aws, Watch(), self._pacing).delete(found)
        else:
            await self._aws.call("cloudformation", "DeleteChangeSet", **self._proposed)
        self._proposed = {}

    async def execute(self, described: dict[str, Any], *, creates: bool) -> StackSummary:
        """Execute a change set and wait for its end; raises `StackFailed` with the first failure."""
        stack_id = described.get("StackId", self._name)
        self._watch.begin(await self._aws.last_event(stack_id))
        parameters = {"ChangeSetName": described.get("ChangeSetId", described["ChangeSetName"]), "StackName": stack_id}
        if creates:
            # Otherwise a failed creation leaves a retained table behind, and the next creation fails on it.
            parameters["RetainExceptOnCreate"] = True
        await self._aws.call("cloudformation", "ExecuteChangeSet", ClientRequestToken=described["ChangeSetName"], **parameters)
        stack = await self._wait(stack_id)
        if stack is None:
            raise LimiterError(f"stack {self._name!r} was deleted by another operation during the deploy")
        if stack.status not in SUCCEEDED:
            raise failure(stack, self._watch.events, "deploying")
        return stack

    async def check_deletable(self, stack: StackSummary) -> None:
        """Raise `DeletionProtected` when the table or the stack is protected, or a policy is attached outside the stack."""
        if stack.termination_protection:
            raise DeletionProtected(
                f"stack {self._name!r} has termination protection; remove it first: aws cloudformation "
                f"update-termination-protection --no-enable-termination-protection --stack-name {self._name}"
            )
        try:
            table = await self._aws.table(self._name)
            protected = table is not None and table.deletion_protection
        except PermissionDenied:
            protected = stack.parameters.get("DeletionProtection") == "true"
        if protected and not stack.retains_table:
            raise DeletionProtected(
                f"table {self._name!r} has deletion protection; remove it first: "
                f"limiter deploy {self._name} --no-deletion-protection"
            )
        with suppress(PermissionDenied):  # Who may not look is told by CloudFormation, if too late for the table.
            await self._check_detached(stack)

    async def _check_detached(self, stack: StackSummary) -> None:
        """Raise `DeletionProtected` when a policy is attached outside the stack: its deletion would fail after the table's."""
        resources = await self._aws.pages("ListStackResources", "StackResourceSummaries", StackName=stack.stack_id)
        roles, policies = (physical_ids(resources, kind) for kind in ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy"))
        for arn in policies:
            foreign = [each for each in await self._aws.policy_holders(arn) if each not in {("role", name) for name in roles}]
            if foreign:
                kind, name = foreign[0]
                others = f" and {len(foreign) - 1} more" if foreign[1:] else ""
                raise DeletionProtected(
                    f"policy {arn} of stack {self._name!r} is attached to {kind} {name!r}{others}, so CloudFormation could not "
                    f"delete it; nothing was deleted. Detach it first: "
                    f"aws iam detach-{kind}-policy --{kind}-name {name} --policy-arn {arn}"
                )

    async def delete(self, stack: StackSummary) -> None:
        """Delete the stack and wait until it is deleted; raises `StackFailed` with the first failure."""
        self._watch.begin(await self._aws.last_event(stack.stack_id))
        token = f"{change_set.NAME_PREFIX}{uuid.uuid4().hex}"
        await self._aws.call("cloudformation", "DeleteStack", StackName=stack.stack_id, ClientRequestToken=token)
        left = await self._wait(stack.stack_id)
        if left is not None:
            raise failure(left, self._watch.events, "deleting")

    async def _look(self) -> StackSummary | None:
        stack = await self._aws.find(self._name)
        if stack is None:
            return None
        if stack.phase == "review":
            await self._check_shell(stack)
        elif not stack.own:
            raise not_owned(self._name)
        check_readable(self._name, stack.tags)
        return stack

    async def _check_shell(self, stack: StackSummary) -> None:
        """Raise `StackNotOwned` unless a change set shows that the limiter began this stack, which has no tags yet."""
        for summary in await self._change_sets(stack):
            parameters = {"ChangeSetName": summary["ChangeSetName"], "StackName": stack.stack_id}
            described = await self._aws.call("cloudformation", "DescribeChangeSet", **parameters)
            if is_own(read_tags(described.get("Tags", ()))):
                return
        if not stack.own:
            raise not_owned_shell(self._name)

    async def _change_sets(self, stack: StackSummary) -> list[Any]:
        summaries = await self._aws.pages("ListChangeSets", "Summaries", StackName=stack.stack_id)
        return [each for each in summaries if each["ChangeSetName"].startswith(change_set.NAME_PREFIX)]

    async def _wait(self, stack_id: str) -> StackSummary | None:
        """Wait for the running operation to end, and return the stack; None when it is deleted."""
        for looks, delay in enumerate(self._pacing.delays()):
            stack = await self._aws.find(stack_id)
            try:
                self._watch.feed(await self._aws.new_events(stack_id, self._watch.seen))
            except Missing:
                stack = None
            if stack is None:
                return None
            # Right after the request, the status may still be the previous one.
            begun = self._watch.events or looks >= _SILENT_LOOKS
            if stack.phase not in {"moving", "review"} and begun:
                break
            await self._aws.pause(delay)
        return stack

    def _refused(self, reason: str) -> LimiterError:
        return LimiterError(f"CloudFormation refused to deploy stack {self._name!r}: {reason}")
