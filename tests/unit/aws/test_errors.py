"""What errors of the AWS libraries mean."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from botocore import exceptions as boto
from botocore.parsers import create_parser
from botocore.session import Session

from limiter import (
    ConfigurationError,
    LimiterError,
    PermissionDenied,
    RateLimiterUnavailable,
    StackNotFound,
    Throttled,
)
from limiter.aws.errors import OPENING, is_decided_by_condition, translate
from limiter.aws.responses import check_whole


def answered(code: str, status: int = 400, action: str = "UpdateItem") -> boto.ClientError:
    """An error response of AWS."""
    return boto.ClientError({"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}, action)


@pytest.mark.parametrize(
    ("error", "meaning", "unsent"),
    [
        (boto.ReadTimeoutError(endpoint_url="http://x"), RateLimiterUnavailable, False),
        (boto.ConnectionClosedError(endpoint_url="http://x"), RateLimiterUnavailable, False),
        (boto.ConnectTimeoutError(endpoint_url="http://x"), RateLimiterUnavailable, True),
        (boto.EndpointConnectionError(endpoint_url="http://x"), RateLimiterUnavailable, True),
        (boto.SSLError(endpoint_url="https://x", error="WRONG_VERSION_NUMBER"), RateLimiterUnavailable, True),
        (boto.SSLError(endpoint_url="https://x", error="CERTIFICATE_VERIFY_FAILED"), RateLimiterUnavailable, False),
        (answered("ThrottlingException"), Throttled, True),
        (answered("ProvisionedThroughputExceededException"), Throttled, True),
        (answered("ExpiredTokenException"), RateLimiterUnavailable, True),
        (boto.CredentialRetrievalError(provider="sso", error_msg="timed out"), RateLimiterUnavailable, True),
        (boto.TokenRetrievalError(provider="sso", error_msg="timed out"), RateLimiterUnavailable, True),
        (boto.MetadataRetrievalError(error_msg="timed out"), RateLimiterUnavailable, True),
        (boto.UnauthorizedSSOTokenError(), RateLimiterUnavailable, True),
        (RuntimeError("the refreshed credentials are still expired."), RateLimiterUnavailable, True),
        (RuntimeError("a bug"), LimiterError, None),
        (answered("InternalServerError", 500), RateLimiterUnavailable, False),
        (answered("ReplicatedWriteConflictException"), Throttled, True),
        (answered("ReplicatedWriteConflictException", 500), Throttled, True),
        (answered("TransactionConflictException"), Throttled, True),
        (answered("400"), RateLimiterUnavailable, False),
        (answered("ResourceNotFoundException"), StackNotFound, None),
        (answered("AccessDeniedException"), PermissionDenied, None),
        (answered("ValidationException"), LimiterError, None),
        (boto.NoCredentialsError(), ConfigurationError, None),
        (boto.NoRegionError(), ConfigurationError, None),
        (boto.ProfileNotFound(profile="unknown"), ConfigurationError, None),
        (AttributeError("a bug"), LimiterError, None),
    ],
    ids=lambda value: getattr(value, "__name__", None) or type(value).__name__,
)
def test_an_error_says_what_it_means_and_whether_it_had_an_effect(
    error: Exception, meaning: type[LimiterError], unsent: bool | None
) -> None:
    """Outages, programming errors and missing settings differ, and so do lost responses and requests that were never sent."""
    translated = translate(error, "my-app", "UpdateItem")
    assert type(translated) is meaning
    assert getattr(translated, "unsent", None) == unsent


@pytest.mark.parametrize(
    ("code", "name", "reasons", "hot"),
    [
        ("ProvisionedThroughputExceededException", "ThrottlingReasons", ["TableWriteKeyRangeThroughputExceeded"], True),
        ("ProvisionedThroughputExceededException", "ThrottlingReasons", ["TableWriteProvisionedThroughputExceeded"], False),
        ("ThrottlingException", "throttlingReasons", ["TableWriteKeyRangeThroughputExceeded"], True),
        ("ThrottlingException", "throttlingReasons", ["TableWriteAccountLimitExceeded"], False),
        ("ThrottlingException", "throttlingReasons", ["TableWriteKeyRangeThroughputExceeded", "IndexWrite..."], False),
        ("ProvisionedThroughputExceededException", "ThrottlingReasons", [], True),
        ("RequestLimitExceeded", "ThrottlingReasons", [], False),
    ],
)
def test_a_hot_key_is_told_apart(code: str, name: str, reasons: list[str], hot: bool) -> None:
    """DynamoDB gives the reasons; two of its errors spell them differently, as botocore's model does."""
    error = answered(code)
    response: dict[str, Any] = error.response  # type: ignore[assignment] # what botocore parses, more than it types
    response[name] = [{"reason": reason} for reason in reasons]
    translated = translate(error, "my-app", "UpdateItem")
    assert isinstance(translated, Throttled)
    assert translated.hot_key is hot
    members = Session().get_service_model("dynamodb").shape_for(code).members
    assert name in members


