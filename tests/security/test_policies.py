"""Each policy of the template allows everything that its role needs, and nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from project.test_parity_of_requests import administration, bookings, decisions, send_async, send_sync, settlements
from support.engines import FakeClock, plain_client
from support.policies import Request, Statement, allows, requests, statements
from support.recording_proxy import RecordingProxy
from unit.infra.test_template import load

from limiter import BLOCKED, Entity, Limit, StackManager, SyncRateLimiter, SyncRepository, cli
from limiter.aws import schema
from limiter.cli import doctor
from limiter.cli.findings import Finding
from limiter.core.records import BucketKey
from limiter.infra.settings import StackSettings, chosen_parameters
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import Engine

ROLES = ("acquire", "read", "admin")
LIMITS = [Limit.parse("tokens=1000/second burst 5000"), Limit.parse("requests=10/minute")]
DESCRIBED = {"DescribeTable", "DescribeTimeToLive"}


def acquires(limiter: Any, clock: FakeClock) -> Any:
    """Requests of a chain whose stored limits are read: everything that an acquire can do, and a check."""
    yield limiter.try_acquire("child", "api", {"tokens": 5})
    yield limiter.check("child", "api", {"tokens": 5})
    yield limiter.resolve_limits("child", "api")


def reads(limiter: Any, clock: FakeClock) -> Any:
    """Everything that shows what is stored in a namespace."""
    yield limiter.check("child", "api")
    yield limiter.get_limits("child", "api")
    yield limiter.resolve_limits("child", "api")
    yield limiter.get_entity("child")
    yield limiter.list_children("group")
    yield limiter.list_entities("api")
    yield limiter.list_resources("child")


def changes(limiter: Any, clock: FakeClock) -> Any:
    """Everything that changes what is stored in a namespace."""
    yield limiter.set_limits(LIMITS, entity_id="child", resource="api")
    yield limiter.delete_limits("child", "api")
    yield limiter.delete_limits("unknown")
    yield limiter.create_entity("grandchild", parent_id="child")
    yield limiter.set_parent("child", None)
    yield limiter.set_limits(LIMITS, entity_id="child")
    yield limiter.put_entity(Entity("grandchild", "group", name="moved"))
    yield limiter.delete_entity("grandchild")


def orders(limiter: Any, clock: FakeClock) -> Any:
    """Changes of a bucket from outside a lease."""
    yield limiter.adjust("child", "api", {"tokens": 5})
    yield limiter.adjust("child", "api", {"tokens": -5})
    yield limiter.pause("child", "api", 30.0)
    yield limiter.reset("child", "api")


def blocks(limiter: Any, clock: FakeClock) -> Any:
    """A level that is blocked, and no longer."""
    yield limiter.set_limits(BLOCKED, entity_id="child")
    yield limiter.delete_limits("child")


def namespaces(limiter: Any, clock: FakeClock) -> Any:
    """Calls that concern several namespaces, or have to scan all of them."""
    yield limiter.list_limits()
    yield limiter.list_stored_entities()
    yield limiter.repository.buckets()
    yield limiter.list_namespaces()
    yield limiter.delete_namespace("other")


SCRIPTS: dict[str, tuple[Callable[..., Any], ...]] = {
    "acquire": (decisions, settlements, bookings, acquires),
    "read": (reads,),
    "admin": (decisions, administration, reads, changes),
}


@pytest.fixture(scope="module")
def policies() -> dict[str, list[Statement]]:
    """Every policy by level, for the whole table and for the limiter's default namespace."""
    template = load(StackManager.template())
    levels = [f"{prefix}{role.title()}" for role in ROLES for prefix in ("", "Namespace")]
    return {level: statements(template, f"{level}Policy", "default") for level in levels}


RECORDED: dict[str, dict[str, set[Request]]] = {}


def prepare(endpoint_url: str, table: str) -> None:
    """Store what the scripts read."""
    with SyncRepository(table, client=plain_client(endpoint_url)) as repository:
        limiter = SyncRateLimiter(repository, LIMITS)
        limiter.create_entity("top")
        limiter.create_entity("group", parent_id="top")
        limiter.create_entity("child", parent_id="group")
        limiter.set_limits(LIMITS, resource="api")
    with SyncRepository(table, namespace="other", client=plain_client(endpoint_url)) as repository:
        SyncRateLimiter(repository, LIMITS).set_limits(LIMITS)


def record(endpoint_url: str, table_name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[Request]]:
    """Return the requests that each role sends through both limiters, and those of `limiter doctor`."""
    found: dict[str, set[Request]] = {}
    tables = (f"{table_name}-{number}" for number in range(100))
    with RecordingProxy(endpoint_url) as proxy:

        def play(script: Callable[..., Any]) -> set[Request]:
            sent = []
            for twin in ("async", "sync"):
                table = next(tables)
                create_table(table, client=plain_client(endpoint_url))
                prepare(endpoint_url, table)
                if twin == "async":
                    sent += asyncio.run(send_async(script, table, proxy, FakeClock()))
                else:
                    sent += send_sync(script, table, proxy, FakeClock())
            return set(requests(sent))

        played = {script: play(script) for script in {each for scripts in SCRIPTS.values() for each in scripts}}
        for role, scripts in SCRIPTS.items():
            found[role] = set().union(*(played[script] for script in scripts))
        found |= {script.__name__: play(script) for script in (orders, blocks, namespaces)}
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint_url)
        table = next(tables)
        create_table(table, client=plain_client(endpoint_url))
        proxy.take()
        # The engine has no STS, without which doctor would end at once.
        monkeypatch.setattr(doctor.Examination, "_identity", lambda _: Finding("ok", "credentials", "of a test"))
        cli.run(["doctor", table])
        found["doctor"] = {request for request in requests(proxy.take()) if request.action in DESCRIBED}
    return found


