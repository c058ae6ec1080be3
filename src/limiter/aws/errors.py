"""Turns errors of the AWS libraries into the limiter's own: what they mean, whether the call had an effect, what to do."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from ..core.visible import visible
from ..exceptions import (
    ConfigurationError,
    LimiterError,
    PermissionDenied,
    RateLimiterUnavailable,
    StackNotFound,
    Throttled,
    ValidationError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.exceptions import BotoCoreError, ClientError

CONDITION_FAILED = "ConditionalCheckFailedException"
OPENING = "opening a client"
"""The action before all others, which says nothing about the table."""
_CONDITIONAL = frozenset({"DeleteItem", "PutItem", "UpdateItem"})
_ADDRESS = re.compile(r"//[^/\s@]*@")
_USER = re.compile(r"\S*@")
_LOOPBACK = re.compile(r"https?://(?:[^/@]*@)?(localhost|127\.[\d.]+|\[::1\])(:|/|$)")
_PLAIN_HTTP = re.compile("(?i)wrong.version.number|record.layer.failure|packet.length.too.long")
"""OpenSSL's reasons for a server that responds to a TLS handshake with something else."""
_PARSING = frozenset({"botocore.endpoint", "botocore.model", "botocore.parsers"})
_SIGNED = re.compile(
    r"(?i)the canonical string|canonical request|string-to-sign|x-amz-security-token|authorization[=:]|credential="
)
_THROTTLED = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
        "LimitExceededException",
    }
)
_CONFLICTS = frozenset({"ReplicatedWriteConflictException", "TransactionConflictException"})
"""Codes of a conflict with another write to the same item, here or in another Region; this write certainly had no effect."""
_TOO_LARGE = re.compile("(?i)item size")
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "SignatureDoesNotMatch",
        "IncompleteSignature",
        "MissingAuthenticationToken",
        "AuthFailure",
    }
)


def error_code(error: ClientError) -> str:
    """Return the code of an error that AWS, or a server in its place, responded with."""
    return cleaned(error.response.get("Error", {}).get("Code", "Unknown"), 100)


def cleaned(text: object, most: int = 500) -> str:
    """Return foreign text as a message can hold it: cut, and without what a signature or an address may reveal.

    AWS repeats the whole request, with the session's token, when a signature does not match.
    """
    found = visible(_ADDRESS.sub("//…@", str(text)))
    if (secret := _SIGNED.search(found)) is not None:
        found = f"{found[: secret.start()].rstrip()} …"
    return found if len(found) <= most else f"{found[:most]}… ({len(found)} characters)"


def is_decided_by_condition(error: Any) -> bool:
    """Tell whether a write was not made because of its condition."""
    # Connection errors have a response too, which is None.
    conditional = getattr(error, "operation_name", "") in _CONDITIONAL and bool(getattr(error, "response", None))
    return conditional and error_code(error) == CONDITION_FAILED


def no_item_returned(table: str) -> ConfigurationError:
    """Return the error for an engine that does not return the item that failed a condition."""
    return ConfigurationError(
        f"the engine of table {table!r} returns no item when a condition fails (ReturnValuesOnConditionCheckFailure), "
        "which every decision relies on: use DynamoDB, DynamoDB Local 2.2 or newer, or `limiter local`"
    )


def is_of_table(error: Any, action: str) -> bool:
    """Tell whether an error is a response to `action` in DynamoDB's form. Another server's page has no code but its status."""
    answered = getattr(error, "operation_name", "") == action and bool(getattr(error, "response", None))
    return answered and error_code(error) not in ("", "Unknown") and not error_code(error).isdecimal()


