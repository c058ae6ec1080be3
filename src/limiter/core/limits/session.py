"""Sessions: a number of units in a window of time that begins with the first use."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from ...exceptions import ValidationError
from .checks import check_common, check_span, derive
from .quota import Quota
from .text import AMOUNT, PER, SPAN, number_text, seconds, shadow, span_text

_FORM = re.compile(rf"{AMOUNT}{PER}session\s+of\s+{SPAN}")


@dataclass(frozen=True, slots=True)
class SessionQuota(Quota):
    """`capacity` units within `seconds` of the first use. The next use after that begins another session.

    A session whose units were all refunded has not begun.
    """

    seconds: float
    length_ns: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_common(self)
        length = check_span(f"seconds of limit {self.name!r} (the length of a session)", self.seconds)
        if self.capacity > length:
            raise ValidationError(
                f"a session of {number_text(self.seconds)} s is too short for a capacity of {self.capacity} in limit"
                f" {self.name!r}: at most 10^9 units per second are supported; lower the capacity or make the session longer"
            )
        derive(self, length_ns=length, identity=f"{self.name}|session {number_text(self.seconds)}")

    def is_over(self, since: int, used: int, instant: int) -> bool:
        """Tell whether the session that began at `since` has passed, or has been refunded."""
        return since < 0 or used <= 0 or since <= instant - self.length_ns

    def ends(self, since: int, instant: int) -> int:
        """Return the end of the session that began at `since`, or of one that begins at `instant`."""
        return (instant if self.is_over(since, 1, instant) else since) + self.length_ns

    @classmethod
    def read(cls, name: str, body: str, enforce: bool) -> SessionQuota | None:
        """Return the quota that the text after a name describes; None if the text has another form."""
        found = _FORM.fullmatch(body)
        length = seconds(found) if found else None
        return cls(name, int(found["amount"]), length, enforce=enforce) if found and length is not None else None

    def __str__(self) -> str:
        """Return the text that `parse` reads back as an equal quota."""
        return f"{self.name}={int(self.capacity)}/session of {span_text(self.seconds)}{shadow(self)}"
