"""A TCP proxy on loopback that injects faults; its client is fault_proxy.py.

    python -I -S tests/support/fault_server.py CONTROL_PORT UPSTREAM_PORT

A client of the control port sends one JSON object a line and gets one back for each. The proxy listens on another port, which
`{"do": "counts"}` tells. It uses the standard library and threads only, and ends with its process.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import struct
import sys
import threading
import time
from collections import Counter
from typing import Any

CHUNK = 1 << 16
PATIENCE = 60.0
"""Seconds after which an idle connection is closed."""
ERROR = "HTTP/1.1 {status} Error\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {length}\r\n\r\n"


class Message:
    """One HTTP request or response as it came over the wire."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    @property
    def action(self) -> str:
        """The operation that a request names, such as UpdateItem."""
        return header(self.raw, b"x-amz-target").rpartition(b".")[2].decode()


def header(head: bytes, name: bytes) -> bytes:
    """Return the value of one header, or nothing."""
    for line in head.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return b""


def receive(peer: socket.socket) -> bytes:
    """Return one whole message; nothing if the peer closes before its end."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (chunk := peer.recv(CHUNK)):
            return b""
        data += chunk
    chunked = header(data, b"transfer-encoding").lower() == b"chunked"
    end = data.index(b"\r\n\r\n") + 4 + int(header(data, b"content-length") or 0)
    while not data.endswith(b"\r\n0\r\n\r\n") if chunked else len(data) < end:
        if not (chunk := peer.recv(CHUNK)):
            return b""
        data += chunk
    return data


def close(peer: socket.socket, *, reset: bool = False) -> None:
    """Close a connection, in order or not, and wake the thread that waits for it."""
    with contextlib.suppress(OSError):
        if reset:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.shutdown(socket.SHUT_RD)  # A thread that reads would keep it open otherwise.
        else:
            peer.shutdown(socket.SHUT_RDWR)
    peer.close()


class Ended(Exception):
    """The connection is to be closed, by a reset if the argument is true."""


class Proxy:
    """Passes on requests and responses, except for the faults that are injected."""

    def __init__(self, upstream: int) -> None:
        self.upstream = upstream
        self.changed = threading.Condition()
        self.faults: list[dict[str, Any]] = []
        self.version = 0
        self.counts: Counter[str] = Counter()
        self.actions: Counter[str] = Counter()
        self.clients: set[socket.socket] = set()
        self.kept: list[bytes] = []
        self.listener = self.listen(0)
        self.port = self.listener.getsockname()[1]

    def listen(self, port: int) -> socket.socket:
        """Accept connections on a port from now on."""
        listener = socket.create_server(("127.0.0.1", port), backlog=1024)
        threading.Thread(target=self.accept, args=[listener], daemon=True).start()
        return listener

    def accept(self, listener: socket.socket) -> None:
        """Serve every connection, until the listener is closed."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self.changed:
                if listener is not self.listener:
                    close(client, reset=True)
                    return
                self.counts["connections"] += 1
                self.clients.add(client)
            threading.Thread(target=self.serve, args=[client], daemon=True).start()

    def inject(self, faults: list[dict[str, Any]]) -> None:
        """Apply these faults to requests from now on, and to those that are held."""
        with self.changed:
            refuses, refused = any(fault["kind"] == "refuse" for fault in faults), self.listener.fileno() < 0
            self.faults = faults
            self.version += 1
            self.changed.notify_all()
            if refuses and not refused:
                close(self.listener)
                for client in self.clients:
                    close(client, reset=True)
                self.clients.clear()
            elif refused and not refuses:
                self.listener = self.listen(self.port)

    def hang_up(self) -> None:
        """Close every open connection in order."""
        with self.changed:
            for client in self.clients:
                close(client)
            self.clients.clear()

    def report(self) -> dict[str, Any]:
        """Return the counters and the current numbers."""
        with self.changed:
            lasting = {"port": self.port, "open": len(self.clients), "kept": len(self.kept), "actions": dict(self.actions)}
            return {**lasting, **{name: self.counts[name] for name in NUMBERS}}

    def deliver(self) -> None:
        """Pass on the requests that were kept, in their order, and wait for their responses, which no client gets."""
        with self.changed:
            kept, self.kept = self.kept, []
        for request in kept:
            with socket.create_connection(("127.0.0.1", self.upstream), timeout=PATIENCE) as engine:
                engine.sendall(request)
                receive(engine)

    def serve(self, client: socket.socket) -> None:
        """Serve one connection, one request after the other, as HTTP clients without pipelining send them."""
        client.settimeout(PATIENCE)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        engine = socket.create_connection(("127.0.0.1", self.upstream), timeout=PATIENCE)
        engine.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reset = False
        try:
            while request := receive(client):
                self.handle(client, engine, Message(request))
        except Ended as ended:
            reset = bool(ended.args)
        except OSError:
            pass
        with self.changed:
            self.clients.discard(client)
        close(client, reset=reset)
        close(engine)

    def handle(self, client: socket.socket, engine: socket.socket, request: Message) -> None:
        """Apply the faults that concern one request."""
        with self.changed:
            self.counts["requests"] += 1
            self.counts["request_bytes"] = len(request.raw)
            self.actions[request.action] += 1
            fault = self.take(request)
            while fault["kind"] == "hold":
                version = self.version
                self.counts["held"] += 1
                self.changed.wait_for(lambda seen=version: self.version != seen, PATIENCE)
                fault = self.take(request)
            self.counts["faults"] += fault["kind"] != "pass"
        getattr(self, f"do_{fault['kind']}")(client, engine, request.raw, fault)

    def take(self, request: Message) -> dict[str, Any]:
        """Return the first fault that concerns the request and is not used up."""
        for fault in self.faults:
            concerns = fault.get("action") in (None, request.action) and fault.get("text", "").encode() in request.raw
            if concerns and fault.get("times") != 0:
                if fault.get("times") is not None:
                    fault["times"] -= 1
                return fault
        return {"kind": "pass"}

    def ask(self, engine: socket.socket, request: bytes) -> bytes:
        """Return the engine's response."""
        engine.sendall(request)
        if not (answer := receive(engine)):
            raise Ended
        with self.changed:
            self.counts["answer_bytes"] = len(answer)
        return answer

    def do_pass(self, client: socket.socket, engine: socket.socket, request: bytes, fault: dict[str, Any]) -> None:
        client.sendall(self.ask(engine, request))

    def do_refuse(self, client: socket.socket, engine: socket.socket, request: bytes, fault: dict[str, Any]) -> None:
        raise Ended(True)

    def do_reset(self, client: socket.socket, engine: socket.socket, request: bytes, fault: dict[str, Any]) -> None:
        raise Ended(True)

    def do_black_hole(self, client: socket.socket, engine: socket.socket, request: bytes, fault: dict[str, Any]) -> None:
        while client.recv(CHUNK):
            pass
        raise Ended

    def do_error(self, client: socket.socket, engine: socket.socket, request: bytes, fault: dict[str, Any]) -> None:
        body = json.dumps(fault["body"]).encode()
        client.sendall(ERROR.format(status=fault["status"], length=len(body)).encode() + body)

    def do_delay(self, client: socket.socket, engine: socket.socket, request: bytes, fault: dict[str, Any]) -> None:
        time.sleep(fault["seconds"])
        client.sendall(self.ask(engine, request))

    def do_trickle(self, client: socket.socket, engine: socket.socket, request: bytes, fault: dict[str, Any]) -> None:
        for byte in self.ask(engine, request):
            client.sendall(bytes([byte]))
            time.sleep(fault["seconds"])

    def do_cut(self, client: socket.socket, engine: socket.socket, request: bytes, fault: dict[str, Any]) -> None:
        client.sendall(self.ask(engine, request)[: fault["size"]])
        raise Ended

    def do_cut_request(self, client: socket.socket, engine: socket.socket, request: bytes, fault: dict[str, Any]) -> None:
        engine.sendall(request[: min(fault["size"], len(request) - 1)])
        raise Ended

    def do_keep(self, client: socket.socket, engine: socket.socket, request: bytes, fault: dict[str, Any]) -> None:
        with self.changed:
            self.kept.append(request)
        raise Ended


NUMBERS = ("connections", "requests", "faults", "held", "request_bytes", "answer_bytes")


class Control(socketserver.StreamRequestHandler):
    """Carries out the commands of one control connection."""

    proxy: Proxy

    def handle(self) -> None:
        """Answer every line."""
        for line in self.rfile:
            order = json.loads(line)
            if order["do"] == "inject":
                self.proxy.inject(order["faults"])
            elif order["do"] == "deliver":
                self.proxy.deliver()
            elif order["do"] == "hang_up":
                self.proxy.hang_up()
            self.wfile.write(json.dumps(self.proxy.report()).encode() + b"\n")


class ControlServer(socketserver.ThreadingTCPServer):
    """Listens on the control port."""

    daemon_threads = True
    allow_reuse_address = True


if __name__ == "__main__":
    control_port, upstream_port = map(int, sys.argv[1:])
    Control.proxy = Proxy(upstream_port)
    ControlServer(("127.0.0.1", control_port), Control).serve_forever()
