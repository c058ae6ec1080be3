"""The programs of the page "Coming from" that need a framework around them work in that framework."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest
from support.doc_blocks import ROOT, Block, blocks
from support.presence import need

if TYPE_CHECKING:
    from pathlib import Path

PAGE = ROOT / "docs" / "coming-from.md"


class Frame(NamedTuple):
    """What an application has before and after the page's program, and what it prints in the end."""

    packages: tuple[str, ...]
    before: str
    after: str
    printed: str


DJANGO = """
import django
from django.conf import settings
settings.configure(SECRET_KEY="none", ALLOWED_HOSTS=["*"], REST_FRAMEWORK={"UNAUTHENTICATED_USER": None})
django.setup()
"""
FRAMES = {
    "Flask-Limiter": Frame(
        ("flask",),
        "from flask import Flask\napp = Flask('shop')",
        "client = app.test_client()\nprint([client.get('/search').status_code for _ in range(11)])",
        f"{[200] * 10 + [429]}\n",
    ),
    "slowapi": Frame(
        ("fastapi", "httpx2"),
        "from fastapi import FastAPI\nfrom fastapi.testclient import TestClient\napp = FastAPI()",
        "with TestClient(app, client=('203.0.113.7', 80)) as client:\n"
        "    print([client.get('/search').status_code for _ in range(11)])",
        f"{[200] * 10 + [429]}\n",
    ),
    "django-ratelimit": Frame(
        ("django",),
        DJANGO,
        "from django.test import RequestFactory\n"
        "print([login(RequestFactory().post('/', REMOTE_ADDR='203.0.113.8')).status_code for _ in range(11)])\n"
        "print(login(RequestFactory().get('/', REMOTE_ADDR='203.0.113.8')).status_code)",
        f"{[200] * 10 + [429]}\n200\n",
    ),
    "Throttles of Django REST framework": Frame(
        ("django", "rest_framework"),
        DJANGO,
        "from rest_framework.response import Response\n"
        "from rest_framework.test import APIRequestFactory\n"
        "from rest_framework.views import APIView\n"
        "class Search(APIView):\n"
        "    throttle_classes = [PerUser]\n"
        "    def get(self, request):\n"
        "        return Response('found')\n"
        "search = Search.as_view()\n"
        "print([search(APIRequestFactory().get('/', REMOTE_ADDR='203.0.113.9')).status_code for _ in range(61)][-2:])\n"
        "print(REST_FRAMEWORK['DEFAULT_THROTTLE_CLASSES'])",
        "[200, 429]\n['shop.throttles.PerUser']\n",
    ),
    "LangChain's limiter": Frame(
        ("langchain_core",),
        "from langchain_core.language_models import FakeListChatModel\n"
        "def ChatOpenAI(model, rate_limiter):\n"
        "    return FakeListChatModel(responses=['Because.'], rate_limiter=rate_limiter)",
        "print(model.invoke('why?').content, sync_limiter.stats().decisions)",
        "Because. 1\n",
    ),
}


def sections() -> dict[str, list[Block]]:
    """The programs of each section, by its heading: that of the other library, then ours."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    found: dict[str, list[Block]] = {}
    for block in blocks(PAGE):
        if block.language == "python":
            heading = next(line for line in reversed(lines[: block.line]) if line.startswith("## "))
            found.setdefault(heading.removeprefix("## "), []).append(block)
    return found


@pytest.mark.parametrize("section", FRAMES)
def test_our_program_works_in_the_framework(section: str, environment: dict[str, str], tmp_path: Path) -> None:
    """The last request is refused by the limit that the page names, made one of a day so that nothing refills."""
    frame = FRAMES[section]
    need(*frame.packages)
    ours = sections()[section][1]
    text = ours.text.replace(".per_minute(", ".per_day(")
    (tmp_path / "program.py").write_text(f"{frame.before}\n{text}\n{frame.after}\n", encoding="utf-8")
    command = [sys.executable, "-W", "ignore", "program.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{PAGE.name}:{ours.line} failed:\n{done.stderr}"
    assert done.stdout == frame.printed


def test_every_program_of_ours_is_run() -> None:
    """Those of the other sections are marked as runnable."""
    for section, (_, ours) in sections().items():
        assert (section in FRAMES) != (ours.mark == "runnable"), section
