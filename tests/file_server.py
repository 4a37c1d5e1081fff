"""A local web server for one file, with configurable failures."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class FileServer(ThreadingHTTPServer):
    """Serve ``content`` at every path.

    Attributes:
        etag: What it calls this version of the content.
        ranges: Whether it sends parts.
        stop_after: Bytes of a body after which it hangs up.
        status: Answer instead of the content.
        requests: Header ``Range`` of every request so far.
        answers: Status, headers and body of the next answers, in place of the content.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(('127.0.0.1', 0), Handler)
        self.content, self.etag, self.ranges = content, '"first"', True
        self.stop_after, self.status = None, None
        self.requests: list[str | None] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f'http://127.0.0.1:{self.server_port}/weights.pth'


class Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get('Range')
        server.requests.append(asked)
        if server.answers:
            status, headers, body = server.answers.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            return
        if server.status:
            self.send_error(server.status)
            return
        changed = self.headers.get('If-Range', server.etag) != server.etag
        start = int(re.search(r'\d+', asked)[0]) if asked and server.ranges and not changed else 0
        if start and start >= len(server.content):
            self.send_response(416)
            self.send_header('Content-Range', f'bytes */{len(server.content)}')
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            last = len(server.content) - 1
            self.send_header('Content-Range', f'bytes {start}-{last}/{last + 1}')
        self.send_header('Content-Length', str(len(body)))
        self.send_header('ETag', server.etag)
        self.end_headers()
        self.wfile.write(body[: server.stop_after])

    def log_message(self, *args: object) -> None:
        """Keep the tests' output free of it."""


@contextmanager
def serve(content: bytes) -> Iterator[FileServer]:
    with FileServer(content) as server:
        thread = Thread(target=server.serve_forever, kwargs={'poll_interval': 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
