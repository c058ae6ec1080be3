"""What bad input gets: a typed error that names the value and the remedy, before any call; nothing is consumed."""

from __future__ import annotations

import math
import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limiter import (
    Limit,
    NeverSatisfiable,
    RateLimiterUnavailable,
    StackNotFound,
    SyncMemoryRepository,
    SyncRateLimiter,
    SyncRepository,
    ValidationError,
)
from limiter.core.limits import check_limits
from limiter.core.validation import (
    check_amounts,
    check_integer,
    check_name,
    check_share,
    check_table,
    check_table_region,
    check_timeout,
)
from limiter.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.engines import Engine, FakeClock

LIMITS = [Limit.per_second("requests", 10), Limit.per_second("tokens", 1_000)]
HUGE = 10**5_000

BAD_NAMES = ["", "a" * 256, "a\nb", "\x00", "a\x7f", "a\x85", "\ud800", None, 5, b"user", ["user"]]
BAD_AMOUNTS = [
    ({"requests": -1}, "-1"),
    ({"requests": 1.0}, "1.0"),
    ({"requests": True}, "True"),
    ({"requests": "1"}, "'1'"),
    ({"requests": None}, "None"),
    ({"requests": 10**12 + 1}, "1000000000001"),
    ({"requests": HUGE}, "bits"),
    ({"requests": math.nan}, "nan"),
    ({"request": 1}, "'request'"),
    ({"requests": 1, "token": 1}, "requests, tokens"),
    ({"": 1}, "''"),
    ({"a#b": 1}, "'a#b'"),
    ({5: 1}, "5"),
    ([("requests", 1)], "mapping"),
    ("requests", "mapping"),
    (1, "mapping"),
]
BAD_LIMITS = [
    ([LIMITS[0], LIMITS[0]], "twice"),
    ([LIMITS[0], Limit.per_day("requests", 5)], "twice"),
    (LIMITS[0], "wrap"),
    ("10/second", "list of Limit"),
    (["10/second"], "Limit.parse"),
    ([None], "Limit.parse"),
    (5, "list of Limit"),
]


class Untouched:
    """A repository whose buckets must not be asked for."""

    def __init__(self, clock: FakeClock) -> None:
        self._inner = SyncMemoryRepository(clock=clock)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def read_bucket(self, key: object) -> None:
        pytest.fail(f"{key} was read")

    def write_bucket(self, key: object, update: object) -> None:
        pytest.fail(f"{key} was written")


@pytest.fixture
def limiter(clock: FakeClock) -> SyncRateLimiter:
    """A limiter whose store must not be asked."""
    return SyncRateLimiter(Untouched(clock), LIMITS)  # type: ignore[arg-type] # it has what is needed


CALLS: dict[str, Callable[..., Any]] = {
    "acquire": lambda limiter, *arguments, **named: limiter.acquire(*arguments, **named).__enter__(),
    "try_acquire": lambda limiter, *arguments, **named: limiter.try_acquire(*arguments, **named),
    "check": lambda limiter, *arguments, **named: limiter.check(*arguments, **named),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: ascii(name)[:12])
def test_bad_ids_are_refused(limiter: SyncRateLimiter, call: str, name: object) -> None:
    """An id that is empty, overlong, no text, or holds a control character is named in the error."""
    for place in ("entity_id", "resource"):
        with pytest.raises(ValidationError) as caught:
            CALLS[call](limiter, **{place: name})
        assert place in str(caught.value)
        assert ascii(name)[1:-1][:20] in ascii(str(caught.value)).replace("\\\\", "\\")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("amounts", "named"), BAD_AMOUNTS, ids=[named for _, named in BAD_AMOUNTS])
def test_bad_amounts_are_refused(limiter: SyncRateLimiter, call: str, amounts: object, named: str) -> None:
    """An amount that is no integer from 0 on, or of a limit that is not there, is named in the error."""
    with pytest.raises(ValidationError) as caught:
        CALLS[call](limiter, "user", "api", amounts)
    assert named in str(caught.value)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(("limits", "named"), BAD_LIMITS, ids=[str(place) for place in range(len(BAD_LIMITS))])
def test_bad_limits_are_refused(limiter: SyncRateLimiter, call: str, limits: object, named: str) -> None:
    """Limits that are none, or share a name, are refused with what to write instead."""
    with pytest.raises(ValidationError) as caught:
        CALLS[call](limiter, "user", "api", limits=limits)
    assert named in str(caught.value)


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan, math.inf, "5", True, 10**9, HUGE], ids=lambda value: repr(type(value)))
def test_bad_timeouts_are_refused(limiter: SyncRateLimiter, timeout: object) -> None:
    """A timeout is None or a number of seconds from 0 to a year."""
    for call in ("acquire", "try_acquire"):
        with pytest.raises(ValidationError, match="timeout"):
            CALLS[call](limiter, "user", "api", timeout=timeout)


