"""Translates errors of CloudFormation's client into the limiter's errors, which say what is missing and what to do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..aws.errors import error_code, translate
from ..exceptions import ConfigurationError, LimiterError, PermissionDenied, RateLimiterUnavailable

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_THROTTLED = frozenset({"Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_UNKNOWN = frozenset(
    {
        "AuthFailure",
        "IncompleteSignature",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_ACTION = re.compile(r"not authorized to perform:? ([\w-]+:\w+)")
_BUSY = re.compile(r"is in [A-Z_]+ state|while in status \[?[A-Z_]+")


class Missing(LimiterError):
    """The stack or table does not exist. Internal: callers handle it."""


class Conflict(LimiterError):
    """Another operation changed the stack in the meantime; it has to be read again."""


class Unchanged(LimiterError):
    """There is nothing to change. CloudFormation reports this by a failed change set, some engines by an error."""


def is_unchanged(error: Exception) -> bool:
    """Tell whether the error says that there is nothing to change."""
    return _answered(error, "ValidationError", "No updates are to be performed")


def is_missing(error: Exception) -> bool:
    """Tell whether the error says that the stack or the table does not exist."""
    return _answered(error, "ValidationError", "does not exist") or _answered(error, "ResourceNotFoundException", "")


def is_conflict(error: Exception) -> bool:
    """Tell whether the error says that another operation is changing the stack, or has changed it since it was read."""
    if _answered(error, "ChangeSetNotFound", "") or _answered(error, "InvalidChangeSetStatus", ""):
        return True
    return hasattr(error, "response") and bool(_BUSY.search(_message(error)))


def explain(error: Exception, action: str, stack: str, region: str | None) -> LimiterError:
    """Return the limiter's error for an error of `action`, such as cloudformation:DescribeStacks."""
    from botocore import exceptions as boto

    where = f"in {region}" if region else "in this region"
    if isinstance(error, boto.ClientError):
        return _explain_answer(error, action, stack, where)
    if isinstance(error, boto.ConnectTimeoutError | boto.EndpointConnectionError | boto.ProxyConnectionError):
        message = f"{action} {where} could not connect; check the region's name, the network and any endpoint: {error}"
        return RateLimiterUnavailable(message, unsent=True)
    if isinstance(error, boto.HTTPClientError | OSError):
        return RateLimiterUnavailable(f"{action} {where} got no response: {error}", unsent=False)
    return translate(error, stack, action)


def _explain_answer(error: ClientError, action: str, stack: str, where: str) -> LimiterError:
    code, message = error_code(error), _message(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _THROTTLED:
        return RateLimiterUnavailable(f"{action} was throttled: {message}", unsent=True)
    if code in _EXPIRED:
        return PermissionDenied(
            "the AWS credentials have expired; renew them and run the same command again. AWS continues a running operation"
        )
    if code in _UNKNOWN:
        return ConfigurationError(f"AWS does not accept these credentials {where} ({code}); check AWS_PROFILE and the region")
    if code.startswith("AccessDenied") or code == "UnauthorizedOperation":
        found = _ACTION.search(message)
        missing = found[1] if found else action
        return PermissionDenied(f"these credentials lack {missing}, which {action} on stack {stack!r} {where} needs: {message}")
    if status >= 500:
        return RateLimiterUnavailable(f"{action} failed at AWS: {code} {status}: {message}", unsent=False)
    return LimiterError(f"{action} on stack {stack!r} {where} was refused: {code}: {message}")


def _answered(error: Exception, code: str, text: str) -> bool:
    return hasattr(error, "response") and _code(error) == code and text in _message(error)


def _code(error: Exception) -> str:
    return str(getattr(error, "response", {}).get("Error", {}).get("Code", ""))


def _message(error: Exception) -> str:
    return str(getattr(error, "response", {}).get("Error", {}).get("Message", ""))
