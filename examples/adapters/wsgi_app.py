"""Five requests a minute for each address, in any WSGI application.

    gunicorn wsgi_app:application --chdir examples/adapters

Replace the repository by `SyncRepository("my-app")` to count in a table, for all processes together.
"""

from limiter import Limit, SyncMemoryRepository, SyncRateLimiter
from limiter.contrib.wsgi import LimiterMiddleware, client_ip


def hello(environ, start_response):
    """An application; Flask, Django and Bottle make one as well."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\n"]


limiter = SyncRateLimiter(SyncMemoryRepository(), [Limit.per_minute("requests", 5)])
application = LimiterMiddleware(hello, limiter, entity=client_ip, headers="draft-11")
