"""Five requests a minute for each address, in a server of the standard library, for which there is no adapter.

    python examples/adapters/http_app.py

Replace the repository by `SyncRepository("my-app")` to count in a table, for all processes together.
"""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from limiter import Limit, SyncMemoryRepository, SyncRateLimiter
from limiter.contrib.http import REFUSALS, client_ip, rate_headers, refusal

limiter = SyncRateLimiter(SyncMemoryRepository(), [Limit.per_minute("requests", 5)])


class Handler(BaseHTTPRequestHandler):
    """Responds with a greeting, or with a refusal."""

    def do_GET(self) -> None:
        """Charge the address, and respond."""
        try:
            with limiter.acquire(client_ip(self.client_address[0], self.headers.get), refund_on_error=False) as lease:
                self.answer(200, rate_headers(lease.statuses, headers="draft-11"), b"hello\n")
        except REFUSALS as error:
            refused = refusal(error, headers="draft-11")
            self.answer(refused.status, refused.fields, refused.body)

    def answer(self, status, headers, body):
        """Send a response."""
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
