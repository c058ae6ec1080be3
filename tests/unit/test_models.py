"""The values of the public interface."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from limiter import Blocked, Decision, Entity, LeaseLost, Limit, LimitStatus, ValidationError, exceptions
from limiter.exceptions import LimiterError, NeverSatisfiable, RateLimiterUnavailable, RateLimitExceeded

NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="#"), min_size=1, max_size=20)
LIMIT = Limit.per_minute("tokens", 100, burst=500)
STATUS = LimitStatus("user", "api", LIMIT, 7, -3, exceeded=True, retry_after=1.5, reset_after=300.0)
VALUES = [
    LIMIT,
    STATUS,
    Decision(allowed=False, statuses=(STATUS,), retry_after=1.5),
    Entity("user", parent_id="team", metadata={"plan": "gold"}),
]
ERRORS = [error for _, error in inspect.getmembers(exceptions, inspect.isclass) if issubclass(error, LimiterError)]


def build(error: type[LimiterError]) -> LimiterError:
    """An error of a class, with what it needs."""
    if issubclass(error, RateLimitExceeded):
        return error((STATUS,))
    return error("no answer", True) if issubclass(error, RateLimiterUnavailable) else error("text")


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [
        (Limit.per_second("a", 7), 1.0),
        (Limit.per_minute("a", 7), 60.0),
        (Limit.per_hour("a", 7), 3_600.0),
        (Limit.per_day("a", 7), 86_400.0),
        (Limit("a", 7, 7), 60.0),
    ],
)
def test_constructors(limit: Limit, seconds: float) -> None:
    """Each constructor is a period, and the capacity is the rate unless a burst is given."""
    assert limit == Limit("a", 7, 7, seconds)
    assert Limit("a", 7, 7, seconds) != Limit("a", 8, 7, seconds)
    assert Limit.per_second("a", 7, burst=70) == Limit("a", 70, 7, 1.0)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("tokens=10000/minute burst 50000", Limit("tokens", 50_000, 10_000, 60.0)),
        ("100/minute", Limit("requests", 100, 100, 60.0)),
        (" api = 5 / 10 seconds ", Limit("api", 5, 5, 10.0)),
        ("5/s", Limit("requests", 5, 5, 1.0)),
        ("5/2.5m", Limit("requests", 5, 5, 150.0)),
        ("1_000/h", Limit("requests", 1_000, 1_000, 3_600.0)),
        ("3/days burst 9", Limit("requests", 9, 3, 86_400.0)),
        ("größe=5/min", Limit("größe", 5, 5, 60.0)),
    ],
)
def test_parse(text: str, limit: Limit) -> None:
    """Limits are read as people write them."""
    assert Limit.parse(text) == limit


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "5/",
        "/minute",
        "=5/second",
        "5/fortnight",
        "five/second",
        "5/second burst",
        "5/second burst x",
        "5/second burst 0",
        "-5/second",
        "0/second",
        "5.5/second",
        "5/0 seconds",
        "a#b=5/second",
        "1_/second",
        "1__0/second",
        "5/second burst 1_",
        "9" * 5_000 + "/second",
        "5/" + "9" * 5_000 + " seconds",
        "5/second\n6/second",
        None,
        5,
        b"5/second",
    ],
    ids=lambda text: repr(text)[:30],
)
def test_parse_refuses_what_is_no_limit(text: object) -> None:
    """Text that is no limit is a `ValidationError`, whatever is wrong with it."""
    with pytest.raises(ValidationError):
        Limit.parse(text)  # type: ignore[arg-type] # the point of the test


@given(
    NAMES,
    st.integers(1, 10**12),
    st.integers(1, 10**9),
    st.one_of(st.sampled_from([1.0, 60.0, 3_600.0, 86_400.0]), st.floats(0.001, 10**7)),
)
def test_text_is_read_back_as_an_equal_limit(name: str, capacity: int, amount: int, period: float) -> None:
    """`parse` reads what `str` writes."""
    assume(name == name.strip())
    assume(amount <= period * 10**9 - 1)
    assume(capacity * period / amount < 3_000_000_000)
    limit = Limit(name, capacity, amount, period)
    assert Limit.parse(str(limit)) == limit


def test_text_is_short() -> None:
    """The usual limits are written as they are read."""
    for text in ("tokens=10000/minute burst 50000", "requests=100/second", "api=5/10 seconds", "a=1/0.5 seconds"):
        assert str(Limit.parse(text)) == text


@pytest.mark.parametrize(
    ("name", "capacity", "amount", "period"),
    [
        ("", 1, 1, 1.0),
        ("a#b", 1, 1, 1.0),
        (None, 1, 1, 1.0),
        ("a" * 256, 1, 1, 1.0),
        ("a", 0, 1, 1.0),
        ("a", -1, 1, 1.0),
        ("a", 1.0, 1, 1.0),
        ("a", True, 1, 1.0),
        ("a", "1", 1, 1.0),
        ("a", 10**12 + 1, 10**9, 1.0),
        ("a", 10**5_000, 1, 1.0),
        ("a", 1, 0, 1.0),
        ("a", 1, True, 1.0),
        ("a", 1, 2.0, 1.0),
        ("a", 1, 1, 0),
        ("a", 1, 1, -1.0),
        ("a", 1, 1, float("nan")),
        ("a", 1, 1, float("inf")),
        ("a", 1, 1, True),
        ("a", 1, 1, "60"),
        ("a", 1, 1, None),
        ("a", 1, 1, 10**5_000),
        ("a", 1, 10**9 + 1, 1.0),
        ("a", 1, 1, 1e-10),
        ("a", 10**12, 1, 86_400.0),
    ],
    ids=lambda value: repr(value)[:20] if not isinstance(value, int) or value < 10**20 else "huge",
)
def test_limits_out_of_bounds_are_refused(name: object, capacity: object, amount: object, period: object) -> None:
    """A limit that makes no sense cannot be made."""
    with pytest.raises(ValidationError):
        Limit(name, capacity, amount, period)  # type: ignore[arg-type] # the point of the test


def test_a_bad_rate_is_called_a_rate() -> None:
    """Whoever writes a rate alone is told of the rate, and of no capacity."""
    with pytest.raises(ValidationError, match=r"^refill_amount \(the rate\) of limit 'a' must be an integer, not 0\.5"):
        Limit.per_minute("a", 0.5)  # type: ignore[arg-type] # the mistake is the point
    with pytest.raises(ValidationError, match=r"^refill_amount \(the rate\) of limit 'a' must be between .* not 0"):
        Limit.parse("a=0/minute")


@pytest.mark.parametrize(
    "limit",
    [
        Limit("a" * 255, 1, 1, 1e-9),
        Limit("a", 10**12, 10**9, 1.0),
        Limit("a", 1, 10**9, 1),
        Limit("a", 36_600, 1, 86_400.0),
        Limit("☃ = 'x'", 1, 1, 3_162_240_000.0),
    ],
    ids=repr,
)
def test_limits_at_the_bounds_are_fine(limit: Limit) -> None:
    """The bounds themselves are allowed."""
    assert limit.window > 0


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_are_frozen(value: object) -> None:
    """No field of a value can be set, and no other can be added."""
    for field in dataclasses.fields(value):  # type: ignore[arg-type] # all of them are dataclasses
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field.name, None)
    with pytest.raises((AttributeError, TypeError)):
        value.extra = 1  # type: ignore[attr-defined] # the point of the test


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_values_survive_pickling_and_copying(value: object) -> None:
    """A value that comes out of a pickle, or a copy, equals the one that went in, hash included."""
    for twin in (pickle.loads(pickle.dumps(value)), copy.copy(value), copy.deepcopy(value)):  # noqa: S301 - just written
        assert twin == value
        assert hash(twin) == hash(value)
        assert repr(twin) == repr(value)


def test_a_pickled_limit_counts_like_the_first() -> None:
    """A limit's derived numbers come along in a pickle and are made anew by `replace`."""
    twin = pickle.loads(pickle.dumps(LIMIT))  # noqa: S301 - just written
    assert (twin.window, twin.period_ns) == (LIMIT.window, LIMIT.period_ns)
    assert dataclasses.replace(LIMIT, capacity=1) == Limit("tokens", 1, 100, 60.0)


