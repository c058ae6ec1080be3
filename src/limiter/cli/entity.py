"""`limiter entity`: stored entities and their hierarchy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .groups import group
from .options import aws_options, confirm, stack_option, yes_option
from .output import Table, pairs, say, show

if TYPE_CHECKING:
    from ..models import Entity
    from ..sync_limiter import SyncRateLimiter
    from .options import Target


@group
def entity() -> None:
    """Create, show, list, move and delete entities.

    Limits also apply to entities that were never created; only a parent, a name and metadata need one.
    """


@entity.command("create")
@click.argument("entity_id", metavar="ENTITY")
@click.option("--parent", metavar="ID", help="Parent of the entity.")
@click.option("--cascade/--no-cascade", default=True, show_default=True, help="Charge the parent for what the entity consumes.")
@click.option("--name", metavar="TEXT", help="Display name.")
@click.option("--metadata", "-m", multiple=True, metavar="KEY=VALUE", help="Additional data; may be given several times.")
@stack_option
@aws_options
def create(
    entity_id: str, stack: str, target: Target, parent: str | None, cascade: bool, name: str | None, metadata: tuple[str, ...]
) -> None:
    """Create an entity."""
    notes = dict(map(_read_note, metadata))
    with target.limiter(stack) as limiter:
        created = limiter.create_entity(entity_id, parent_id=parent, cascade=cascade, name=name, metadata=notes)
    _show(target, created)


@entity.command("show")
@click.argument("entity_id", metavar="ENTITY")
@stack_option
@aws_options
def show_entity(entity_id: str, stack: str, target: Target) -> None:
    """Show an entity.

    Also shows its own limits, its children, and the resources for which it has a bucket.
    """
    from ..exceptions import EntityNotFound
    from .amounts import limit_texts
    from .documents import entity_document

    with target.limiter(stack) as limiter:
        found = limiter.get_entity(entity_id)
        if found is None:
            raise EntityNotFound(
                f"entity {entity_id!r} is not stored. Limits can still apply to it; see `limiter top -e {entity_id}`"
            )
        own = limit_texts(limiter.get_limits(entity_id) or ())
        children = [child.entity_id for child in limiter.list_children(entity_id)]
        resources = list(limiter.list_resources(entity_id))
    rows = [*_rows(found), ("own limits", own), ("children", children), ("buckets", resources)]
    document = {**entity_document(found), "limits": own, "children": children, "buckets": resources}
    show(target.output, document, pairs((name, value or None) for name, value in rows))


@entity.command("list")
@click.option("--parent", metavar="ID", help="List the children of this entity.")
@click.option("--resource", metavar="NAME", help="List the entities that have their own limits for this resource.")
@stack_option
@aws_options
def list_entities(stack: str, target: Target, parent: str | None, resource: str | None) -> None:
    """List stored entities.

    Reads the whole table, unless --parent or --resource is given.
    """
    from .documents import entity_document

    if parent is not None and resource is not None:
        raise click.UsageError("specify --parent or --resource, not both")
    with target.limiter(stack) as limiter:
        if resource is not None:
            names = limiter.list_entities(resource)
            show(target.output, [{"entity_id": name} for name in names], Table(("entity",), [(name,) for name in names]))
            return
        found = limiter.list_stored_entities() if parent is None else limiter.list_children(parent)
    if not found:
        say(f"No entities are stored in namespace {target.namespace!r}." if parent is None else f"{parent!r} has no children.")
    rows = [(each.entity_id, each.name, each.cascade, each.parent_id) for each in found]
    table = Table(("entity", "name", "cascades", "parent"), rows, expendable=("cascades", "name"))
    show(target.output, [entity_document(each) for each in found], table)


@entity.command("move")
@click.argument("entity_id", metavar="ENTITY")
@click.option("--parent", metavar="ID", help="New parent.")
@click.option("--root", is_flag=True, help="Remove the parent.")
@stack_option
@aws_options
def move(entity_id: str, stack: str, target: Target, parent: str | None, root: bool) -> None:
    """Move an entity to another parent.

    The entities below it move with it.
    """
    if (parent is None) != root:
        raise click.UsageError("specify either --parent ID or --root")
    with target.limiter(stack) as limiter:
        _show(target, limiter.set_parent(entity_id, parent))


@entity.command("delete")
@click.argument("entity_id", metavar="ENTITY")
@yes_option
@stack_option
@aws_options
def delete(entity_id: str, stack: str, target: Target, yes: bool) -> None:
    """Delete an entity and its limits.

    Its children then have no parent to charge; its buckets stay until they are full.
    """
    confirm(f"Delete entity {entity_id!r} and its stored limits?", yes=yes)
    with target.limiter(stack) as limiter:
        existed = _exists(limiter, entity_id)
        limiter.delete_entity(entity_id)
    say("Deleted." if existed else f"Entity {entity_id!r} was not stored; any limits stored for it are deleted.")


def _exists(limiter: SyncRateLimiter, entity_id: str) -> bool:
    from ..exceptions import UnreadableItem

    try:
        return limiter.get_entity(entity_id) is not None
    except UnreadableItem:  # It can still be deleted.
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
