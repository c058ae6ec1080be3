"""Concurrency: slots that are held until their lease ends."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import ClassVar

from ...models import BaseLimit
from ..units import DAY, SECOND
from .checks import check_common, check_span, derive
from .text import AMOUNT, NUMBER, number_text, shadow

DEFAULT_TTL = 60.0
MAX_SLOTS = 999_999
"""Slots of one limit: a holder's entry in the table has six digits for their number."""
_FORM = re.compile(rf"{AMOUNT}\s+at\s+once(?:\s+ttl\s+(?P<ttl>{NUMBER}))?")


@dataclass(frozen=True, slots=True)
class Concurrency(BaseLimit):
    """`capacity` slots, each held by a lease until its end: so many calls at once, however long they take.

    A process renews the slots of its leases. When it dies, its slots are free again `ttl` seconds after the last renewal, and at
    most 2 seconds later. `ttl` is from 1 second to a day: a longer one costs fewer renewals, a shorter one frees sooner.
    """

    holds: ClassVar[bool] = True
    ttl: float = DEFAULT_TTL
    ttl_ns: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_common(self, maximum=MAX_SLOTS)
        form = "from 1 to 86400 (a day)"
        ttl = check_span(f"ttl of limit {self.name!r}", self.ttl, minimum=SECOND, maximum=DAY, form=form)
        derive(self, ttl_ns=ttl, identity=f"{self.name}|")

    @classmethod
    def read(cls, name: str, body: str, enforce: bool) -> Concurrency | None:
        """Return the limit that the text after a name describes; None if the text has another form."""
        found = _FORM.fullmatch(body)
        if found is None:
            return None
        return cls(name, int(found["amount"]), float(found["ttl"] or DEFAULT_TTL), enforce=enforce)

    def __str__(self) -> str:
        """Return the text that `parse` reads back as an equal limit."""
        ttl = "" if self.ttl == DEFAULT_TTL else f" ttl {number_text(self.ttl)}"
        return f"{self.name}={int(self.capacity)} at once{ttl}{shadow(self)}"
