"""A server on this machine that answers as OpenAI and Anthropic do."""

from __future__ import annotations

import http.server
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = "Because."
CHAT = {
    "id": "1",
    "object": "chat.completion",
    "created": 0,
    "model": "gpt-5",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": TEXT}}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}
CHUNK = {
    "id": "1",
    "object": "chat.completion.chunk",
    "created": 0,
    "model": "gpt-5",
    "choices": [{"index": 0, "delta": {"content": TEXT}}],
}
MESSAGE = {
    "id": "1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": TEXT}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 5, "output_tokens": 2},
}
RESPONSE = {
    "id": "1",
    "object": "response",
    "created_at": 0,
    "model": "gpt-5",
    "status": "completed",
    "output": [
        {
            "id": "1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": TEXT, "annotations": []}],
        }
    ],
    "parallel_tool_calls": False,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 7,
    },
}
REPLIES = {"completions": CHAT, "messages": MESSAGE, "responses": RESPONSE}
REFUSAL = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}


class Provider:
    """Answers at first with the statuses in `refusals`, then with 200, each time with `headers`; it counts requests."""

    def __init__(self) -> None:
        self.requests = 0
        self.refusals: list[int] = []
        self.headers: dict[str, str] = {}
        self.url = ""

    def answer(self, path: str, *, stream: bool) -> tuple[int, dict[str, str], bytes]:
        """The status, headers and body of a response."""
        self.requests += 1
        if self.refusals:
            return self.refusals.pop(0), {"Retry-After": "0.01"} | self.headers, json.dumps(REFUSAL).encode()
        if stream:
            body = f"data: {json.dumps(CHUNK)}\n\ndata: [DONE]\n\n".encode()
            return 200, {"Content-Type": "text/event-stream"} | self.headers, body
        return 200, self.headers, json.dumps(REPLIES[path.rpartition("/")[2]]).encode()


@contextmanager
def serving() -> Iterator[Provider]:
    """A provider at its `url`."""
    provider = Provider()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, body = provider.answer(self.path, stream=asked.get("stream", False))
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json"} | headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        provider.url = f"http://127.0.0.1:{server.server_port}"
        yield provider
        server.shutdown()
        thread.join()