@pytest.mark.parametrize("option", ["config_ttl", "denial_ttl", "linger", "decision_timeout"])
@pytest.mark.parametrize("value", [None, -1, "5"])
def test_bad_spans_are_refused(clock: FakeClock, option: str, value: Any) -> None:
    """What is a number of seconds is not None, and the message offers no None."""
    with pytest.raises(ValidationError, match=rf"^{option} must be a number of seconds from 0 to one year, not {value!r}$"):
        SyncRateLimiter(SyncMemoryRepository(clock=clock), LIMITS, **{option: value})


@pytest.mark.parametrize("value", [None, True, 0, -0.5, 1.001, "0.5", math.nan])
def test_bad_shares_are_refused(clock: FakeClock, value: Any) -> None:
    """The share of a process in an outage is a number above 0 and at most 1."""
    with pytest.raises(ValidationError, match=rf"^local_share must be a number above 0 and at most 1, not {value!r}$"):
        SyncRateLimiter(SyncMemoryRepository(clock=clock), LIMITS, local_share=value)
    assert [check_share("local_share", fine) for fine in (1, 0.001)] == [1.0, 0.001]


def test_bad_policies_are_refused(limiter: SyncRateLimiter, clock: FakeClock) -> None:
    """What to do without the table is one of three words."""
    with pytest.raises(ValidationError, match=r"block, allow, local.*'open'"):
        limiter.try_acquire("user", "api", on_unavailable="open")  # type: ignore[arg-type] # the point of the test
    with pytest.raises(ValidationError, match=r"block, allow, local.*'open'"):
        SyncRateLimiter(SyncMemoryRepository(clock=clock), LIMITS, on_unavailable="open")  # type: ignore[arg-type] # likewise


def test_limits_are_needed(clock: FakeClock) -> None:
    """A call that nothing limits is refused with where to put limits."""
    limiter = SyncRateLimiter(Untouched(clock))  # type: ignore[arg-type] # it has what is needed
    for call in CALLS.values():
        with pytest.raises(ValidationError, match=r"'user'.*'api'.*set_limits"):
            call(limiter, "user", "api")


@pytest.mark.parametrize("units", [11, 10**12])
def test_a_cost_above_capacity_is_refused_without_a_call(limiter: SyncRateLimiter, units: int) -> None:
    """What can never be satisfied is told at once, with no time to retry, from one unit above the capacity on."""
    amounts = {"requests": units, "tokens": 1}
    with pytest.raises(NeverSatisfiable) as caught:
        limiter.acquire("user", "api", amounts, timeout=60, limits=LIMITS).__enter__()
    assert caught.value.retry_after is None
    assert [status.requested for status in caught.value.violations] == [units]
    decision = limiter.try_acquire("user", "api", amounts, timeout=60, limits=LIMITS)
    assert (decision.allowed, decision.retry_after) == (False, None)


def test_bad_input_consumes_nothing(clock: FakeClock) -> None:
    """After any number of bad calls the bucket is as full as before, also in a lease's own calls."""
    limiter = SyncRateLimiter(SyncMemoryRepository(clock=clock), LIMITS)
    with limiter.acquire("user", "api", {"requests": 3}) as lease:
        for amounts, _ in BAD_AMOUNTS:
            for method in (lease.consume, lease.release, lease.adjust):
                if amounts == {"requests": -1} and method == lease.adjust:
                    continue
                with pytest.raises((ValidationError, TypeError)):
                    method(amounts)
        with pytest.raises(ValidationError, match="holds 3"):
            lease.release(requests=4)
        with pytest.raises(ValidationError, match="holds 3"):
            lease.adjust(requests=-4)
        with pytest.raises(ValidationError, match="holds 0"):
            lease.release(tokens=1)
        with pytest.raises(NeverSatisfiable):
            lease.consume(requests=11)
        assert lease.consumed == {"requests": 3}
    statuses = limiter.check("user", "api", {"requests": 0, "tokens": 0}).statuses
    assert [status.available for status in statuses] == [7, 1_000]


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: ascii(name)[:12])
def test_bad_names_of_stacks_and_namespaces_are_refused(name: object) -> None:
    """A repository checks its own names when it is made."""
    with pytest.raises(ValidationError):
        SyncRepository(name)  # type: ignore[arg-type] # the point of the test
    with pytest.raises(ValidationError):
        SyncMemoryRepository(namespace=name)  # type: ignore[arg-type] # likewise


