"""A Django project in one module: its settings, for all tests of this process, and what they let the tests replace."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={},
    INSTALLED_APPS=["rest_framework"],
    MIDDLEWARE=[],
    REST_FRAMEWORK={"UNAUTHENTICATED_USER": None, "DEFAULT_AUTHENTICATION_CLASSES": []},
    ROOT_URLCONF="contrib.django_project",
    SECRET_KEY="of a test",  # noqa: S106
    USE_TZ=True,
)
django.setup()

urlpatterns: list[Any] = []
