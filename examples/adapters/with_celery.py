"""A Celery task that all workers run 3 times a day together; the others go back to the queue.

pip install "dynamodb-limiter[celery]"; python examples/adapters/with_celery.py
"""

import time

from celery import Celery

from limiter import Limit, SyncRateLimiter, SyncRepository
from limiter.contrib.celery import LimitedTask

app = Celery("example", broker="memory://", backend="cache+memory://")
limiter = SyncRateLimiter(SyncRepository("my-app"), [Limit("requests", 3, 3, 86_400.0)])


@app.task(base=LimitedTask, limiter=limiter, entity=lambda user, text: user, resource="mail")
def send(user: str, text: str) -> str:
    return f"{text} to {user}"


if __name__ == "__main__":
    from celery.contrib.testing.worker import start_worker

    with limiter, start_worker(app, pool="threads", perform_ping_check=False):
        results = [send.delay("ann", f"mail {number}") for number in range(5)]
        while any(result.state == "PENDING" for result in results):
            time.sleep(0.05)
        print(sorted(result.state for result in results))
