# twin: sync_repository.py
"""A store of buckets and records in a DynamoDB table."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Self

from .aws import queries, schema
from .aws.client import ClientOptions, check_connection
from .aws.clock import ServerClock
from .aws.errors import no_item_returned
from .aws.linking import Linker
from .aws.sweeping import Sweeper
from .aws.table import Table
from .aws.transport import TransportChoice
from .core.records import BucketKey, CacheableKeys, EntityKey, EntityRecord, LimitsKey
from .core.state import EMPTY, WriteResult
from .core.validation import (
    check_clock,
    check_count,
    check_duration,
    check_endpoint,
    check_name,
    check_region,
    check_segment,
    check_table,
    check_table_region,
)
from .exceptions import Throttled, ValidationError
from .runtime.retry import ATTEMPTS, Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from .aws.transport import TransportInUse, TransportOption
    from .core.records import Record, RecordKey
    from .core.resolution import Lookup
    from .core.state import BucketState, Update
    from .models import Sweep

BATCH_READ, BATCH_WRITE = 100, 25
"""The most items of one BatchGetItem and of one BatchWriteItem; see the service quotas of DynamoDB."""


class Repository:
    """A store on the DynamoDB table `stack`, in one AWS account and region, seen by one `namespace`.

    Opening creates and changes nothing in AWS. The first call opens a client, one for each process and event loop; `close` closes
    it. Region, credentials and endpoint follow the standard AWS variables and files unless given.

    - `stack`: the table's name. Its ARN works too, and reaches a table of another account whose resource policy allows that.
    - `namespace`: separates the limits, entities and buckets of several programs or tenants in one table.
    - `region`: an AWS region, such as "eu-west-1".
    - `endpoint_url`: an endpoint other than AWS's own, such as that of a local engine.
    - `session`: a session of the AWS library, from which clients are opened.
    - `client`: an open DynamoDB client, which is used unchanged and never closed. It belongs to one process and event loop.
    - `clock`: returns integer nanoseconds since the epoch, on which every decision is based. By default it is the time of the
      table's servers, told from their responses.
    - `max_connections`: the most connections to the table, in each process and event loop.
    - `connect_timeout`: seconds that a call may take to reach the server.
    - `read_timeout`: further seconds for the whole response. DynamoDB responds within milliseconds.
    - `transport`: how reads and writes of buckets and reads of records are sent. "auto" sends them directly, for a fraction of
      botocore's time, if that changes nothing else: no `client` is given, no tracer or mock has patched botocore, no handler of
      another library listens to its events, and no proxy is configured. Otherwise botocore sends them, as it sends all other
      calls. "direct" raises `ConfigurationError` instead of using botocore. "botocore" never sends directly.

    Raises `ValidationError` for an unusable argument.
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
        self.is_shared = True  # Other processes write to the same buckets, so all together keep a pace.
        self.max_connections = check_count("max_connections", max_connections)
        options = ClientOptions(
            region=check_table_region(stack, check_region(region)),
            endpoint_url=check_endpoint(endpoint_url),
            session=session,
            max_connections=max_connections,
            connect_timeout=check_duration("connect_timeout", connect_timeout),
            read_timeout=check_duration("read_timeout", read_timeout),
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
        self._has_written = False
        self._table = Table(stack, client, options, self._server_clock, TransportChoice(transport, client))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} stack={self.stack!r} namespace={self.namespace!r}>"

    def __reduce__(self) -> tuple[Callable[..., Self], tuple[object, ...]]:
        """Pickle and copy the configuration: the copy opens its own client. Raises with a given `client` or `session`."""
        if self._is_given:
            raise ValidationError(
                f"{self!r} was made with client= or session=, which cannot be pickled or copied: make one where it is used"
            )
        return partial(type(self), **self._configuration), (self.stack,)

    @property
    def skew(self) -> float | None:
        """Seconds that this machine's clock is ahead of the server's; 0.0 if the difference is within the error of measurement.

        None before the first response that tells a time, and when a `clock` is given.
        """
        return None if self._server_clock is None else self._server_clock.skew

    @property
    def transport(self) -> TransportInUse | None:
        """How the frequent calls are sent in this process, and why not directly; None before the client is opened."""
        return self._table.transport.in_use

    async def open(self) -> None:
        """Open the client now rather than at the first call; raises `StackNotFound` if the table does not exist."""
        await self._table.call("GetItem", self._addressed(schema.record_key(self.namespace, LimitsKey())), attempts=ATTEMPTS)

    async def prepare(self) -> None:
        """Open the client without calling the table.

        Finding credentials may call other services of AWS: STS, or the metadata of the instance or container.
        """
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
        """Return the bucket's present state, by a consistent read (one read unit). An absent bucket is an empty one."""
        answer = await self._table.call("GetItem", self._addressed(schema.bucket_key(key)) | {"ConsistentRead": True})
        return schema.bucket_state(answer.get("Item"))

    async def write_bucket(self, key: BucketKey, update: Update) -> WriteResult:
        """Apply `update` if all its conditions hold: one UpdateItem, and one write unit in any case."""
        from botocore.exceptions import ClientError

        try:
            answer = await self._table.call("UpdateItem", {"TableName": self.stack, **schema.bucket_update(key, update)})
        except ClientError as error:
            item = error.response.get("Item")
            if not item and update.holds(EMPTY):  # Without an item, the update would have been applied.
                raise no_item_returned(self.stack) from error
            state = schema.bucket_state(item)
            return WriteResult(state.has_stamp(update.stamp), state)
        return WriteResult(True, schema.bucket_state(answer["Attributes"]))

    async def read_records(
        self, keys: Sequence[RecordKey], buckets: Sequence[BucketKey] = ()
    ) -> tuple[dict[RecordKey, Lookup], dict[BucketKey, BucketState]]:
        """Return records, and buckets with them, by one BatchGetItem (more above 100 items).

        The reads are consistent, except if there are only `CacheableKeys`, and this repository has written no record: those cost
        half a unit each in place of one, and may miss what was written in the last second or so.
        """
        wanted = [schema.record_key(self.namespace, key) for key in keys] + [schema.bucket_key(key) for key in buckets]
        consistent = bool(buckets) or self._has_written or not isinstance(keys, CacheableKeys)
        items = await self._read_items(wanted, consistent=consistent)
        places = [schema.item_key(each) for each in wanted]
        records: dict[RecordKey, Lookup] = {
            key: schema.record_value(items.get(place)) for key, place in zip(keys, places, strict=False)
        }
        return records, {
            key: schema.bucket_state(items.get(place)) for key, place in zip(buckets, places[len(keys) :], strict=True)
        }

    async def write_limits(self, key: LimitsKey, limits: Record | None) -> None:
        """Store a level of limits, or remove it."""
        self._has_written = True
        if limits is None:
            await self._table.call("DeleteItem", self._addressed(schema.record_key(self.namespace, key)), attempts=ATTEMPTS)
        else:
            item = {"TableName": self.stack, "Item": schema.record_item(self.namespace, key, limits)}
            await self._table.call("PutItem", item, attempts=ATTEMPTS)

    async def link_entity(
        self, record: EntityRecord, seen: Mapping[str, str | None], before: str | None, *, new: bool = False
    ) -> None:
        """Store an entity that is `new` or has the parent `before`, while each of its ancestors has the parent that was `seen`.

        An entity that is named as a parent there, and not seen itself, must not exist. Raises `EntityChanged` otherwise. It takes
        one write without ancestors; with ancestors a write, a read of them and another write.
        """
        self._has_written = True
        linker = Linker(self._table, self.namespace, partial(self._read_items, consistent=True))
        await linker.link(record, seen, before, new=new)

    async def delete_entity(self, entity_id: str) -> tuple[RecordKey, ...]:
        """Remove an entity and its stored limits, and return what was removed; its buckets stay until they are full."""
        self._has_written = True
        levels = [schema.limits_key(item) async for item in self._items(entity_id, "l")]
        keys: list[RecordKey] = [EntityKey(entity_id), *filter(None, levels)]
        await self._delete_items([schema.record_key(self.namespace, key) for key in keys])
        return tuple(keys)

    async def children(self, entity_id: str) -> tuple[str, ...]:
        """Return the entities that have this parent, by name, from the index, which trails writes by a moment."""
        query = queries.children_query(self.namespace, entity_id)
        return tuple([schema.entity_of(item) async for item in self._table.pages("Query", query)])

    async def limited_entities(self, resource: str) -> tuple[str, ...]:
        """Return the entities that have their own limits for a resource, by name, from the index."""
        query = queries.limited_entities_query(self.namespace, resource)
        return tuple([schema.entity_of(item) async for item in self._table.pages("Query", query)])

    async def levels(self) -> tuple[LimitsKey, ...]:
        """Return all levels of limits that are stored in the namespace. Reads the whole table."""
        scan = self._table.pages("Scan", queries.keys_scan(self.namespace))
        found = [schema.limits_key(item) async for item in scan]
        return tuple(filter(None, found))

    async def entities(self) -> tuple[str, ...]:
        """Return the ids of all stored entities of the namespace, sorted. Reads the whole table."""
        scan = self._table.pages("Scan", queries.keys_scan(self.namespace))
        found = [schema.entity_key(item) async for item in scan]
        return tuple(sorted(key.entity_id for key in found if key is not None))

    async def buckets(self) -> dict[BucketKey, BucketState]:
        """Return all buckets of the namespace with their states, some seconds old. Reads the whole table."""
        scan = self._table.pages("Scan", queries.buckets_scan(self.namespace))
        return {
            BucketKey(self.namespace, schema.entity_of(item), schema.resource_of(item)): schema.bucket_state(item)
            async for item in scan
        }

    async def resources(self, entity_id: str) -> tuple[str, ...]:
        """Return the resources for which an entity has a bucket, by name."""
        return tuple([schema.item_key(item)[1][2:] async for item in self._items(entity_id, "b#")])

    async def namespaces(self) -> tuple[str, ...]:
        """Return all namespaces in the table, by name. Reads the whole table: an index of namespaces would be a hot key."""
        return tuple(sorted({schema.namespace_of(item) async for item in self._table.pages("Scan", queries.keys_scan())}))

    async def delete_namespace(self, namespace: str) -> int:
        """Remove every item of a namespace, and return the number of items. Reads the whole table; safe to repeat."""
        found: list[schema.Item] = []
        deleted = 0
        async for item in self._table.pages("Scan", queries.keys_scan(namespace)):
            found.append(item)
            if len(found) == BATCH_WRITE:
                await self._delete_items(found)
                deleted += len(found)
                found = []
        await self._delete_items(found)
        return deleted + len(found)

    async def sweep(
        self,
        *,
        max_rate: int = 100,
        segment: int = 0,
        segments: int = 1,
        dry_run: bool = False,
        on_progress: Callable[[Sweep], None] | None = None,
    ) -> Sweep:
        """Delete idle buckets whose `ttl` has passed, of all namespaces, and return the counts.

        For tables without time to live, such as global tables with strong consistency. Reads the whole table, or one of
        `segments` equal parts that several processes share. A bucket that is used again in the meantime is kept. Safe to repeat.

        - `max_rate`: the most deletions a second. Each costs a write unit, or one per KB of a larger item.
        - `segment`: which part to sweep, from 0.
        - `dry_run`: counts expired items, and deletes none.
        - `on_progress`: is called with the counts so far, after every few deletions.
        """
        check_segment(segment, check_count("segments", segments))
        check_count("max_rate", max_rate)
        await self.open()  # Its response tells the server's time.
        sweeper = Sweeper(self._table, self.clock)
        return await sweeper.sweep(max_rate, segment, segments, dry_run=dry_run, on_progress=on_progress)

    def _addressed(self, key: schema.Item) -> dict[str, Any]:
        return {"TableName": self.stack, "Key": key}

    def _items(self, entity_id: str, prefix: str) -> Any:
        return self._table.pages("Query", queries.partition_query(self.namespace, entity_id, prefix))

    async def _read_items(self, wanted: list[schema.Item], *, consistent: bool) -> dict[tuple[str, str], schema.Item]:
        found: dict[tuple[str, str], schema.Item] = {}
        retry = Retry()
        while wanted:
            request = {self.stack: {"Keys": wanted[:BATCH_READ], "ConsistentRead": consistent}}
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
                retry = Retry()  # Progress was made, so attempts count anew; no decision waits for a deletion.
            keys = left + keys[BATCH_WRITE:]
            if left:
                await self._pause(retry, "BatchWriteItem")

    async def _pause(self, retry: Retry, action: str) -> None:
        """Wait before asking for the unprocessed keys; a response omits keys if the table's throughput does not suffice."""
        if retry.is_over():
            raise Throttled(f"{action} on table {self.stack!r} was throttled: keys stayed unprocessed in every attempt")
        await retry.backoff()


def _only_table(tables: dict[str, Any] | None, default: Any) -> Any:
    """Return what a response holds for the one table of the request, which it may call by its name although an ARN was given."""
    return next(iter((tables or {}).values()), default)