@pytest.fixture
def recorded(server_engine: Engine, table_name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, set[Request]]:
    """The requests of each role, recorded once."""
    if not RECORDED:
        RECORDED.update(record(str(server_engine.endpoint_url), table_name, monkeypatch))
    return RECORDED


def needed(recorded: dict[str, set[Request]], level: str) -> set[Request]:
    """Return what a level has to allow."""
    role = level.removeprefix("Namespace").lower()
    wanted = recorded[role] | (recorded["doctor"] if role != "acquire" else set())
    return wanted | (recorded["namespaces"] if level == "Admin" else set())


LEVELS = ("Acquire", "NamespaceAcquire", "Read", "NamespaceRead", "Admin", "NamespaceAdmin")


@pytest.mark.engines("dynoxide")
@pytest.mark.parametrize("level", LEVELS)
def test_a_policy_is_enough(level: str, recorded: dict[str, set[Request]], policies: dict[str, list[Statement]]) -> None:
    """Every request of the main flows of a level is allowed by its policy, confined to a namespace or not."""
    wanted = needed(recorded, level)
    assert len({request.action for request in wanted}) >= 3
    assert {request for request in wanted if not allows(policies[level], request)} == set()


@pytest.mark.engines("dynoxide")
@pytest.mark.parametrize("level", LEVELS)
def test_no_action_of_a_policy_is_for_nothing(
    level: str, recorded: dict[str, set[Request]], policies: dict[str, list[Statement]]
) -> None:
    """Without any one of its actions, or without the index where it has it, a policy is not sufficient."""
    wanted = needed(recorded, level)
    policy = policies[level]
    for number, statement in enumerate(policy):
        for action in statement.actions:
            less = [*policy[:number], statement._replace(actions=statement.actions - {action}), *policy[number + 1 :]]
            assert any(not allows(less, request) for request in wanted), action
        for index in statement.indexes:
            less = [*policy[:number], statement._replace(indexes=statement.indexes - {index}), *policy[number + 1 :]]
            assert any(not allows(less, request) for request in wanted), index


@pytest.mark.engines("dynoxide")
def test_levels_are_told_apart(recorded: dict[str, set[Request]], policies: dict[str, list[Statement]]) -> None:
    """The acquire policy may not list, delete or put; the read policy may not write; a confined one may not scan."""
    changing = {request for request in recorded["admin"] if request.action not in {"GetItem", "BatchGetItem", "UpdateItem"}}
    assert changing
    assert not any(allows(policies["Acquire"], request) for request in changing)
    writing = {request for request in recorded["admin"] if request.action not in {"GetItem", "BatchGetItem", "Query"}}
    assert not any(allows(policies["Read"], request) for request in writing)
    scans = {request for request in recorded["namespaces"] if request.action == "Scan"}
    assert scans
    assert not any(allows(policies["NamespaceAdmin"], request) for request in scans)


@pytest.mark.engines("dynoxide")
@pytest.mark.parametrize("role", ROLES)
def test_a_confined_policy_allows_nothing_of_another_namespace(
    role: str, recorded: dict[str, set[Request]], policies: dict[str, list[Statement]]
) -> None:
    """The same requests with keys of another namespace, or without keys, are all refused, even if only one key is foreign."""
    confined = policies[f"Namespace{role.title()}"]
    for request in recorded[role]:
        for namespace in ("default2", "defaul", "other", "DEFAULT", "", "default ", "x#default"):
            foreign = frozenset(f"{namespace}#{key.partition('#')[2]}" for key in request.keys)
            assert not allows(confined, request._replace(keys=foreign))
            assert not allows(confined, request._replace(keys=request.keys | foreign))
        assert not allows(confined, request._replace(keys=frozenset()))


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("namespace", ["a#b", "50%", "a%23b", "#"])
def test_a_namespace_with_any_sign_can_be_confined(role: str, namespace: str) -> None:
    """Its policies allow all that is done to its own items, and nothing to those of namespaces that read alike."""
    (parameter,) = chosen_parameters(StackSettings(namespace=namespace)).values()
    confined = statements(load(StackManager.template()), f"Namespace{role.title()}Policy", parameter)

    def asked(owner: str) -> Request:
        key = schema.bucket_key(BucketKey(owner, "user", "api"))[schema.PARTITION_KEY]["S"]
        return Request("GetItem", None, frozenset((key,)))

    assert allows(confined, asked(namespace))
    for other in {"a", "a#b", "a#b#c", "a%23b", "a%2523b", "50", "50%", "50%25", "#", "%23", "##"} - {namespace}:
        assert not allows(confined, asked(other)), other


@pytest.mark.engines("dynoxide")
def test_who_may_acquire_may_correct_reset_and_pause(
    recorded: dict[str, set[Request]], policies: dict[str, list[Statement]]
) -> None:
    """These are updates of buckets as an acquire is, which IAM cannot tell apart; who may only read cannot make them."""
    updates = {request for request in recorded["orders"] if request.action == "UpdateItem"}
    assert updates
    for level in ("Acquire", "NamespaceAcquire", "Admin", "NamespaceAdmin"):
        assert {request for request in recorded["orders"] if not allows(policies[level], request)} == set()
    for level in ("Read", "NamespaceRead"):
        assert not any(allows(policies[level], request) for request in updates)
    blocks = {request for request in recorded["blocks"] if request.action not in {"GetItem", "BatchGetItem"}}
    assert blocks
    assert not any(allows(policies[level], request) for level in ("Acquire", "NamespaceAcquire", "Read") for request in blocks)
    assert all(allows(policies["NamespaceAdmin"], request) for request in blocks)
