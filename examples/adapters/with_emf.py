"""An AWS Lambda function whose decisions become CloudWatch metrics, by lines in its log.

pip install dynamodb-limiter; python examples/adapters/with_emf.py
"""

from limiter import Limit, SyncRateLimiter, SyncRepository
from limiter.contrib.emf import emit

limiter = SyncRateLimiter(SyncRepository("my-app"), [Limit.parse("requests=2/hour")], on_decision=emit)


def handler(event: dict, context: object) -> dict:
    """What AWS Lambda calls."""
    decision = limiter.try_acquire(event["user"], "search")
    return {"statusCode": 200 if decision else 429}


if __name__ == "__main__":
    print([handler({"user": "user-42"}, None)["statusCode"] for _ in range(3)])
