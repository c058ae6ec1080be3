"""A Django project in one module: its settings, its URLs, which tests replace, and its limiter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.recorder import SyncRecorder

ALLOWED_HOSTS = ["*"]
DATABASES: dict[str, Any] = {}
INSTALLED_APPS = ["rest_framework"]
REST_FRAMEWORK = {"UNAUTHENTICATED_USER": None, "DEFAULT_AUTHENTICATION_CLASSES": []}
ROOT_URLCONF = "support.django_project"
SECRET_KEY = "of a test"  # noqa: S105
USE_TZ = True

EXAMPLES = Path(__file__).parents[2] / "examples" / "adapters"
LIMITER_MIDDLEWARE = ["limiter.contrib.django.LimiterMiddleware"]
urlpatterns: list[Any] = []
recorder = SyncRecorder()


def entity(request: Any) -> str | None:
    """Return one entity for all requests, except those that are exempt."""
    return None if "exempt" in request.GET else "one"


def statuses_of_example(name: str, paths: list[str]) -> list[int]:
    """Return the statuses of an example's responses, from a separate process: Django can be configured once."""
    program = f"import {name}; from django.test import Client; print(*(Client().get(path).status_code for path in {paths!r}))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLES), *sys.path])}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    return [int(status) for status in done.stdout.split()]
