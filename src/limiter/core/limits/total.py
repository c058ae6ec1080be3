"""Totals: a number of units that do not refill."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .checks import check_common, derive
from .quota import Quota
from .text import AMOUNT, shadow

_FORM = re.compile(rf"{AMOUNT}\s+in\s+all")


@dataclass(frozen=True, slots=True)
class TotalQuota(Quota):
    """`capacity` units in all, such as prepaid credits. Used units come back only by a refund or an `adjust`.

    To sell more units, raise the capacity: used units stay used.
    """

    def __post_init__(self) -> None:
        check_common(self)
        derive(self, identity=f"{self.name}|total")

    def is_over(self, since: int, used: int, instant: int) -> bool:
        """Tell whether nothing was used yet: a total never ends."""
        return since < 0

    def ends(self, since: int, instant: int) -> None:
        """Return None: a total never ends."""

    @classmethod
    def read(cls, name: str, body: str, enforce: bool) -> TotalQuota | None:
        """Return the total that the text after a name describes; None if the text has another form."""
        found = _FORM.fullmatch(body)
        return cls(name, int(found["amount"]), enforce=enforce) if found else None

    def __str__(self) -> str:
        """Return the text that `parse` reads back as an equal total."""
        return f"{self.name}={int(self.capacity)} in all{shadow(self)}"