@pytest.mark.parametrize("reasons", [[{"reason": 5}], [{"reason": None}], [{}], [5], 5, "no", {"reason": "x"}], ids=str)
@pytest.mark.parametrize("name", ["ThrottlingReasons", "throttlingReasons"])
def test_reasons_that_make_no_sense_are_throttling_still(name: str, reasons: Any) -> None:
    """For any reasons, the table has throttled."""
    error = answered("ThrottlingException")
    response: dict[str, Any] = error.response  # type: ignore[assignment] # what botocore parses, more than it types
    response[name] = reasons
    assert type(translate(error, "my-app", "UpdateItem")) is Throttled


PARSED = [b"null", b"[]", b"5", b'"Service Unavailable"', b'{"__type": 7}', b'{"__type": []}', b'{"Attributes": 5}']


@pytest.mark.parametrize("status", [200, 400, 500, 502, 503])
@pytest.mark.parametrize("body", PARSED, ids=str)
def test_what_botocore_cannot_parse_is_an_outage(body: bytes, status: int) -> None:
    """Botocore expects an object as the document; its error on another one does not tell whether the request had an effect."""
    shape = Session().get_service_model("dynamodb").operation_model("UpdateItem").output_shape
    try:
        create_parser("json").parse({"body": body, "headers": {}, "status_code": status}, shape)
    except (AttributeError, TypeError) as error:
        translated = translate(error, "my-app", "UpdateItem")
        assert type(translated) is RateLimiterUnavailable
        assert not translated.unsent


def test_a_client_that_cannot_be_opened_is_no_outage() -> None:
    """An endpoint without a scheme is named with the remedy; text before an @ is not shown, not even by the cause."""
    error = ValueError("Invalid endpoint: me:secret@localhost:8000")
    translated = translate(error, "my-app", OPENING)
    assert type(translated) is ConfigurationError
    assert "localhost:8000" in str(translated)
    assert "http://" in str(translated)
    assert "secret" not in f"{translated} {error!r}"


def test_a_missing_table_is_missing_from_a_place() -> None:
    """The region and endpoint of the client are named, so that a wrong one is recognised."""
    meta = SimpleNamespace(region_name="eu-west-7", endpoint_url="https://dynamodb.eu-west-7.amazonaws.com")
    message = str(translate(answered("ResourceNotFoundException"), "my-app", "GetItem", meta))
    assert "region eu-west-7 at https://dynamodb.eu-west-7.amazonaws.com" in message
    assert "this account and region" in str(translate(answered("ResourceNotFoundException"), "my-app", "GetItem"))


@pytest.mark.parametrize(
    ("endpoint", "own"),
    [
        ("http://localhost:8000/", True),
        ("http://127.0.0.1:8000", True),
        ("http://[::1]:8000/", True),
        ("https://localhost.a/", False),
    ],
)
def test_an_endpoint_that_refuses_is_named_once(endpoint: str, own: bool) -> None:
    """An endpoint on this machine that refuses connections is named once, with a question whether anything runs there."""
    message = str(translate(boto.EndpointConnectionError(endpoint_url=endpoint), "my-app", "GetItem"))
    assert message.count("onnect") == 1
    assert message.count(endpoint) == 1
    assert ("AWS_ENDPOINT_URL_DYNAMODB" in message) is own


def test_a_missing_profile_is_named_with_the_remedy() -> None:
    """The message says where the name comes from."""
    message = str(translate(boto.ProfileNotFound(profile="unknown"), "my-app", OPENING))
    assert "unknown" in message
    assert "AWS_PROFILE" in message


def test_only_answers_are_decided_by_a_condition() -> None:
    """Connection errors carry a response as well, which is None."""
    assert is_decided_by_condition(answered("ConditionalCheckFailedException"))
    assert is_decided_by_condition(answered("ConditionalCheckFailedException", action="PutItem"))
    assert not is_decided_by_condition(answered("ConditionalCheckFailedException", action="BatchWriteItem"))
    assert not is_decided_by_condition(answered("ValidationException"))
    assert not is_decided_by_condition(boto.ReadTimeoutError(endpoint_url="http://x"))


@pytest.mark.parametrize(
    ("answer", "whole"),
    [
        ({"Item": {}, "ResponseMetadata": {"HTTPHeaders": {}}}, True),
        ({"ResponseMetadata": {"HTTPHeaders": {"content-length": "2"}}}, True),
        ({"ResponseMetadata": {"HTTPHeaders": {"transfer-encoding": "chunked"}}}, True),
        ({"ResponseMetadata": {"HTTPHeaders": {"x-amz-crc32": "2745614147"}}}, True),
        ({}, True),
        ({"ResponseMetadata": {"HTTPHeaders": {}}}, False),
        ({"ResponseMetadata": {"HTTPHeaders": {"x-amz-crc32": "1"}}}, False),
        ({"ResponseMetadata": {"HTTPHeaders": {"content-length": ""}}}, False),
    ],
)
def test_an_answer_without_a_body_is_none(answer: dict[str, Any], whole: bool) -> None:
    """Only complete headers prove that there is no item; without headers the response may come from something else."""
    if whole:
        check_whole(answer, "my-app", "GetItem")
    else:
        with pytest.raises(RateLimiterUnavailable, match="a truncated response") as error:
            check_whole(answer, "my-app", "GetItem")
        assert not error.value.unsent