def translate(error: Exception, table: str, action: str, meta: Any = None) -> LimiterError:
    """Return the limiter's error for `error`, which `action` on `table` raised; the caller raises it from `error`.

    `meta` is that of the client, which knows the region and the endpoint.
    """
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    if isinstance(error, LimiterError):
        return error
    if isinstance(error, boto.ClientError):
        _clean(error)
        return _answered(error, table, action, _place(meta))
    if isinstance(error, boto.BotoCoreError):
        error.args = tuple(cleaned(each) for each in error.args)
    unsent = _unsent(error, table, action)
    if unsent is not None:
        return unsent
    if isinstance(error, boto.HTTPClientError | OSError):
        return RateLimiterUnavailable(f"{action} on table {table!r} got no response: {cleaned(error)}", unsent=False)
    if isinstance(error, boto.BotoCoreError):
        return ConfigurationError(f"{action} on table {table!r} could not be sent: {cleaned(error)}")
    if action == OPENING and isinstance(error, ValueError):
        error.args = (_USER.sub("…@", cleaned(error)),)
        return ConfigurationError(
            f"no client for table {table!r} can be opened: {error}: "
            "an endpoint begins with http:// or https://; check endpoint_url= and AWS_ENDPOINT_URL_DYNAMODB"
        )
    if _is_of_moto(error):
        return ConfigurationError(
            f"{action} on table {table!r} got a response of moto's mock_aws, which the async version cannot await: "
            "use SyncRepository within mock_aws, or limiter.testing.LocalEngine, which is a server"
        )
    if isinstance(error, ResponseParserError | ValueError | RecursionError) or _is_of_parsing(error):
        # The response came from another server, such as a proxy. The effect of the request is unknown.
        return RateLimiterUnavailable(f"{action} on table {table!r} got an unexpected response: {cleaned(repr(error))}")
    return LimiterError(f"{action} on table {table!r} failed: {cleaned(repr(error))}")


def _unsent(error: Exception, table: str, action: str) -> LimiterError | None:
    """Return the error if the request was certainly not sent."""
    from botocore import exceptions as boto

    if isinstance(error, boto.NoRegionError):
        return ConfigurationError("no AWS region is configured: pass region=, or set AWS_DEFAULT_REGION")
    if isinstance(error, boto.NoCredentialsError | boto.PartialCredentialsError):
        return ConfigurationError(
            f"{cleaned(error)}: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or attach a role"
        )
    if isinstance(error, boto.ProfileNotFound):
        return ConfigurationError(f"{cleaned(error)}: check AWS_PROFILE or profile=, and the names in ~/.aws/config")
    if isinstance(error, boto.ConnectTimeoutError | boto.EndpointConnectionError | boto.ProxyConnectionError):
        return RateLimiterUnavailable(f"{action} on table {table!r} could not connect to {_unreached(error)}", unsent=True)
    if isinstance(error, boto.SSLError) and _PLAIN_HTTP.search(str(error)) is not None:
        return RateLimiterUnavailable(
            f"{action} on table {table!r} could not connect: the server does not speak TLS on this port; if it is a local "
            f"engine, endpoint_url= or AWS_ENDPOINT_URL_DYNAMODB must begin with http://: {cleaned(error)}",
            unsent=True,
        )
    if _says_that_credentials_cannot_be_renewed(error):
        return RateLimiterUnavailable(f"the AWS credentials could not be renewed: {cleaned(error)}", unsent=True)
    return None


def _unreached(error: BotoCoreError) -> str:
    """Return the endpoint or proxy that accepts no connections, with a hint if it is on this machine."""
    address = cleaned(error.kwargs.get("endpoint_url") or error.kwargs.get("proxy_url") or error)
    if _LOOPBACK.match(address) is None:
        return address
    return f"{address}: is an engine running there? check endpoint_url= and AWS_ENDPOINT_URL_DYNAMODB"


def _place(meta: Any) -> str:
    """Return where a client looks for its tables, as far as that is known."""
    region, endpoint = getattr(meta, "region_name", None), getattr(meta, "endpoint_url", None)
    if not region or not endpoint:
        return "in this account and region"
    return f"in region {region} at {cleaned(endpoint)}, in the account of these credentials"


