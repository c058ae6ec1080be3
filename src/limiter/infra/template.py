"""The CloudFormation template as text."""

from __future__ import annotations

from pathlib import Path

_DELETED = "DeletionPolicy: Delete # `limiter template --retain` says Retain\n"
_RETAINED = "DeletionPolicy: Retain\n"


def render(*, retain: bool = False) -> str:
    """The template, with a table that outlives the stack when `retain` is true.

    A deletion policy cannot depend on a parameter, so there are two templates, which differ in this line.
    """
    text = Path(__file__).with_name("template.yaml").read_text(encoding="utf-8")
    head, found, rest = text.partition(_DELETED)
    if not found:
        raise AssertionError("the template has lost the line that says whether the table is kept")
    return head + (_RETAINED if retain else found) + rest
