# twin: sync_repository.py
"""Buckets and records in a DynamoDB table."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self

from .aws import schema
from .aws.client import ClientOptions, check_connection
from .aws.clock import ServerClock
from .aws.errors import no_item_returned
from .aws.table import Table
from .aws.transport import TransportChoice
from .core.records import BucketKey, EntityKey, EntityRecord, LimitsKey
from .core.state import EMPTY, WriteResult
from .core.validation import check_clock, check_endpoint, check_name, check_region, check_table, check_table_region
from .exceptions import EntityChanged, Throttled, ValidationError
from .runtime.retry import ATTEMPTS, Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from .aws.transport import TransportInUse, TransportOption
    from .core.records import Record, RecordKey
    from .core.resolution import Lookup
    from .core.state import BucketState, Update

BATCH_READ, BATCH_WRITE = 100, 25
"""Items of one BatchGetItem and of one BatchWriteItem; see the service quotas of DynamoDB."""


class Repository:
    """The table named `stack` in one AWS account and region, seen by one `namespace`.

    The ARN of a table stands for its name too, and reaches a table of another account whose resource policy allows that.
    Opening neither creates nor changes anything in AWS. It is lazy: the first call opens the client, one for each process and
    event loop, and `close` closes it. Region, credentials and endpoint that are not given follow the standard AWS variables and
    files. A `client` that is given is used as it is and never closed.

    `clock` returns the integer nanoseconds since the epoch on which every decision is based; without one it is the server's time,
    told from the answers to all calls. A call may take `connect_timeout` seconds to reach the server and `read_timeout` more for
    the whole answer; DynamoDB answers within milliseconds.

    `transport` says how reads and writes of buckets and reads of records are sent. "auto" sends them directly, for a fraction of
    botocore's time, where that changes nothing else: no `client` was given, no tracer or mock has patched botocore, no handler
    from elsewhere listens to its events, and no proxy is configured. Otherwise botocore sends them, as it sends all other calls.
    "direct" raises `ConfigurationError` in place of using botocore; "botocore" never sends them directly.
    """

    def __init__(
        self,
        stack: str,
        *,
        namespace: str = "default",
        region: str | None = None,
        endpoint_url: str | None = None,
        session: Any = None,
        client: Any = None,
        clock: Callable[[], int] | None = None,
        max_connections: int = 64,
        connect_timeout: float = 0.4,
        read_timeout: float = 0.5,
        transport: TransportOption = "auto",
    ) -> None:
        self.stack = check_table(stack)
        self.namespace = check_name("namespace", namespace)
        self.clock: Callable[[], int] = ServerClock() if clock is None else check_clock(clock)
        check_connection(session, client)
        options = ClientOptions(
            region=check_table_region(stack, check_region(region)),
            endpoint_url=check_endpoint(endpoint_url),
            session=session,
            max_connections=max_connections,
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
        )
        self._configuration: dict[str, Any] = {
            "namespace": namespace,
            "region": region,
            "endpoint_url": endpoint_url,
            "clock": clock,
            "max_connections": max_connections,
            "connect_timeout": connect_timeout,
            "read_timeout": read_timeout,
            "transport": transport,
        }
        self._is_given = session is not None or client is not None
        self._server_clock = self.clock if isinstance(self.clock, ServerClock) else None
        self._table = Table(stack, client, options, self._server_clock, TransportChoice(transport, client))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} stack={self.stack!r} namespace={self.namespace!r}>"

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[object, ...]]:
        """Pickle and copy the configuration: the copy opens a client of its own. Raises with a given `client` or `session`."""
        if self._is_given:
            raise ValidationError(
                f"{self!r} was made with client= or session=, which cannot be pickled or copied: make one where it is used"
            )
        return partial(type(self), **self._configuration), (self.stack,)

    @property
    def skew(self) -> float | None:
        """Seconds that this machine's clock is ahead of the server's, 0.0 within what can be told.

        None before the first answer that tells a time, and when a `clock` is given.
        """
        return None if self._server_clock is None else self._server_clock.skew

    @property
    def transport(self) -> TransportInUse | None:
        """How the frequent calls are made in this process, and why not directly; None before the client is opened."""
        return self._table.transport.in_use

    async def open(self) -> None:
        """Open the client now rather than at the first call; raises `StackNotFound` when there is no such table."""
        await self._table.call("GetItem", self._addressed(schema.record_key(self.namespace, LimitsKey())), attempts=ATTEMPTS)

    async def prepare(self) -> None:
        """Open the client, without calling AWS."""
        await self._table.prepare()

    async def close(self) -> None:
        """Close the client of this process and event loop; a later call opens a new one."""
        await self._table.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def read_bucket(self, key: BucketKey) -> BucketState:
        """The bucket's present state, by a consistent read (one read unit); an absent bucket is an empty one."""
        answer = await self._table.call("GetItem", self._addressed(schema.bucket_key(key)) | {"ConsistentRead": True})
        return schema.bucket_state(answer.get("Item"))

    async def write_bucket(self, key: BucketKey, update: Update) -> WriteResult:
        """Apply `update` if all its conditions hold: one UpdateItem, one write unit whether it does or not."""
        from botocore.exceptions import ClientError

        parameters = self._addressed(schema.bucket_key(key)) | schema.update_parameters(update)
        parameters["ReturnValues"] = "ALL_NEW"
        parameters["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
        try:
            answer = await self._table.call("UpdateItem", parameters)
        except ClientError as error:
            item = error.response.get("Item")
            if not item and update.holds(EMPTY):  # It would have been applied if there were no item.
                raise no_item_returned(self.stack) from error
            state = schema.bucket_state(item)
            return WriteResult(state.stamp == update.stamp, state)
        return WriteResult(True, schema.bucket_state(answer["Attributes"]))

    async def read_records(
        self, keys: Sequence[RecordKey], buckets: Sequence[BucketKey] = ()
    ) -> tuple[dict[RecordKey, Lookup], dict[BucketKey, BucketState]]:
        """Records, and buckets along with them, by one BatchGetItem of consistent reads (more above 100 items)."""
        wanted = [schema.record_key(self.namespace, key) for key in keys] + [schema.bucket_key(key) for key in buckets]
        items = await self._read_items(wanted)
        places = [schema.item_key(each) for each in wanted]
        records: dict[RecordKey, Lookup] = {
            key: schema.record_value(items.get(place)) for key, place in zip(keys, places, strict=False)
        }
        return records, {
            key: schema.bucket_state(items.get(place)) for key, place in zip(buckets, places[len(keys) :], strict=True)
        }

    async def write_limits(self, key: LimitsKey, limits: Record | None) -> None:
        """Store a level of limits, or remove it."""
        if limits is None:
            await self._table.call("DeleteItem", self._addressed(schema.record_key(self.namespace, key)), attempts=ATTEMPTS)
        else:
            item = {"TableName": self.stack, "Item": schema.record_item(self.namespace, key, limits)}
            await self._table.call("PutItem", item, attempts=ATTEMPTS)

    async def link_entity(
        self, record: EntityRecord, seen: Mapping[str, str | None], before: str | None, *, new: bool = False
    ) -> None:
        """Store an entity that is `new` or has the parent `before`, while each of its ancestors has the parent that was `seen`.

        One that is named as a parent there, and not seen itself, must not exist. Raises `EntityChanged` when that is not so. One
        transaction: two write units for each item. It is repeated only while it is throttled, and so surely not applied.
        """
        from botocore.exceptions import ClientError

        writes = schema.link_writes(self.stack, self.namespace, record, seen, before, new=new)
        retry = Retry()
        while True:
            try:
                await self._table.call("TransactWriteItems", {"TransactItems": writes})
                return
            except Throttled:
                if retry.is_over():
                    raise
            except ClientError as error:
                raise EntityChanged(
                    f"entity {record.entity.entity_id!r} or one of its ancestors was modified concurrently"
                ) from error
            await retry.backoff()

    async def delete_entity(self, entity_id: str) -> tuple[RecordKey, ...]:
        """Remove an entity and its stored limits, and return what was removed; its buckets stay until they are full."""
        levels = [schema.limits_key(item) async for item in self._items(entity_id, "l")]
        keys: list[RecordKey] = [EntityKey(entity_id), *filter(None, levels)]
        await self._delete_items([schema.record_key(self.namespace, key) for key in keys])
        return tuple(keys)

    async def children(self, entity_id: str) -> tuple[str, ...]:
        """The entities whose parent this is, by name, from the index, which trails writes by a moment."""
        query = schema.children_query(self.namespace, entity_id)
        return tuple([schema.entity_of(item) async for item in self._table.pages("Query", query)])

    async def limited_entities(self, resource: str) -> tuple[str, ...]:
        """The entities that have limits of their own for a resource, by name, from the index."""
        query = schema.limited_entities_query(self.namespace, resource)
        return tuple([schema.entity_of(item) async for item in self._table.pages("Query", query)])

    async def levels(self) -> tuple[LimitsKey, ...]:
        """All levels of limits that are stored in the namespace. Reads the whole table."""
        scan = self._table.pages("Scan", schema.keys_scan(self.namespace))
        found = [schema.limits_key(item) async for item in scan]
        return tuple(filter(None, found))

    async def entities(self) -> tuple[str, ...]:
        """Return the ids of all stored entities of the namespace, sorted. Reads the whole table."""
        scan = self._table.pages("Scan", schema.keys_scan(self.namespace))
        found = [schema.entity_key(item) async for item in scan]
        return tuple(sorted(key.entity_id for key in found if key is not None))

    async def buckets(self) -> dict[BucketKey, BucketState]:
        """Return all buckets of the namespace with their states, some seconds old. Reads the whole table."""
        scan = self._table.pages("Scan", schema.buckets_scan(self.namespace))
        return {
            BucketKey(self.namespace, schema.entity_of(item), schema.resource_of(item)): schema.bucket_state(item)
            async for item in scan
        }

    async def resources(self, entity_id: str) -> tuple[str, ...]:
        """The resources for which an entity has a bucket, by name."""
        return tuple([schema.item_key(item)[1][2:] async for item in self._items(entity_id, "b#")])

    async def namespaces(self) -> tuple[str, ...]:
        """All namespaces in the table, by name. Reads the whole table, for want of a hot index."""
        return tuple(sorted({schema.namespace_of(item) async for item in self._table.pages("Scan", schema.keys_scan())}))

    async def delete_namespace(self, namespace: str) -> int:
        """Remove every item of a namespace, and return how many there were. Reads the whole table; safe to repeat."""
        found: list[schema.Item] = []
        deleted = 0
        async for item in self._table.pages("Scan", schema.keys_scan(namespace)):
            found.append(item)
            if len(found) == BATCH_WRITE:
                await self._delete_items(found)
                deleted += len(found)
                found = []
        await self._delete_items(found)
        return deleted + len(found)

    def _addressed(self, key: schema.Item) -> dict[str, Any]:
        return {"TableName": self.stack, "Key": key}

    def _items(self, entity_id: str, prefix: str) -> Any:
        return self._table.pages("Query", schema.partition_query(self.namespace, entity_id, prefix))

    async def _read_items(self, wanted: list[schema.Item]) -> dict[tuple[str, str], schema.Item]:
        found: dict[tuple[str, str], schema.Item] = {}
        retry = Retry()
        while wanted:
            request = {self.stack: {"Keys": wanted[:BATCH_READ], "ConsistentRead": True}}
            answer = await self._table.call("BatchGetItem", {"RequestItems": request}, attempts=ATTEMPTS)
            found |= {schema.item_key(item): item for item in _only_table(answer["Responses"], ())}
            left = _only_table(answer.get("UnprocessedKeys"), {}).get("Keys", [])
            wanted = left + wanted[BATCH_READ:]
            if left:
                await self._pause(retry, "BatchGetItem")
        return found

    async def _delete_items(self, keys: list[schema.Item]) -> None:
        retry = Retry()
        while keys:
            deletions = [{"DeleteRequest": {"Key": key}} for key in keys[:BATCH_WRITE]]
            answer = await self._table.call("BatchWriteItem", {"RequestItems": {self.stack: deletions}}, attempts=ATTEMPTS)
            left = [each["DeleteRequest"]["Key"] for each in _only_table(answer.get("UnprocessedItems"), [])]
            if len(left) < len(deletions):
                retry = Retry()  # It goes on, and no decision waits for it.
            keys = left + keys[BATCH_WRITE:]
            if left:
                await self._pause(retry, "BatchWriteItem")

    async def _pause(self, retry: Retry, action: str) -> None:
        """Wait before asking for what was left; keys are left out of an answer where the table's throughput does not suffice."""
        if retry.is_over():
            raise Throttled(f"{action} on table {self.stack!r} was throttled: keys stayed unprocessed in every attempt")
        await retry.backoff()


def _only_table(tables: dict[str, Any] | None, default: Any) -> Any:
    """Return what an answer holds for the one table that was asked, which it may call by its name although the ARN was given."""
    return next(iter((tables or {}).values()), default)
