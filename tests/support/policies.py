"""A small evaluator of the policies of the template: whether one of them allows a request as it was sent to DynamoDB.

What it knows of IAM: statements that allow, action names, and the two conditions on `dynamodb:LeadingKeys` that the template
uses. A statement with anything else is an error, so that the template cannot say what this does not understand.
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from support.recording_proxy import Sent


class Request(NamedTuple):
    """One question to IAM: an action, on the table or its index, with the partition keys that the request names."""

    action: str
    index: str | None
    keys: frozenset[str]


def requests(sent: Iterable[Sent]) -> Iterator[Request]:
    """Return the questions to IAM for each request to DynamoDB."""
    for each in sent:
        if (each.target or "").startswith("DynamoDB_20120810."):
            yield from _asked(each.target.partition(".")[2], json.loads(each.body))


def _asked(action: str, body: dict[str, Any]) -> Iterator[Request]:
    index = body.get("IndexName")
    if action in {"BatchGetItem", "BatchWriteItem"}:
        (items,) = body["RequestItems"].values()
        if action == "BatchGetItem":
            keys = items["Keys"]
        else:
            keys = [write["DeleteRequest"]["Key"] if "DeleteRequest" in write else write["PutRequest"]["Item"] for write in items]
    elif action == "Query":
        # The partition is the first value of every query here.
        keys = [{"pk": body["ExpressionAttributeValues"][":0"]}]
    else:
        keys = [body[part] for part in ("Key", "Item") if part in body]
    yield Request(action, index, frozenset(key["pk"]["S"] for key in keys))


class Statement(NamedTuple):
    """One statement, with the namespace filled in."""

    actions: frozenset[str]
    indexes: frozenset[str | None]
    patterns: tuple[str, ...] | None

    def allows(self, request: Request) -> bool:
        """Tell whether this statement alone allows it."""
        if request.action not in self.actions or request.index not in self.indexes:
            return False
        if self.patterns is None:
            return True
        return bool(request.keys) and all(any(fnmatchcase(key, each) for each in self.patterns) for key in request.keys)


def statements(template: dict[str, Any], policy: str, namespace: str) -> list[Statement]:
    """Return the statements of a policy of the template."""
    document = template["Resources"][policy]["Properties"]["PolicyDocument"]
    return [_statement(each, namespace) for each in document["Statement"]]


def _statement(statement: dict[str, Any], namespace: str) -> Statement:
    assert statement.keys() <= {"Sid", "Effect", "Action", "Resource", "Condition"}
    assert statement["Effect"] == "Allow"
    actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
    assert all(action.startswith("dynamodb:") and not set("*?") & set(action) for action in actions)
    resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
    table, index = {"Fn::GetAtt": ["Table", "Arn"]}, {"Fn::Sub": "${Table.Arn}/index/listing"}
    assert all(resource in (table, index) for resource in resources)
    condition = statement.get("Condition")
    patterns = None
    if condition is not None:
        assert condition.keys() == {"ForAllValues:StringLike", "Null"}
        assert condition["Null"] == {"dynamodb:LeadingKeys": "false"}
        listed = condition["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]
        patterns = tuple(each["Fn::Sub"].replace("${Namespace}", namespace) for each in listed)
    indexes = frozenset(None if resource == table else "listing" for resource in resources)
    return Statement(frozenset(action.removeprefix("dynamodb:") for action in actions), indexes, patterns)


def allows(policy: Iterable[Statement], request: Request) -> bool:
    """Tell whether one of the statements allows it."""
    return any(statement.allows(request) for statement in policy)
