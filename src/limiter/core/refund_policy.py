"""Which errors of a block refund what its lease holds: the values of `refund_on_error`."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import TypeGuard

from ..exceptions import ValidationError
from .validation import shown

RefundOnError = bool | type[BaseException] | tuple[type[BaseException], ...] | Callable[[BaseException], object]


def check_refund_policy(policy: object) -> RefundOnError:
    """Return `policy` if it is a bool, an exception type, a tuple of those, or a plain function of the exception."""
    if isinstance(policy, bool) or _is_exception_type(policy):
        return policy
    if isinstance(policy, tuple):
        if all(_is_exception_type(each) for each in policy):
            return policy
    elif callable(policy) and not isinstance(policy, type) and not iscoroutinefunction(policy):
        return policy
    raise ValidationError(
        "refund_on_error must be True, False, an exception type, a tuple of exception types or a plain function of the "
        f"exception, not {shown(policy)}"
    )


def refunds(policy: RefundOnError, error: BaseException) -> bool:
    """Tell whether a block that raised `error` refunds what its lease holds."""
    if isinstance(policy, bool):
        return policy
    if isinstance(policy, type | tuple):
        return isinstance(error, policy)
    return bool(policy(error))


def _is_exception_type(value: object) -> TypeGuard[type[BaseException]]:
    return isinstance(value, type) and issubclass(value, BaseException)
