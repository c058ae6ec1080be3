"""What tests of adapters share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from limiter.testing import create_table

if TYPE_CHECKING:
    from support.engines import Engine


@pytest.fixture
def table(table_name: str, server_engine: Engine) -> str:
    """A table on the engine."""
    create_table(table_name, endpoint_url=server_engine.endpoint_url)
    return table_name
