"""A stand-in for a model that is run on this machine: it uses the processor, and nothing can be awaited."""

from __future__ import annotations

import hashlib
import os

ROUNDS_PER_TOKEN = int(os.environ.get("GATEWAY_ROUNDS", "200"))


class PromptRejected(Exception):
    """The model does not answer this prompt."""


def run(prompt: str, max_tokens: int) -> list[str]:
    """Respond with at most `max_tokens` words; raises `PromptRejected` for a prompt with "forbidden" in it."""
    if "forbidden" in prompt:
        raise PromptRejected("this prompt is not answered")
    words = []
    for word in prompt.split()[:max_tokens]:
        digest = word.encode()
        for _ in range(ROUNDS_PER_TOKEN):
            digest = hashlib.sha256(digest).digest()
        words.append(digest.hex()[:8])
    return words
