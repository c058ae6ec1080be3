"""A test that lacks something is skipped on a user's machine, and fails in CI unless the absence is excused."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import presence

OUTCOMES = {
    ("", ""): "skipped",
    ("true", ""): "failed",
    ("true", "dynoxide"): "failed",
    ("true", "dynoxide,no_such_package"): "skipped",
    ("true", "no-such-program"): "failed",
}


def outcome(of: object, *arguments: str) -> str:
    """What a requirement does to a test."""
    assert callable(of)
    with pytest.raises(BaseException) as raised:  # noqa: PT011 - outcomes are no exceptions
        of(*arguments)
    return {pytest.skip.Exception: "skipped", pytest.fail.Exception: "failed"}[raised.type]


@pytest.mark.parametrize(("ci", "excused"), OUTCOMES)
def test_an_absent_package_fails_in_ci_unless_excused(monkeypatch: pytest.MonkeyPatch, ci: str, excused: str) -> None:
    """Also one below a package that is absent, and one that is imported."""
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("LIMITER_ENGINES_ABSENT", excused)
    assert outcome(presence.need, "pytest", "no_such_package") == OUTCOMES[ci, excused]
    assert outcome(presence.needed, "no_such_package") == OUTCOMES[ci, excused]
    assert outcome(presence.need, "no_such_package.part") == ("failed" if ci else "skipped")


def test_an_absent_program_is_excused_by_its_name_or_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """`redis` excuses redis-server."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("LIMITER_ENGINES_ABSENT", "some,no-such-program")
    assert outcome(presence.program, "no-such-program", "install it") == "skipped"
    assert outcome(presence.program, "no-such-other", "install it") == "failed"
    assert outcome(presence.program, "no-such-other", "install it", "some") == "skipped"


def test_what_is_present_is_handed_over() -> None:
    """Nothing is skipped for what is there."""
    presence.need("pytest", "limiter.aws")
    assert presence.needed("pytest") is pytest
    assert Path(presence.program("sh", "install it")).name == "sh"


def test_what_has_an_environment_of_its_own_is_skipped_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In CI too, because `make test` runs it there; in that environment its absence is a failure."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.delenv("LIMITER_ENGINES_ABSENT", raising=False)
    monkeypatch.setattr(presence, "installed", lambda package: False)
    assert outcome(presence.need, "arq") == "skipped"
    monkeypatch.setattr(presence, "installed", lambda package: package == presence.PINNED)
    assert outcome(presence.need, "arq") == "failed"
