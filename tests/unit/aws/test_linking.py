"""Links of entities at the same time: every order of their calls, on a table that keeps conditions and has no transactions."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from support import expressions

from limiter.aws import queries, schema
from limiter.aws.linking import Linker
from limiter.core.records import EntityRecord
from limiter.exceptions import EntityChanged
from limiter.models import Entity

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator

    Item = dict[str, Any]
    Link = tuple[str, dict[str, str | None], str | None]


class Turn:
    """Lets another link make its next call."""

    def __await__(self) -> Generator[None]:
        yield


class Table:
    """A table of entities in memory; before each call another link may have its turn."""

    name = "my-app"

    def __init__(self, parents: dict[str, str | None]) -> None:
        self.items: dict[tuple[str, str], Item] = {}
        for entity_id, parent_id in parents.items():
            record = EntityRecord(Entity(entity_id, parent_id), ())
            item = queries.LinkWrites(self.name, "default", record, "").put(None, new=True)["Item"]
            self.items[schema.item_key(item)] = item

    async def call(self, action: str, parameters: dict[str, Any]) -> None:
        """Make a write if its condition holds; raises the error of a condition otherwise, and `KeyError` for a transaction."""
        write = {"PutItem": self._put, "UpdateItem": self._update, "DeleteItem": self._delete}[action]
        await Turn()
        place = schema.item_key(parameters["Item"] if "Item" in parameters else parameters["Key"])
        if not expressions.holds(parameters, self.items.get(place, {})):
            raise ClientError({"Error": {"Code": "ConditionalCheckFailedException", "Message": ""}}, action)
        write(place, parameters)

    async def read(self, keys: list[Item]) -> dict[tuple[str, str], Item]:
        """Return items, each read in a turn of its own, since no read of several items is a snapshot."""
        found = {}
        for key in keys:
            await Turn()
            if (place := schema.item_key(key)) in self.items:
                found[place] = self.items[place]
        return found

    def _put(self, place: tuple[str, str], parameters: dict[str, Any]) -> None:
        self.items[place] = parameters["Item"]

    def _update(self, place: tuple[str, str], parameters: dict[str, Any]) -> None:
        self.items[place] = parameters["Key"] | expressions.apply(parameters, self.items.get(place, {}))

    def _delete(self, place: tuple[str, str], _: object) -> None:
        del self.items[place]

    @property
    def parents(self) -> dict[str, str | None]:
        """The stored entities, and their parents."""
        found = [schema.record_value(item) for item in self.items.values()]
        return {each.entity.entity_id: each.entity.parent_id for each in found if isinstance(each, EntityRecord)}

    @property
    def unfinished(self) -> int:
        """How many items are marked and no entities."""
        return len(self.items) - len(self.parents)


async def linked(table: Table, link: Link, seen: dict[str, str | None], *, new: bool) -> bool:
    """Link an entity to a parent; false if others were faster."""
    entity_id, _, parent_id = link
    linker = Linker(table, "default", table.read)  # type: ignore[arg-type] # as much of a table as a link uses
    try:
        await linker.link(EntityRecord(Entity(entity_id, parent_id), tuple(seen)), seen, link[1].get(entity_id), new=new)
    except EntityChanged:
        return False
    return True


def begun(table: Table, before: dict[str, str | None], moves: dict[str, str | None]) -> list[Coroutine[Any, Any, bool]]:
    """Begin all moves, each of which has read the chain above it as it was before."""
    found = []
    for entity_id, parent in moves.items():
        seen: dict[str, str | None] = {}
        above = parent
        while above is not None and above in before:
            seen[above] = before[above]
            above = before[above]
        found.append(linked(table, (entity_id, before, parent), seen, new=entity_id not in before))
    return found


def played(before: dict[str, str | None], moves: dict[str, str | None], order: list[int]) -> tuple[Table, list[bool], list[int]]:
    """Play an order of turns to the end; return the table, which moves succeeded, and how many could have had each turn."""
    table = Table(before)
    links = begun(table, before, moves)
    outcomes: dict[int, bool] = {}
    choices = []
    while len(outcomes) < len(links):
        alive = [index for index in range(len(links)) if index not in outcomes]
        choice = order[len(choices)] if len(choices) < len(order) else 0
        choices.append(len(alive))
        turn = alive[choice % len(alive)]
        try:
            links[turn].send(None)
        except StopIteration as ended:
            outcomes[turn] = ended.value
    return table, [outcomes[index] for index in range(len(links))], choices


def orders(before: dict[str, str | None], moves: dict[str, str | None]) -> Generator[tuple[Table, list[bool]]]:
    """Play every order of turns."""
    left: list[list[int]] = [[]]
    while left:
        order = left.pop()
        table, outcomes, choices = played(before, moves, order)
        yield table, outcomes
        for at in range(len(order), len(choices)):
            begin = [*order, *[0] * (at - len(order))]
            left += [[*begin, other] for other in range(1, choices[at])]


def has_ring(parents: dict[str, str | None]) -> bool:
    """Tell whether a chain comes back to where it began."""
    for entity_id in parents:
        above, steps = parents[entity_id], 0
        while above is not None and above in parents and steps <= len(parents):
            above, steps = parents[above], steps + 1
        if steps > len(parents):
            return True
    return False


RINGS = {
    "two": ({"a": None, "b": None}, {"a": "b", "b": "a"}),
    "with a chain between": ({"a": None, "b": None, "c": "b"}, {"a": "c", "b": "a"}),
    "below an ancestor that is missing": ({"a": "gone", "b": None}, {"b": "a", "gone": "b"}),
}


@pytest.mark.parametrize("name", RINGS)
def test_no_order_of_two_links_makes_a_ring(name: str) -> None:
    """At most one of two links succeeds that together would make a ring; alone each does; no item is left half made."""
    before, moves = RINGS[name]
    results = set()
    for table, outcomes in orders(before, moves):
        assert not has_ring(table.parents)
        assert not table.unfinished
        for (entity_id, parent), succeeded in zip(moves.items(), outcomes, strict=True):
            assert table.parents.get(entity_id) == (parent if succeeded else before.get(entity_id))
        results.add(tuple(outcomes))
    assert {(True, False), (False, True)} <= results <= {(True, False), (False, True), (False, False)}


def test_no_order_of_three_links_makes_a_ring() -> None:
    """In a thousand orders, drawn at random, three links never make a ring, and two of them may succeed."""
    before: dict[str, str | None] = {"a": None, "b": None, "c": None}
    moves: dict[str, str | None] = {"a": "b", "b": "c", "c": "a"}
    most = 0
    for seed in range(1_000):
        chance = random.Random(seed)  # noqa: S311 - draws orders
        table, outcomes, _ = played(before, moves, [chance.randrange(6) for _ in range(40)])
        assert not has_ring(table.parents), seed
        most = max(most, sum(outcomes))
    assert most == 2


def test_a_mark_that_a_crash_leaves_is_removed_by_the_next_link() -> None:
    """A link that ends between its writes has no effect, and both entities can be linked afterwards."""
    before: dict[str, str | None] = {"a": None, "b": None}
    table = Table(before)
    (crashed,) = begun(table, before, {"b": "a"})
    for _ in range(2):
        crashed.send(None)  # It has marked the entity.
    crashed.close()
    assert table.parents == before
    assert any(map(schema.mark_of, table.items.values()))
    assert played_on(table, before, {"a": "b"}) == [True]
    assert not any(map(schema.mark_of, table.items.values()))
    assert table.parents == {"a": "b", "b": None}


def played_on(table: Table, before: dict[str, str | None], moves: dict[str, str | None]) -> list[bool]:
    """Play moves one after another."""
    outcomes = []
    for link in begun(table, before, moves):
        try:
            while True:
                link.send(None)
        except StopIteration as ended:
            outcomes.append(ended.value)
    return outcomes
