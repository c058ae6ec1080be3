"""Text for a log or a terminal, in which invisible characters and those that change their neighbours' look are escaped."""

from __future__ import annotations

import re

_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\U000e0100-\U000e01ef"
"""Characters that Python counts as printable and no terminal shows: joiners, fillers and variant selectors."""
_UNSEEN = re.compile(f"[{_BLANK}]")


def visible(text: str) -> str:
    """Escape line separators, direction marks, zero-width and control characters; newlines and tabs stay."""
    if text.isprintable() and (text.isascii() or _UNSEEN.search(text) is None):
        return text
    return "".join([sign if _is_shown(sign) else sign.encode("unicode_escape", "surrogatepass").decode() for sign in text])


def _is_shown(sign: str) -> bool:
    return sign in "\n\t" or (sign.isprintable() and _UNSEEN.match(sign) is None)
