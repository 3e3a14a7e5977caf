"""Hands out over HTTP what monitoring systems collect. Imported late: http.server brings a tenth of a manager's start."""

from __future__ import annotations

import socket
import socketserver
from http.server import BaseHTTPRequestHandler

from ..model.errors import SettingsError
from .config import address_of
from .metrics_threads import start_thread

PATH = "/metrics"
_CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_CLIENT_S = 2.0
"""How long a client may take for its request and for reading the answer; others wait meanwhile."""


class _Handler(BaseHTTPRequestHandler):
    """One request. The server has the text."""

    timeout = _CLIENT_S
    server: Server

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            self.send_error(404, explain=f"it is at {PATH}")
            return
        text = self.server.text
        self.send_response(200)
        self.send_header("Content-Type", _CONTENT_TYPE)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the log is about the pilot."""


class Server(socketserver.TCPServer):
    """Its `text` is handed out. Not http.server's own, which looks up the name of the host, and may wait long for that."""

    allow_reuse_address = True
    text = b""

    @property
    def address(self) -> str:
        host, port = self.server_address[:2]
        name = host.decode() if isinstance(host, bytes | bytearray) else str(host)
        return f"http://{f'[{name}]' if ':' in name else name}:{port}{PATH}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone, or is too slow, is none of the pilot's business."""


class _Server6(Server):
    address_family = socket.AF_INET6


def serve(said: str) -> Server:
    """Begin, at this address. Raises SettingsError."""
    host, port = address_of(said)
    try:
        server = (_Server6 if ":" in host else Server)((host, port), _Handler)
    except OSError as error:
        raise SettingsError(f"cannot listen there: {error.strerror}", where=f"--metrics {said}") from error
    start_thread("metrics", server.serve_forever)
    return server
