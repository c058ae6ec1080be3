"""The limiter in processes that fork after it was opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import Engine
    from support.processes import Script

CAPACITY = 150


@pytest.mark.parametrize("way", ["threads", "loop"])
@pytest.mark.engines("dynoxide")
def test_children_make_their_own(server_engine: Engine, table: str, way: str, run_script: Callable[..., Script]) -> None:
    """Children that are forked from a busy parent take from the same limit, exactly, and the parent goes on undisturbed."""
    result = run_script("forks.py", way, STACK=table, ENDPOINT=str(server_engine.endpoint_url)).result

    assert result["parent"] + result["children"] == CAPACITY
    assert result.get("checks", 10) == 10


@pytest.mark.engines("dynoxide")
def test_a_lease_is_the_parents(server_engine: Engine, table: str, run_script: Callable[..., Script]) -> None:
    """A forked child cannot use its parent's lease, whose units are refunded once."""
    result = run_script("forks.py", "lease", STACK=table, ENDPOINT=str(server_engine.endpoint_url)).result

    assert result["complaint"].startswith("LeaseClosed: ")
    assert result["child_left"] == CAPACITY - 5 - 3
    assert result["both_left"] == CAPACITY - 5


def test_no_lock_is_inherited(run_script: Callable[..., Script]) -> None:
    """Wherever in the limiter another thread stands when the process forks, the child does not hang."""
    assert run_script("forks.py", "locks").result["moments"] >= 3


@pytest.mark.engines("dynoxide")
def test_a_client_of_ones_own_stays_in_its_process(server_engine: Engine, table: str, run_script: Callable[..., Script]) -> None:
    """A client that was passed in and used serves no forked child, whose answers would be mixed up with the parent's."""
    result = run_script("forks.py", "client", STACK=table, ENDPOINT=str(server_engine.endpoint_url)).result

    assert result["child"].startswith("ConfigurationError: ")
    assert result["parent"] == "True"


def test_counts_are_each_processes_own(run_script: Callable[..., Script]) -> None:
    """A forked child counts from 0, and the parent goes on from where it was."""
    assert run_script("forks.py", "counts").result == {"before": 3, "child": 2, "parent": 4}
