"""The documentation's programs do what it says, word by word."""

from __future__ import annotations

import ast
import http.client
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.doc_blocks import PAGES, ROOT, Block, blocks

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT = 60.0
RUNNABLE = [page for page in PAGES if any(block.mark == "runnable" for block in blocks(page))]


def page_name(page: Path) -> str:
    """A page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def run(block: Block, page: Path, directory: Path, environment: dict[str, str]) -> str:
    """Run a block as a program of its own; what it prints."""
    program = directory / (block.name or f"line_{block.line}.py")
    program.write_text(block.text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, program.name],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, f"{page_name(page)}:{block.line} failed:\n{done.stdout}{done.stderr}"
    assert "Unclosed" not in done.stderr, f"{page_name(page)}:{block.line} leaves a client open:\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("page", RUNNABLE, ids=page_name)
def test_every_program_of_a_page_runs_and_prints_what_the_page_says(
    page: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """The programs of a page run in order, on one table with those of all other pages: none meets another in a bucket."""
    printed: str | None = None
    for block in blocks(page):
        if block.mark == "runnable":
            printed = run(block, page, tmp_path, environment)
        elif block.mark == "output":
            assert printed == block.text, f"{page_name(page)}:{block.line} does not show what the program before it prints"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_python_block_is_python(page: Path) -> None:
    """Blocks that are not run are at least valid; `await` and `return` may stand at their top."""
    for block in blocks(page):
        if block.language == "python":
            flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST
            compile(block.text, f"{page_name(page)}:{block.line}", "exec", flags)


def test_the_tests_on_the_page_about_testing_pass(tmp_path: Path) -> None:
    """They need no table but their own."""
    shown = [block for block in blocks(ROOT / "docs" / "testing.md") if block.name is not None]
    for block in shown:
        (tmp_path / str(block.name)).write_text(block.text, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-q", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{sum(block.text.count('def test_') for block in shown)} passed" in done.stdout


def test_every_mark_is_found() -> None:
    """A page whose marks are mistyped would run nothing and pass."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        marks = [block for block in blocks(page) if block.mark is not None]
        assert text.count("<!-- runnable") + text.count("<!-- output") == len(marks), page_name(page)
    assert page_name(ROOT / "README.md") in [page_name(page) for page in RUNNABLE]


def test_the_wsgi_application_of_the_readme_refuses_the_sixth_request(tmp_path: Path, environment: dict[str, str]) -> None:
    """Two gunicorn gevent workers admit five requests between them and answer 429 with Retry-After to the others."""
    block = next(block for block in blocks(ROOT / "README.md") if block.name == "app.py")
    (tmp_path / "app.py").write_text(block.text, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, fd = listener.getsockname()[1], listener.fileno()
        options = ["-k", "gevent", "-w", "2", "--bind", f"fd://{fd}", "--graceful-timeout", "2"]
        command = [sys.executable, "-m", "gunicorn", *options, "app:application"]
        gunicorn = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            pass_fds=[fd],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        answers = [get(port) for _ in range(7)]
    finally:
        gunicorn.terminate()
        try:
            gunicorn.wait(20)
        finally:
            if gunicorn.poll() is None:
                os.killpg(gunicorn.pid, signal.SIGKILL)
                gunicorn.wait()
    assert [status for status, _ in answers] == [200] * 5 + [429] * 2
    assert all(retry_after is not None and 1 <= int(retry_after) <= 12 for _, retry_after in answers[5:])


def get(port: int) -> tuple[int, str | None]:
    """The status and the Retry-After of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/")
        response = connection.getresponse()
        response.read()
        return response.status, response.headers.get("Retry-After")
    finally:
        connection.close()