def test_a_missing_table_is_told_with_its_remedy(server_engine: Engine, table_name: str) -> None:
    """Where there is no such table, the error names it and the command that deploys it."""
    repository = SyncRepository(table_name, endpoint_url=server_engine.endpoint_url, connect_timeout=30.0, read_timeout=30.0)
    for call in (repository.open, lambda: SyncRateLimiter(repository, LIMITS).try_acquire("user", "api")):
        with pytest.raises(StackNotFound) as caught:
            call()
        assert table_name in str(caught.value)
        assert f"limiter deploy {table_name}" in str(caught.value)
    repository.close()


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_missing_credentials_are_told_with_their_remedy(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Without credentials the error says where to put them, and nothing is sent."""
    for each in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if variable == "AWS_ACCESS_KEY_ID" else (variable,):
        monkeypatch.delenv(each)
    repository = SyncRepository("table", endpoint_url="http://127.0.0.1:9")
    with pytest.raises(ConfigurationError, match=r"AWS_PROFILE|AWS_SECRET_ACCESS_KEY"):
        SyncRateLimiter(repository, LIMITS).try_acquire("user", "api")


def test_a_missing_region_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a region the error says where to put it."""
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(ConfigurationError, match="AWS_DEFAULT_REGION"):
        SyncRateLimiter(SyncRepository("table"), LIMITS).try_acquire("user", "api")


def test_an_unreachable_endpoint_is_told_with_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing listens, the store is unavailable, certainly without effect, and the error names the endpoint."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RateLimiterUnavailable, match=url) as caught:
            SyncRateLimiter(SyncRepository("table", endpoint_url=url), LIMITS).try_acquire("user", "api")
    assert caught.value.unsent


# The checks themselves.


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=255))
def test_all_other_names_are_fine(name: str) -> None:
    """Any other text of up to 255 characters is a usable id, and can be stored."""
    assert check_name("id", name) == name
    assert len(name.encode()) <= 1_020


@given(st.one_of(st.integers(), st.booleans(), st.floats(), st.none(), st.text()), st.integers(-5, 5), st.integers(0, 10**13))
def test_integers_are_between_their_bounds(value: object, minimum: int, maximum: int) -> None:
    """An accepted value is an integer, not a bool, within the bounds; others are refused with the bounds."""
    if type(value) is int and minimum <= value <= maximum:
        assert check_integer("amount", value, minimum=minimum, maximum=maximum) is value
    else:
        with pytest.raises(ValidationError, match="amount"):
            check_integer("amount", value, minimum=minimum, maximum=maximum)


@pytest.mark.parametrize(
    ("seconds", "nanoseconds"), [(None, 0), (0, 0), (0.5, 500_000_000), (1e-9, 1), (366 * 86_400, 31_622_400 * 10**9)]
)
def test_timeouts_become_nanoseconds(seconds: float | None, nanoseconds: int) -> None:
    """A timeout is in seconds outside and in nanoseconds inside."""
    assert check_timeout(seconds) == nanoseconds


def test_good_input_is_returned() -> None:
    """Checks return what they have checked, for any iterable or mapping."""
    assert check_limits(iter(LIMITS)) == tuple(LIMITS)
    assert check_limits([]) == ()
    assert check_amounts({"requests": 0}) == {"requests": 0}


def test_an_overlong_value_is_cut_short() -> None:
    """An error never repeats pages of text."""
    with pytest.raises(ValidationError) as caught:
        check_name("id", "a" * 100_000)
    assert len(str(caught.value)) < 200
    assert "(100000 characters)" in str(caught.value)


ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/my-app"


def test_a_table_has_a_name_or_an_arn() -> None:
    """The ARN of a table of any partition stands for its name; its region is that of the calls."""
    assert check_table("my-app") == "my-app"
    for arn in (ARN, "arn:aws-cn:dynamodb:cn-north-1:123456789012:table/my-app"):
        assert check_table(arn) == arn
        assert check_table_region(arn, None) == arn.split(":")[3]
    assert check_table_region(ARN, "eu-west-1") == "eu-west-1"
    assert check_table_region("my-app", None) is None


@pytest.mark.parametrize("arn", [f"{ARN}/index/listing", ARN.replace("dynamodb", "s3"), ARN.replace("123456789012", "1"), "arn:"])
def test_an_arn_of_something_else_is_refused(arn: str) -> None:
    """The message shows what an ARN of a table looks like."""
    with pytest.raises(ValidationError, match=r"the ARN of a table looks like arn:aws:dynamodb:.*, unlike 'arn:"):
        SyncRepository(arn)


def test_an_arn_and_another_region_are_refused() -> None:
    """DynamoDB serves a table in its own region only."""
    with pytest.raises(ValidationError, match="region is 'us-east-1', but the table is in 'eu-west-1'"):
        SyncRepository(ARN, region="us-east-1")
