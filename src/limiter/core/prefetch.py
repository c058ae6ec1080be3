"""How much a process may take in advance of its callers."""

from __future__ import annotations

from dataclasses import dataclass

from ..exceptions import ValidationError
from .validation import shown


@dataclass(frozen=True, slots=True)
class Prefetch:
    """How much to take in advance: what the observed rate spends in `horizon` seconds, at most `fraction` of a capacity.

    What is not spent within the horizon is stale. Not for limits whose burst must be exact, and of no use to callers that run
    concurrently in one process, whose requests share writes anyway.
    """

    horizon: float = 0.1
    fraction: float = 0.1

    def __post_init__(self) -> None:
        for name, value, most in (("horizon", self.horizon, 60), ("fraction", self.fraction, 1)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
                raise ValidationError(f"prefetch {name} must be a number above 0 and at most {most}, not {shown(value)}")
