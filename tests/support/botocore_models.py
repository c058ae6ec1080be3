"""botocore's files about services, which a test process reads once. By itself it reads and lists them for each session anew.

That is four fifths of the processor time of a new client.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from botocore.loaders import JSONFileLoader, Loader


def read_once() -> None:
    """Keep the contents of the files, and which services there are."""
    load, list_services = JSONFileLoader().load_file, Loader.list_available_services
    listed: dict[tuple[str, ...], list[str]] = {}

    def list_available_services(loader: Loader, type_name: str) -> list[str]:
        key = (type_name, *loader.search_paths)
        if key not in listed:
            listed[key] = list_services(loader, type_name)
        return listed[key]

    load_once = cache(load)
    replaced: Any = JSONFileLoader
    replaced.load_file = lambda _, path: load_once(path)
    replaced = Loader
    replaced.list_available_services = list_available_services