def _is_of_parsing(error: Exception) -> bool:
    """Tell whether botocore failed to parse a response of another form than it expects."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    module = "" if frame is None else frame.tb_frame.f_globals.get("__name__", "")
    return isinstance(error, AttributeError | TypeError | LookupError) and module.removeprefix("aio") in _PARSING


def _is_of_moto(error: Exception) -> bool:
    """Tell whether aiobotocore tried to await the bytes that moto's `mock_aws` returned."""
    texts = "can't be used in 'await' expression", "can't be awaited"  # the second since Python 3.14
    return isinstance(error, TypeError) and str(error).endswith(texts) and "moto" in sys.modules


def _says_that_credentials_cannot_be_renewed(error: Exception) -> bool:
    from botocore import exceptions as boto

    retrieval = boto.CredentialRetrievalError | boto.TokenRetrievalError | boto.MetadataRetrievalError
    # If renewed credentials are expired themselves, as on a machine without its metadata service, botocore has no error class.
    return isinstance(error, retrieval | boto.UnauthorizedSSOTokenError) or (
        type(error) is RuntimeError and "expired" in str(error)
    )


def _clean(error: ClientError) -> None:
    """Remove what an error may reveal, because it becomes the cause of the limiter's error."""
    error.args = tuple(cleaned(each) for each in error.args)
    answered = error.response.get("Error", {})
    answered["Message"] = cleaned(answered.get("Message", ""))


def _answered(error: ClientError, table: str, action: str, place: str) -> LimiterError:
    code = error_code(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    message = cleaned(error.response.get("Error", {}).get("Message", ""))
    if code == "ResourceNotFoundException":
        name = table.rpartition("/")[2]  # The name in an ARN too.
        return StackNotFound(
            f"table {table!r} does not exist {place}: if that is the right place, deploy it with `limiter deploy {name}`, "
            f"or on a local engine with limiter.testing.create_table({name!r}, endpoint_url=...)"
        )
    if code in _THROTTLED:
        return Throttled(f"{action} on table {table!r} was throttled: {code}: {message}", hot_key=_is_hot_key(error))
    if code in _CONFLICTS:
        # As for a hot key: it concerns only this item, and another attempt may succeed.
        return Throttled(
            f"{action} on table {table!r} conflicted with another write to the same item: {code}: {message}", hot_key=True
        )
    if _TOO_LARGE.search(message):
        return ValidationError(
            f"{action} on table {table!r} would make an item larger than 400 KB, the most that DynamoDB stores: "
            "store less metadata, or fewer limits"
        )
    if code in _EXPIRED:
        return RateLimiterUnavailable(f"the AWS credentials have expired; renew them: {message}", unsent=True)
    if code in _DENIED:
        return PermissionDenied(f"AWS denied dynamodb:{action} on table {table!r} ({code}): {message}")
    # A response without a body has no code but its status: the connection broke before it.
    if status >= 500 or code.isdecimal():
        return RateLimiterUnavailable(f"{action} on table {table!r} failed at AWS: {code} {status}: {message}", unsent=False)
    return LimiterError(f"{action} on table {table!r} was refused: {code}: {message}")


def _is_hot_key(error: ClientError) -> bool:
    """Tell whether one key alone is throttled; DynamoDB says so in `ThrottlingReasons`, which older botocore does not parse.

    Without reasons it is taken for a hot key where it comes from the table itself: an on-demand table has no other bound of its
    own until an account's quota is reached.
    """
    response: Mapping[str, Any] = error.response
    # A ThrottlingException spells it with a small letter, the other errors with a capital.
    given = response.get("ThrottlingReasons") or response.get("throttlingReasons")
    listed = given if isinstance(given, list) else []
    reasons = [str(each.get("reason", "")) for each in listed if isinstance(each, dict)]
    if reasons:
        return all("KeyRangeThroughputExceeded" in reason for reason in reasons)
    return error_code(error) in ("ProvisionedThroughputExceededException", "ThrottlingException")
