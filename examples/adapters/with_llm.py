"""A call of a model: an estimate is reserved, the call is made, and its actual usage is charged.

pip install dynamodb-limiter; python examples/adapters/with_llm.py
"""

from limiter import Limit, SyncRateLimiter, SyncRepository
from limiter.contrib.llm import sync_reserve

limits = [Limit.per_minute("requests", 500), Limit.per_minute("tokens", 30_000)]
limiter = SyncRateLimiter(SyncRepository("my-app"), limits)


def ask(question: str) -> dict:
    """Stands for a provider's SDK."""
    return {"text": f"You ask: {question}", "usage": {"total_tokens": 420}}


if __name__ == "__main__":
    with limiter:
        with sync_reserve(limiter, "team-1", "gpt-5", {"requests": 1, "tokens": 1_500}, timeout=60) as call:
            reply = ask("why?")
            call.report(tokens=reply["usage"]["total_tokens"])
        print(call.lease.consumed["tokens"], "tokens charged")
