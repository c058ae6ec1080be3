"""What a call requests of which bucket."""

from __future__ import annotations

import pytest

from limiter import Limit, ValidationError
from limiter.core.chain import Bucket, requests
from limiter.core.records import BucketKey
from limiter.core.request import Charge, Request

TOKENS, REQUESTS = Limit.per_minute("tokens", 1_000), Limit.per_minute("requests", 10)
OWN, PARENT = BucketKey("default", "user", "api"), BucketKey("default", "team", "api")
CHAIN = (Bucket(OWN, (TOKENS, REQUESTS)), Bucket(PARENT, (TOKENS,)))


def test_one_of_every_limit_when_nothing_is_said() -> None:
    """Without amounts, a call requests 1 of every limit of every bucket."""
    assert requests(CHAIN, None) == (
        Request(OWN, (Charge(TOKENS, 1), Charge(REQUESTS, 1))),
        Request(PARENT, (Charge(TOKENS, 1),)),
    )


def test_only_what_is_named() -> None:
    """A limit that is not named is not consulted, and a bucket without a named limit is left out."""
    assert requests(CHAIN, {"requests": 3}) == (Request(OWN, (Charge(REQUESTS, 3),)),)
    assert requests(CHAIN, {"tokens": 5}) == (Request(OWN, (Charge(TOKENS, 5),)), Request(PARENT, (Charge(TOKENS, 5),)))


def test_zero_is_asked_for() -> None:
    """An amount of zero is a request, unlike no amount."""
    assert requests(CHAIN, {"requests": 0}) == (Request(OWN, (Charge(REQUESTS, 0),)),)
    assert requests(CHAIN, {}) == ()


def test_a_name_is_enough_known_in_one_bucket() -> None:
    """A limit that only an ancestor has may be named."""
    chain = (Bucket(OWN, (REQUESTS,)), Bucket(PARENT, (TOKENS,)))
    assert requests(chain, {"tokens": 2}) == (Request(PARENT, (Charge(TOKENS, 2),)),)


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    """A name that no bucket has is an error that lists the known names."""
    with pytest.raises(ValidationError, match=r"'token'.*requests, tokens"):
        requests(CHAIN, {"requests": 1, "token": 1})


def test_nothing_that_limits() -> None:
    """A chain without any limit is an error that says where to set one; a bucket without limits beside others is not."""
    with pytest.raises(ValidationError, match=r"'user'.*'api'.*set_limits"):
        requests((Bucket(OWN, ()), Bucket(PARENT, ())), None)
    assert requests((Bucket(OWN, ()), Bucket(PARENT, (TOKENS,))), None) == (Request(PARENT, (Charge(TOKENS, 1),)),)
