"""Says in the command's terms what errors say in Python's."""

from __future__ import annotations

_TERMS = {
    "use set_parent to move it": "move it with `limiter entity move`",
    "create it with create_entity": "create it with `limiter entity create`",
    "pass limits= to the call or to the limiter, or store some with set_limits": (
        "pass --limit, or store some with `limiter limits set`"
    ),
    "pass region=": "pass --region",
    "choose retain=True as well": "say --retain as well",
    "endpoint_url must": "--endpoint-url must",
    "timeout must be None or a number": "--timeout must be a number",
}


def in_commands(text: str) -> str:
    """The text of an error with options and commands in place of parameters and methods."""
    for python, command in _TERMS.items():
        text = text.replace(python, command)
    return text
