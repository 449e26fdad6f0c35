"""A proxy between a client and an S3 service that loses, cuts, delays and refuses on demand."""

from __future__ import annotations

import contextlib
import http.client
import socket
import socketserver
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REFUSED_WITH = {404: "NoSuchUpload", 412: "PreconditionFailed", 500: "InternalError", 503: "SlowDown"}
_HOP_HEADERS = {"connection", "expect", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True)
class Fault:
    """What happens to a request."""

    status: int = 0
    """Answer this instead of the service; 0: no answer at all, the connection is cut."""
    is_forwarded: bool = False
    """Whether the service gets the request, and does it, before."""
    body_bytes: int | None = None
    """Let the service's answer through, and cut the connection after so many bytes of its body."""
    delay_seconds: float = 0
    """Wait before anything else."""
    is_answered: bool = False
    """Let the service's answer through whole, after the delay."""


LOST_REQUEST = Fault()
LOST_ANSWER = Fault(is_forwarded=True)


@dataclass(frozen=True)
class Request:
    """What a client asked."""

    method: str
    path: str

    def __str__(self) -> str:
        """As in a log."""
        return f"{self.method} {self.path}"


@dataclass
class FaultProxy:
    """A running proxy; rules are asked in their order, and the first fault that one gives happens."""

    port: int = 0
    rules: list[Callable[[Request], Fault | None]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    faults: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint_url(self) -> str:
        """Where clients reach it."""
        return f"http://127.0.0.1:{self.port}"

    def fail(self, method: str, fault: Fault, *, times: int = 1, path: str = "") -> None:
        """Has the next requests of a method, whose path and query hold `path`, meet a fault."""
        left = [times]

        def rule(request: Request) -> Fault | None:
            if request.method != method or path not in request.path or left[0] == 0:
                return None
            left[0] -= 1
            return fault

        self.rules.append(rule)

    def fault_for(self, request: Request) -> Fault | None:
        """What happens to a request."""
        with self.lock:
            self.requests.append(request)
            for rule in self.rules:
                fault = rule(request)
                if fault is not None:
                    self.faults += 1
                    return fault
        return None


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, proxy: FaultProxy, endpoint_url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy
        self.backend = urlsplit(endpoint_url)

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.close_connection = True
        fault = self.server.proxy.fault_for(Request(self.command, self.path)) or Fault(is_answered=True)
        time.sleep(fault.delay_seconds)
        if fault.is_answered or fault.body_bytes is not None:
            status, headers, content = self.ask(body)
            self.answer(status, headers, content, cut_after=fault.body_bytes)
            return
        if fault.is_forwarded:
            self.ask(body)
        if fault.status:
            code = REFUSED_WITH.get(fault.status, "Fault")
            said = f"<Error><Code>{code}</Code></Error>" if fault.status != 200 else ""
            self.answer(fault.status, [], said.encode())
        else:
            self.cut()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any  # noqa: N815 - the base class's names

    def ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        backend = self.server.backend
        connection = http.client.HTTPConnection(backend.hostname or "", backend.port, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_HEADERS:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, *, cut_after: int | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _HOP_HEADERS:
                self.send_header(name, value)
        if "content-length" not in {name.lower() for name, _ in headers}:
            self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content if cut_after is None else content[:cut_after])
        if cut_after is not None:
            self.wfile.flush()
            time.sleep(0.02)  # what was sent should arrive before the cut does
            self.cut()

    def cut(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()  # resets the connection, as a firewall or a crash would

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def running_proxy(endpoint_url: str) -> Iterator[FaultProxy]:
    """A proxy to a service."""
    proxy = FaultProxy()
    with _Server(proxy, endpoint_url) as server:
        proxy.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
