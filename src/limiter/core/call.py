"""What one caller asks, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..models import Prefetch
    from .limits import Limit
    from .records import BucketKey

OnUnavailable = Literal["block", "allow", "local"]


class Call(NamedTuple):
    """What a caller asks of the entity and resource in `key`.

    `amounts` are units by limit name; None asks for 1 of every limit. `limits` replace the entity's own limits, `defaults` apply
    where nothing is stored. The caller waits up to `patience` nanoseconds for its turn, counted from `asked` (monotonic seconds).
    """

    key: BucketKey
    amounts: Mapping[str, int] | None
    limits: tuple[Limit, ...] | None
    defaults: tuple[Limit, ...]
    patience: int = 0
    on_unavailable: OnUnavailable = "block"
    prefetch: Prefetch | None = None
    asked: float = 0.0