def test_a_decision_is_true_when_it_allows() -> None:
    """A decision can be used as a condition."""
    assert Decision(allowed=True, statuses=(), retry_after=0.0)
    assert not Decision(allowed=False, statuses=(STATUS,), retry_after=None)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_errors_survive_pickling_and_copying(error: type[LimiterError]) -> None:
    """An error crosses process boundaries with its class, its text and what it knows."""
    raised = build(error)
    if isinstance(raised, RateLimitExceeded):
        raised.degraded = True
    for twin in (pickle.loads(pickle.dumps(raised)), copy.copy(raised)):  # noqa: S301 - just written
        assert type(twin) is error
        assert str(twin) == str(raised)
        assert vars(twin) == vars(raised)


def test_a_refusal_tells_what_stood_in_the_way() -> None:
    """`RateLimitExceeded` knows the violations among its statuses and the longest wait, and says so."""
    fine = dataclasses.replace(STATUS, exceeded=False, retry_after=0.0)
    longer = dataclasses.replace(STATUS, resource="other", retry_after=9.25)
    error = RateLimitExceeded((fine, STATUS, longer))
    assert error.violations == (STATUS, longer)
    assert error.retry_after == 9.25
    for part in ("tokens=100/minute burst 500", "user/api", "requested 7", "available -3", "9.250 s"):
        assert part in str(error)


def test_what_can_never_be_satisfied_has_no_time() -> None:
    """`NeverSatisfiable` is a `RateLimitExceeded` without a retry time, whatever else stood in the way, and says what to do."""
    error = NeverSatisfiable((STATUS, dataclasses.replace(STATUS, retry_after=None)))
    assert isinstance(error, RateLimitExceeded)
    assert error.retry_after is None
    assert "ask for less" in str(error)


def test_a_block_has_no_time_and_says_what_is_blocked() -> None:
    """`Blocked` is a `RateLimitExceeded` without a retry time, which names the bucket, also after it was pickled."""
    error = Blocked(entity_id="user", resource="api")
    assert isinstance(error, RateLimitExceeded)
    assert (error.statuses, error.violations, error.retry_after) == ((), (), None)
    twin = pickle.loads(pickle.dumps(error))  # noqa: S301 - just written
    assert "user/api is blocked" in str(twin)
    assert (twin.entity_id, twin.resource, twin.retry_after) == ("user", "api", None)


def test_a_lost_lease_is_an_error_of_its_own() -> None:
    """`LeaseLost` is no refusal, and no lease that was closed."""
    assert issubclass(LeaseLost, LimiterError)
    assert not issubclass(LeaseLost, RateLimitExceeded | exceptions.LeaseClosed)
