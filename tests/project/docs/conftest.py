"""One embedded engine for the documentation's programs, with a fresh table named as they name it."""

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
    """The engine, which no other test uses, so that it can be reset."""
    with LocalEngine() as engine:
        yield engine


@pytest.fixture
def environment(documentation_engine: LocalEngine) -> dict[str, str]:
    """What `limiter local --table my-app` tells its user to export."""
    documentation_engine.reset()
    url = documentation_engine.endpoint_url
    create_table(TABLE, endpoint_url=url)
    return {**os.environ, "AWS_ENDPOINT_URL_DYNAMODB": url, "PYTHONUNBUFFERED": "1"}
