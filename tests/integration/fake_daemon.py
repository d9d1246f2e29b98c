"""A daemon that says what a test tells it to: HTTP over a Unix socket, one answer a route.

It stands in where the real daemon cannot be made to do a thing on purpose: break off in the middle, answer 503, be slow.
"""

import http.server
import json
import os
import socketserver
import threading


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def address_string(self):
        return "unix"

    def _serve(self):
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        self.server.fake.seen.append((self.command, self.path, json.loads(body) if body else None))
        route = self.server.fake.routes.get((self.command, self.path))
        if route is None:
            route = Answer(404, {"error": {"message": f"no route {self.path}"}})
        elif callable(route):
            route = route(json.loads(body) if body else None)
        route.write(self)

    do_GET = do_POST = _serve


class Answer:
    """A status and a JSON body, or raw bytes."""

    def __init__(self, status=200, body=None, kind="application/json", cut=0):
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.kind = kind
        self.cut = cut  # bytes promised and never sent

    def write(self, handler):
        handler.send_response(self.status)
        handler.send_header("Content-Type", self.kind)
        handler.send_header("Content-Length", str(len(self.body) + self.cut))
        handler.end_headers()
        handler.wfile.write(self.body)
        handler.close_connection = True


class Stream:
    """Server-sent events; each chunk is an object, bytes that go out as they are, or a function to call first."""

    def __init__(self, chunks, done=True):
        self.chunks = chunks
        self.done = done

    def write(self, handler):
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        try:
            for chunk in self.chunks:
                if callable(chunk):
                    chunk()
                    continue
                raw = chunk if isinstance(chunk, bytes) else b"data: " + json.dumps(chunk).encode() + b"\n\n"
                handler.wfile.write(raw)
                handler.wfile.flush()
            if self.done:
                handler.wfile.write(b"data: [DONE]\n\n")
        except BrokenPipeError:
            handler.server.fake.abandoned.set()


def chunk(content=None, reasoning=None, finish=None, **more):
    delta = {}
    if content is not None:
        delta["content"] = content
    if reasoning is not None:
        delta["reasoning_content"] = reasoning
    return {"object": "chat.completion.chunk", "model": "fake",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass


class FakeDaemon:
    """with FakeDaemon(path) as fake: fake.routes["GET", "/healthz"] = Answer(200, {})"""

    def __init__(self, path):
        self.path = path
        self.routes = {("GET", "/v1/models"): Answer(200, {"object": "list", "data": [
            {"id": "fake", "object": "model", "state": "ready", "aliases": ["pretender"], "context": 64}]})}
        self.seen = []
        self.abandoned = threading.Event()

    def __enter__(self):
        self.server = _Server(self.path, _Handler)
        self.server.fake = self
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *args):
        self.server.shutdown()
        self.server.server_close()
        os.unlink(self.path)
