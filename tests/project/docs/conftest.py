"""One embedded engine for the documentation's programs, with a table named as they name it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from limiter.local import LocalEngine
from limiter.testing import create_table

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = "my-app"


@pytest.fixture(scope="session")
def documentation_engine() -> Iterator[LocalEngine]:
    """The engine, with the table that all pages share, as they do for a reader who runs one after another."""
    with LocalEngine() as engine:
        create_table(TABLE, endpoint_url=engine.endpoint_url)
        yield engine


@pytest.fixture
def environment(documentation_engine: LocalEngine) -> dict[str, str]:
    """What `limiter local --table my-app` tells its user to export."""
    return {**os.environ, "AWS_ENDPOINT_URL_DYNAMODB": documentation_engine.endpoint_url, "PYTHONUNBUFFERED": "1"}
