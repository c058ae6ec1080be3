"""A target for atheris: any bytes that are read as an item, a limit or a file give a value or a typed error.

atheris is not among the test dependencies. To run it for two minutes:

    pip install atheris
    PYTHONPATH=src python tests/support/fuzz_atheris.py -max_total_time=120
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress

import atheris  # type: ignore[import-not-found] # installed by hand, see above

with atheris.instrument_imports(include=["limiter"]):
    from limiter import Limit, UnreadableItem, ValidationError
    from limiter.aws import schema
    from limiter.cli.limits_file import load


def read(data: bytes) -> None:
    """Read the bytes in every way."""
    text = atheris.FuzzedDataProvider(data).ConsumeUnicode(len(data))
    with suppress(ValidationError):
        limit = Limit.parse(text)
        if limit.name == limit.name.strip() and "=" not in limit.name:
            assert Limit.parse(str(limit)) == limit
    with suppress(ValidationError):
        load(text, "f")
    with suppress(ValueError, RecursionError):
        item = json.loads(data)
        if isinstance(item, dict):
            with suppress(UnreadableItem):
                schema.bucket_state(item)
            schema.record_value(item)
            for read_key in (schema.item_key, schema.limits_key, schema.entity_of):
                with suppress(UnreadableItem):
                    read_key(item)


if __name__ == "__main__":
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()
