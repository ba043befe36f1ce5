"""A web server of a folder that counts requests and bytes, and fails, or asks for a password."""

import base64
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit


class WebServer(ThreadingHTTPServer):
    """Serve a folder.

    Attributes
    ----------
    url : str
        Of the folder.
    requests : Counter of str
        GET requests by path, with each HEAD as "HEAD path".
    n_bytes : int
        Sent in bodies.
    most_at_once : int
        Requests that were answered at the same time.
    faults : dict of str to list of int
        Status, or 0 for a lost connection, of the next answers to paths that end so.
    user, token : str
        "name:password" that is required, and the value of the parameter "sig".
    pause : float
        Seconds before each answer.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.url = folder, f"http://127.0.0.1:{self.server_port}"
        self.requests: Counter[str] = Counter()
        self.n_bytes = self.most_at_once = self.at_once = 0
        self.faults: dict[str, list[int]] = {}
        self.user = self.token = ""
        self.pause = 0.0
        self.lock = threading.Lock()

    def fault(self, path: str) -> int | None:
        """Return the status of the next answer to a path, None if it is a good one."""
        for end, statuses in self.faults.items():
            if path.endswith(end) and statuses:
                return statuses.pop(0)
        return None

    def handle_error(self, *_: Any) -> None:
        """Print nothing: a client may close its connection."""

    @property
    def n_chunk_requests(self) -> int:
        """Requests of anything but metadata."""
        metadata = ("zarr.json", ".zattrs", ".zgroup", ".zarray")
        return sum(n for path, n in self.requests.items() if not path.endswith(metadata))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WebServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(is_head=True)

    def do_GET(self) -> None:
        self._answer(is_head=False)

    def _answer(self, is_head: bool) -> None:
        server, parts = self.server, urlsplit(self.path)
        with server.lock:
            server.requests[("HEAD " if is_head else "") + parts.path] += 1
            server.at_once += 1
            server.most_at_once = max(server.most_at_once, server.at_once)
            fault = server.fault(parts.path)
        try:
            time.sleep(server.pause)
            self._send(parts, is_head, fault)
        finally:
            with server.lock:
                server.at_once -= 1

    def _send(self, parts: Any, is_head: bool, fault: int | None) -> None:
        if fault == 0:
            self.close_connection = True
            return
        path, status, data = self.server.folder / parts.path.lstrip("/"), 200, b""
        if fault is not None:
            status = fault
        elif not self._is_allowed(parts):
            status = 401
        elif not path.is_file():
            status = 404
        else:
            status, data = self._part(path.read_bytes())
        if not is_head:
            with self.server.lock:  # before they are sent: a test may read the sum right after
                self.server.n_bytes += len(data)
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if not is_head:
            self.wfile.write(data)

    def _part(self, data: bytes) -> tuple[int, bytes]:
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if match is None:
            return 200, data
        first, last = match.groups()
        if not first:
            return 206, data[-int(last) :]
        return 206, data[int(first) : int(last) + 1 if last else None]

    def _is_allowed(self, parts: Any) -> bool:
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        has_user = not self.server.user or base64.b64decode(given).decode() == self.server.user
        return has_user and dict(parse_qsl(parts.query)).get("sig", "") == self.server.token


@contextmanager
def serve(folder: Path) -> Iterator[WebServer]:
    """Serve a folder on a free port of this computer."""
    server = WebServer(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
