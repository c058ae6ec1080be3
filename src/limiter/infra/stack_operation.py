# twin: sync_stack_operation.py
"""One deploy, plan or delete of one stack, from the first look at it to the end."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from ..exceptions import DeletionProtected, LimiterError, PermissionDenied
from . import change_set
from .cloudformation_errors import Missing, Unchanged
from .ownership import check_readable, is_own, not_owned, not_owned_shell
from .settings import check_names
from .stack_events import Watch, failure
from .stack_summary import SUCCEEDED, is_empty, read_tags

if TYPE_CHECKING:
    from .change_set import Change
    from .pacing import Pacing
    from .settings import StackSettings
    from .stack_client import StackClient
    from .stack_summary import StackSummary

_SILENT_LOOKS = 3


class StackOperation:
    """The steps of operations on one stack; `watch` sees the events, `pacing` says how long all of it may take."""

    def __init__(self, aws: StackClient, watch: Watch, pacing: Pacing) -> None:
        self._aws = aws
        self._name = aws.stack
        self._watch = watch
        self._pacing = pacing
        self._proposed: dict[str, str] = {}

    async def settle(self, *, however: bool = False) -> StackSummary | None:
        """The stack, once whatever is under way has ended; None when there is none.

        Raises `StackNotOwned` when it is somebody else's, and `StackFailed` when what was under way failed, unless `however`
        it ended is good enough.
        """
        stack = await self._look()
        if stack is None or stack.phase != "moving":
            return stack
        self._watch.begin(None)
        before, stack = stack, await self._wait(stack.stack_id)
        if however or stack is None or stack.status in SUCCEEDED or before.status.startswith("DELETE"):
            return stack
        raise failure(stack, self._watch.events, "an operation that was under way on")

    async def clear(self, stack: StackSummary) -> None:
        """Delete a stack whose creation failed and that holds nothing; raises `StackFailed` when it holds something."""
        await self.check_dead(stack)
        await self.delete(stack)

    async def check_dead(self, stack: StackSummary) -> None:
        """Raise `StackFailed` unless the stack can be deleted and made anew, and nothing is lost by it."""
        resources = await self._aws.pages("ListStackResources", "StackResourceSummaries", StackName=stack.stack_id)
        if stack.phase != "dead" or not is_empty(resources):
            raise failure(stack, await self._aws.new_events(stack.stack_id, None), "an earlier operation on")

    async def propose(
        self, stack: StackSummary | None, settings: StackSettings, *, adopt: bool
    ) -> tuple[dict[str, Any], tuple[Change, ...]]:
        """Have CloudFormation compare, and return the change set as described, and its changes."""
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
            raise self._refused(described.get("StatusReason", "no reason is given"))
        return described, change_set.read_changes(entries)

    async def discard(self, stack: StackSummary | None) -> None:
        """Delete what was proposed, and with it the stack when that holds nothing else."""
        if not self._proposed:
            return
        if stack is None or stack.phase == "review":
            found = await self._aws.find(self._proposed["StackName"])
            if found is not None and found.phase == "review":
                # Nobody asked for this deletion, so nobody is told of it.
                await StackOperation(self._aws, Watch(), self._pacing).delete(found)
        else:
            await self._aws.call("cloudformation", "DeleteChangeSet", **self._proposed)
        self._proposed = {}

    async def execute(self, described: dict[str, Any], *, creates: bool) -> StackSummary:
        """Carry a change set out and wait for the end; raises `StackFailed` with the first failure."""
        stack_id = described.get("StackId", self._name)
        self._watch.begin(await self._aws.last_event(stack_id))
        parameters = {"ChangeSetName": described.get("ChangeSetId", described["ChangeSetName"]), "StackName": stack_id}
        if creates:
            # Otherwise a failed creation leaves a retained table behind, which stands in the way of the next.
            parameters["RetainExceptOnCreate"] = True
        await self._aws.call("cloudformation", "ExecuteChangeSet", ClientRequestToken=described["ChangeSetName"], **parameters)
        stack = await self._wait(stack_id)
        if stack is None:
            raise LimiterError(f"stack {self._name!r} was deleted by somebody else while it was deployed")
        if stack.status not in SUCCEEDED:
            raise failure(stack, self._watch.events, "deploying")
        return stack

    async def check_deletable(self, stack: StackSummary) -> None:
        """Raise `DeletionProtected` when the table or the stack is protected from deletion."""
        if stack.termination_protection:
            raise DeletionProtected(
                f"stack {self._name!r} has termination protection; to end it: aws cloudformation update-termination-protection "
                f"--no-enable-termination-protection --stack-name {self._name}"
            )
        try:
            table = await self._aws.table(self._name)
            protected = table is not None and table.deletion_protection
        except PermissionDenied:
            protected = stack.parameters.get("DeletionProtection") == "true"
        if protected and not stack.retains_table:
            raise DeletionProtected(
                f"table {self._name!r} has deletion protection; to end it: limiter deploy {self._name} --no-deletion-protection"
            )

    async def delete(self, stack: StackSummary) -> None:
        """Delete the stack and wait until it is gone; raises `StackFailed` with the first failure."""
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
        """The stack when the operation under way has ended; None when it is gone."""
        for looks, delay in enumerate(self._pacing.delays()):
            stack = await self._aws.find(stack_id)
            try:
                self._watch.feed(await self._aws.new_events(stack_id, self._watch.seen))
            except Missing:
                stack = None
            if stack is None:
                return None
            # Right after the request the status may still be the one before it.
            begun = self._watch.events or looks >= _SILENT_LOOKS
            if stack.phase not in {"moving", "review"} and begun:
                break
            await self._aws.pause(delay)
        return stack

    def _refused(self, reason: str) -> LimiterError:
        return LimiterError(f"CloudFormation refuses to deploy stack {self._name!r}: {reason}")
