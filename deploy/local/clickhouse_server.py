"""Serves ClickHouse's HTTP interface on the loopback address, from the real engine in this process (chdb).

For development and tests: one user, no password, no TLS, answers are held in memory until they are complete.
Not here: sessions with temporary tables, external tables, ClickHouse's own block compression, KILL by a given id.

    clickhouse_server.py --port 8123 --path DIR
"""

import argparse
import itertools
import json
import os
import signal
import socket
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from clickhouse_engine import SYNTAX_ERROR, Engine, EngineError, Outcome
from clickhouse_request import Body, Request, read_request
from clickhouse_statement import named_format, split_insert

_IDLE_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 20
_STATUS_OF_CODE = {
    400: {6, 25, 26, 27, 33, 34, 36, 38, 39, 40, 41, 42, 53, 62, 69, 72, 117, 131, 167, 168, 427, 456, 457},
    404: {46, 47, 50, 56, 60, 63, 73, 81, 83, 115, 336, 478},
    408: {159},
    413: {307},
    501: {48, 344},
    503: {76, 209, 439},
}
_CONTENT_TYPES = {
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "TabSeparatedWithNamesAndTypes": "text/tab-separated-values; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
}


class Server(ThreadingHTTPServer):
    """One thread a connection; the engine itself runs queries in parallel."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], engine: Engine) -> None:
        super().__init__(address, Handler)
        self.engine = engine
        self._busy = 0
        self._idle = threading.Condition()

    def working(self, change: int) -> None:
        """Counts the requests under way."""
        with self._idle:
            self._busy += change
            self._idle.notify_all()

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Whether the requests under way have ended within the time given."""
        with self._idle:
            return self._idle.wait_for(lambda: self._busy == 0, timeout_s)

    def handle_error(self, request, client_address) -> None:
        """A client that goes away is no error of ours."""
        if not isinstance(sys.exception() if sys.version_info >= (3, 11) else sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """The interface's paths, statuses and headers."""

    protocol_version = "HTTP/1.1"
    timeout = _IDLE_TIMEOUT_S
    wbufsize = -1  # headers and body leave together
    server: Server

    def setup(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()

    def do_GET(self) -> None:
        path = urlsplit(self.path)
        if path.path in ("/ping", "/replicas_status") or (path.path == "/" and not path.query):
            self._reply(200, {"Content-Type": "text/html; charset=UTF-8"}, b"Ok.\n")
        else:
            self.do_POST()

    def do_POST(self) -> None:
        if urlsplit(self.path).path != "/":
            self.close_connection = True
            self._reply(404, {}, f"There is no handle {self.path}\n".encode())
            return
        self.server.working(1)
        try:
            self._answer()
        except (ConnectionError, TimeoutError):
            self.close_connection = True
        finally:
            self.server.working(-1)

    def _answer(self) -> None:
        body = None
        try:
            body = Body(self.rfile, self.headers, self.server.engine)
            request = read_request(self.path, self.command, self.headers, body)
            query_id = request.query_id or str(uuid.uuid4())
            outcome, output_format = run(self.server.engine, request, body)
            body.drain()
        except EngineError as error:
            self._reply_error(error, body)
        except UnicodeDecodeError as error:
            self._reply_error(EngineError(SYNTAX_ERROR, f"Statement is not UTF-8: {error}. (SYNTAX_ERROR)"), body)
        else:
            summary = {name: str(value) for name, value in outcome.summary.items()}
            headers = {
                "Content-Type": _CONTENT_TYPES.get(output_format, "application/octet-stream"),
                "X-ClickHouse-Server-Display-Name": "reckon-local",
                "X-ClickHouse-Query-Id": query_id,
                "X-ClickHouse-Format": output_format,
                "X-ClickHouse-Timezone": self.server.engine.timezone,
                "X-ClickHouse-Summary": json.dumps(summary, separators=(",", ":")),
            }
            self._reply(200, headers, outcome.data)

    def _reply_error(self, error: EngineError, body: Body | None) -> None:
        if body is None:
            self.close_connection = True
        else:
            body.drain()
        status = next((status for status, codes in _STATUS_OF_CODE.items() if error.code in codes), 500)
        text = f"Code: {error.code}. DB::Exception: {error} (version {self.server.engine.version})\n"
        headers = {"Content-Type": "text/plain; charset=UTF-8", "X-ClickHouse-Exception-Code": str(error.code)}
        self._reply(status, headers, text.encode())

    def _reply(self, status: int, headers: dict[str, str], data: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close" if self.close_connection else "Keep-Alive")
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    def log_message(self, *_) -> None:
        """Silent: the engine's answers carry the errors."""


def run(engine: Engine, request: Request, body: Body) -> tuple[Outcome, str]:
    """Runs the request's statement; answers the outcome and the format it is in."""
    text = request.url_query
    insert = split_insert(text)
    if insert is None:
        text += body.head()
        insert = split_insert(text)
    if insert is None:
        statement = (text + body.all()).decode()
        if not statement.strip():
            raise EngineError(SYNTAX_ERROR, "Empty query. (SYNTAX_ERROR)")
        outcome = engine.query(statement, request.default_format, request.settings)
        return outcome, named_format(statement) or request.default_format
    input_format = insert.format or request.default_format
    outcome = engine.insert(
        insert.statement, input_format, itertools.chain([insert.data], body.chunks), request.settings
    )
    return outcome, request.default_format


def main() -> int:
    """Serves until SIGTERM or SIGINT, then ends what is under way and closes the engine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--path", required=True, help="data directory, created if missing")
    arguments = parser.parse_args()

    # Before any thread exists, so that every thread inherits it and the signals wait for `sigwait`.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    os.makedirs(arguments.path, exist_ok=True)
    engine = Engine(os.path.abspath(arguments.path))
    server = Server((arguments.host, arguments.port), engine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"ClickHouse {engine.version} on http://{arguments.host}:{server.server_port}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.shutdown()
    server.server_close()
    if server.wait_until_idle(_STOP_TIMEOUT_S):
        engine.close()
        return 0
    print("stopped with requests still under way", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    STATUS = main()
    sys.stdout.flush()
    # Connections that idle in keep-alive hold threads: leave without waiting for them.
    os._exit(STATUS)
