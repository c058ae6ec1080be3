# twin: sync_stack_manager.py
"""Deploys, watches and deletes the CloudFormation stack with the limiter's table."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..aws.client import ClientOptions
from ..exceptions import LimiterError, PermissionDenied, StackNotFound, ValidationError
from .change_set import Deployment, Plan, check_table_survives, is_failed
from .cloudformation_errors import Conflict, Missing
from .drift import check_detected, read_drift
from .ownership import check_stack_name, not_owned, not_owned_shell
from .settings import StackSettings, render_template
from .stack_client import StackAccess, StackClient
from .stack_events import Pacing, Watch, read_event
from .stack_operation import StackOperation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .drift import Drift
    from .stack_events import StackEvent
    from .stack_summary import StackSummary

_TURNS = 5


class StackManager:
    """One stack: a table of the same name, the policies to use it and, on request, roles and alarms.

    The manager never touches a stack that the limiter did not deploy: every method raises `StackNotOwned` instead. AWS continues
    the operation of an interrupted or timed-out call; the same call waits for it the next time. Times are in seconds.

    - `stack`: the name of the stack and of its table.
    - `region`, `session`: an AWS region, and a session of the AWS library. By default the standard AWS variables and files apply.
    - `endpoint_url`: an endpoint other than AWS's own, such as that of `limiter local`.
    - `client`, `table_client`, `policy_client`: open clients of CloudFormation, DynamoDB and IAM. They are used unchanged and
      never closed. Clients that the manager opens are closed at the end of each call.
    - `clock`: returns monotonic seconds, for timeouts.
    - `sleep`: waits for a number of seconds between two looks at an operation.

    Every method raises `ConfigurationError` without credentials or a region, `PermissionDenied` with the missing action, and
    `RateLimiterUnavailable` when AWS cannot be reached.
    """

    def __init__(
        self,
        stack: str,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
        session: Any = None,
        client: Any = None,
        table_client: Any = None,
        policy_client: Any = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self.stack = check_stack_name(stack)
        options = ClientOptions(
            region=region, endpoint_url=endpoint_url, session=session, connect_timeout=5.0, read_timeout=30.0, max_connections=10
        )
        self._access = StackAccess(options, client, table_client, policy_client, sleep, clock)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} stack={self.stack!r}>"

    @staticmethod
    def template(*, retain: bool = False, regions: tuple[str, ...] = (), witness: str | None = None) -> str:
        """Return the CloudFormation template; with `retain`, the table is kept when the stack is deleted.

        With `regions`, the template is that of one table in three Regions, or in two with a `witness` in a third, consistent in
        all of them. Deploy it in one of `regions`.
        """
        return render_template(retain=retain, regions=regions, witness=witness)

    async def deploy(
        self,
        settings: StackSettings | None = None,
        *,
        adopt: bool = False,
        timeout: float = 1800.0,  # noqa: ASYNC109 - the operation continues in AWS, so no cancel scope ends it
        on_event: Callable[[StackEvent], None] | None = None,
    ) -> Deployment:
        """Create the stack, or update it to the settings; does nothing when they are in force.

        Waits for a running operation first. Creates a stack again when its creation failed and it has no resources. `adopt`
        takes over a table of this name that exists outside of any stack; it needs `retain`.

        Raises `StackFailed` with the first resource that failed, `ReplacementRefused` when the table would be lost, and
        `StackBusy` after `timeout` seconds.
        """
        chosen = _checked(settings, adopt=adopt)
        async with self._client() as aws:
            operation = self._operation(aws, timeout, on_event)
            for _ in range(_TURNS):
                # After a conflict, the next turn waits for the operation that caused it.
                with suppress(Conflict, Missing):
                    return await self._deploy(operation, chosen, adopt=adopt)
            raise self._contested()

    async def _deploy(self, operation: StackOperation, settings: StackSettings, *, adopt: bool) -> Deployment:
        stack = await operation.settle()
        if stack is not None and stack.phase in {"dead", "stuck"}:
            await operation.clear(stack)
            stack = None
        try:
            described, changes = await operation.propose(stack, settings, adopt=adopt)
            check_table_survives(self.stack, changes)
        except BaseException:
            with suppress(LimiterError):  # The first error is the one to report.
                await operation.discard(stack)
            raise
        if stack is not None and is_failed(described):
            await operation.discard(stack)
            return Deployment(stack, changed=False)
        creates = stack is None or stack.phase == "review"
        return Deployment(await operation.execute(described, creates=creates), changed=True, changes=changes)

    async def plan(
        self,
        settings: StackSettings | None = None,
        *,
        adopt: bool = False,
        timeout: float = 1800.0,  # noqa: ASYNC109 - as in deploy
        on_event: Callable[[StackEvent], None] | None = None,
    ) -> Plan:
        """Return what `deploy` would do now. Compares only; the change set is deleted again."""
        chosen = _checked(settings, adopt=adopt)
        async with self._client() as aws:
            operation = self._operation(aws, timeout, on_event)
            stack = await operation.settle()
            if stack is not None and stack.phase in {"dead", "stuck"}:
                await operation.check_dead(stack)
                return Plan(self.stack, creates=True, changed=True, recreates=True)
            try:
                described, changes = await operation.propose(stack, chosen, adopt=adopt)
            except BaseException:
                with suppress(LimiterError):  # The first error is the one to report.
                    await operation.discard(stack)
                raise
            await operation.discard(stack)
            creates = stack is None or stack.phase == "review"
            return Plan(self.stack, creates=creates, changed=not is_failed(described), changes=changes)

    async def status(self) -> StackSummary:
        """Return the stack and its table; raises `StackNotFound` when the stack does not exist."""
        async with self._client() as aws:
            stack = await self._existing(aws)
            try:
                return replace(stack, table=await aws.table(self.stack))
            except PermissionDenied:
                return stack

    async def events(self, limit: int = 100) -> tuple[StackEvent, ...]:
        """Return the last events of the stack, oldest first."""
        async with self._client() as aws:
            stack = await self._existing(aws)
            found: list[StackEvent] = []
            parameters = {"StackName": stack.stack_id}
            while len(found) < limit:
                page = await aws.call("cloudformation", "DescribeStackEvents", **parameters)
                found += map(read_event, page["StackEvents"])
                if not page.get("NextToken"):
                    break
                parameters["NextToken"] = page["NextToken"]
            return tuple(found[:limit][::-1])

    async def delete(
        self,
        *,
        timeout: float = 1800.0,  # noqa: ASYNC109 - as in deploy
        on_event: Callable[[StackEvent], None] | None = None,
    ) -> bool:
        """Delete the stack, and its table unless that is retained; returns false when the stack does not exist.

        Raises `DeletionProtected`, before anything is deleted, when the stack or its table is protected from deletion, or when
        one of its policies is attached outside the stack (looked up with iam:ListEntitiesForPolicy where that is allowed).
        """
        async with self._client() as aws:
            operation = self._operation(aws, timeout, on_event)
            for _ in range(_TURNS):
                stack = await operation.settle(however=True)
                if stack is None:
                    return False
                await operation.check_deletable(stack)
                with suppress(Conflict):
                    await operation.delete(stack)
                    return True
            raise self._contested()

    async def wait(
        self,
        *,
        timeout: float = 1800.0,  # noqa: ASYNC109 - as in deploy
        on_event: Callable[[StackEvent], None] | None = None,
    ) -> StackSummary | None:
        """Wait for a running operation to end, and return the stack in its final status; None when it does not exist."""
        async with self._client() as aws:
            return await self._operation(aws, timeout, on_event).settle(however=True)

    async def drift(self, *, timeout: float = 600.0) -> Drift:  # noqa: ASYNC109 - as in deploy
        """Return how the stack's resources differ from what was deployed. Reads only."""
        async with self._client() as aws:
            stack = await self._existing(aws)
            started = await aws.call("cloudformation", "DetectStackDrift", StackName=stack.stack_id)
            detection = {"StackDriftDetectionId": started["StackDriftDetectionId"]}
            for delay in Pacing(self.stack, timeout, self._access.clock).delays():
                answer = await aws.call("cloudformation", "DescribeStackDriftDetectionStatus", **detection)
                if answer["DetectionStatus"] != "DETECTION_IN_PROGRESS":
                    break
                await aws.pause(delay)
            check_detected(self.stack, answer)
            entries = await aws.pages("DescribeStackResourceDrifts", "StackResourceDrifts", StackName=stack.stack_id)
            return read_drift(self.stack, entries)

    async def _existing(self, aws: StackClient) -> StackSummary:
        stack = await aws.find(self.stack)
        if stack is None:
            raise StackNotFound(
                f"stack {self.stack!r} does not exist in this account and {aws.region() or 'region'}: deploy it with "
                f"`limiter deploy {self.stack}`, or look in another region with `limiter list --region REGION`"
            )
        if stack.phase == "review" and not stack.own:
            raise not_owned_shell(self.stack)
        if not stack.own:
            raise not_owned(self.stack)
        return stack

    def _contested(self) -> Conflict:
        return Conflict(f"stack {self.stack!r} is being changed by other operations; try again later")

    def _client(self) -> StackClient:
        return StackClient(self.stack, self._access)

    def _operation(self, aws: StackClient, seconds: float, on_event: Callable[[StackEvent], None] | None) -> StackOperation:
        return StackOperation(aws, Watch(on_event), Pacing(self.stack, seconds, self._access.clock))


def _checked(settings: StackSettings | None, *, adopt: bool) -> StackSettings:
    if adopt and not (settings and settings.retain):
        raise ValidationError("to adopt an existing table, choose retain=True as well: CloudFormation requires it")
    return settings or StackSettings()
