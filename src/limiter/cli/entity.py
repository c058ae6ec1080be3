"""`limiter entity`: who is limited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import aws_options, confirm, stack_option, yes_option
from .output import Table, pairs, say, show

if TYPE_CHECKING:
    from ..models import Entity
    from ..sync_limiter import SyncRateLimiter
    from .options import Target


@click.group()
def entity() -> None:
    """Create, show, list, move and delete entities. An entity need not be created to be limited."""


@entity.command("create")
@click.argument("entity_id", metavar="ENTITY")
@click.option("--parent", metavar="ID", help="What it belongs to.")
@click.option("--cascade/--no-cascade", default=True, show_default=True, help="What it takes is taken from the parent too.")
@click.option("--name", metavar="TEXT", help="A name for people.")
@click.option("--metadata", "-m", multiple=True, metavar="KEY=VALUE", help="Anything else; may be given several times.")
@stack_option
@aws_options
def create(
    entity_id: str, stack: str, target: Target, parent: str | None, cascade: bool, name: str | None, metadata: tuple[str, ...]
) -> None:
    """Create ENTITY."""
    notes = dict(map(_read_note, metadata))
    with target.limiter(stack) as limiter:
        created = limiter.create_entity(entity_id, parent_id=parent, cascade=cascade, name=name, metadata=notes)
    _show(target, created)


@entity.command("show")
@click.argument("entity_id", metavar="ENTITY")
@stack_option
@aws_options
def show_entity(entity_id: str, stack: str, target: Target) -> None:
    """Show ENTITY, its own limits, its children and the resources for which it has a bucket."""
    from ..exceptions import EntityNotFound
    from .documents import entity_document

    with target.limiter(stack) as limiter:
        found = limiter.get_entity(entity_id)
        if found is None:
            raise EntityNotFound(f"there is no entity {entity_id!r}; it can be limited all the same: limiter top --entity ID")
        own = [str(limit) for limit in limiter.get_limits(entity_id) or ()]
        children = [child.entity_id for child in limiter.list_children(entity_id)]
        resources = list(limiter.list_resources(entity_id))
    rows = [*_rows(found), ("own limits", own), ("children", children), ("buckets", resources)]
    document = {**entity_document(found), "limits": own, "children": children, "buckets": resources}
    show(target.output, document, pairs((name, value or None) for name, value in rows))


@entity.command("list")
@click.option("--parent", metavar="ID", help="The children of this entity.")
@click.option("--resource", metavar="NAME", help="The entities with limits of their own for this resource.")
@stack_option
@aws_options
def list_entities(stack: str, target: Target, parent: str | None, resource: str | None) -> None:
    """List the children of an entity, or the entities with limits of their own for a resource."""
    from .documents import entity_document

    if (parent is None) == (resource is None):
        raise click.UsageError("say either --parent or --resource")
    with target.limiter(stack) as limiter:
        if parent is None:
            names = limiter.list_entities(str(resource))
            show(target.output, [{"entity_id": name} for name in names], Table(("entity",), [(name,) for name in names]))
            return
        found = limiter.list_children(parent)
    rows = [(each.entity_id, each.name, each.cascade) for each in found]
    show(target.output, [entity_document(each) for each in found], Table(("entity", "name", "cascades"), rows))


@entity.command("move")
@click.argument("entity_id", metavar="ENTITY")
@click.option("--parent", metavar="ID", help="Where to.")
@click.option("--root", is_flag=True, help="Under no parent.")
@stack_option
@aws_options
def move(entity_id: str, stack: str, target: Target, parent: str | None, root: bool) -> None:
    """Move ENTITY, and with it everything below it, under another parent."""
    if (parent is None) != root:
        raise click.UsageError("say either --parent ID or --root")
    with target.limiter(stack) as limiter:
        _show(target, limiter.set_parent(entity_id, parent))


@entity.command("delete")
@click.argument("entity_id", metavar="ENTITY")
@yes_option
@stack_option
@aws_options
def delete(entity_id: str, stack: str, target: Target, yes: bool) -> None:
    """Delete ENTITY and its stored limits. Its children then have no parent; its buckets stay until they are full."""
    confirm(f"Delete entity {entity_id!r} and its stored limits?", yes=yes)
    with target.limiter(stack) as limiter:
        existed = _exists(limiter, entity_id)
        limiter.delete_entity(entity_id)
    say("Deleted." if existed else f"There was no entity {entity_id!r}; limits that were stored for it are deleted.")


def _exists(limiter: SyncRateLimiter, entity_id: str) -> bool:
    from ..exceptions import UnreadableItem

    try:
        return limiter.get_entity(entity_id) is not None
    except UnreadableItem:  # It can be deleted all the same.
        return True


def _show(target: Target, found: Entity) -> None:
    from .documents import entity_document

    show(target.output, entity_document(found), pairs(_rows(found)))


def _rows(found: Entity) -> list[tuple[str, Any]]:
    notes = [(f"metadata {key}", value) for key, value in sorted(found.metadata.items())]
    return [
        ("entity", found.entity_id),
        ("parent", found.parent_id),
        ("cascades", found.cascade),
        ("name", found.name),
        *notes,
    ]


def _read_note(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--metadata")
    return key, value
