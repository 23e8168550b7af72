"""What the simulated applications share: an HTTP server with a state to look at and faults to order.

    GET  /__state    what the simulator holds, as JSON
    POST /__fault    {"path": PREFIX, "mode": MODE, "method": "GET", "times": N}: the next N answers (default: all)
                     to that method (default: any) below that path go wrong
    POST /__set      {KEY: VALUE}: the simulator's own switches

Modes: truncate (announces all, sends half, hangs up), flip (one byte in the middle is another), empty (200 with nothing),
html (200 with a login page), hangup (closes before a word), silence (takes the call and says nothing), drip (sends a
little, then says nothing), huge (announces a terabyte, sends a little, hangs up), half-json (cut JSON with the right
length), teapot (418), error (500 with a message), unauthorized (401 with nothing), gateway (502 in HTML).

A simulator prints its port and ends when its standard input is closed.
"""

import http.server
import json
import os
import sys
import threading
import time
import urllib.parse

LOGIN_PAGE = b"<!doctype html><html><head><title>Login</title></head><body><form>hunter2</form></body></html>"


class Simulator:
    """The state; subclasses answer in `handle(call)`."""

    def __init__(self):
        self.lock = threading.RLock()
        self.faults = []
        self.calls = []
        self.closed = threading.Event()

    def fault_for(self, method, path):
        with self.lock:
            for fault in self.faults:
                fits = path.startswith(fault["path"]) and fault.get("method", method) == method
                if fits and fault.get("times", 1) > 0:
                    if "times" in fault:
                        fault["times"] -= 1
                    return fault["mode"]
        return None

    def state(self):
        return {}

    def set(self, values):
        for key, value in values.items():
            setattr(self, key, value)

    def handle(self, call):
        raise NotImplementedError


class Call(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are two writes: without this each answer waits for the other side's acknowledgement.
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    @property
    def simulator(self):
        return self.server.simulator

    def answer(self, status, body=b"", content_type="application/json", headers=()):
        """What is answered when `handle` is over: an answer that takes long holds no lock."""
        self.prepared = (status, body, content_type, headers)

    def send_prepared(self, status, body, content_type, headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        fault = self.simulator.fault_for(self.command, self.path_only)
        if fault == "hangup":
            self.close_connection = True
            return
        if fault == "silence":
            self.hold()
            return
        if fault == "empty":
            status, body = 200, b""
        elif fault == "html":
            status, body, content_type = 200, LOGIN_PAGE, "text/html; charset=UTF-8"
        elif fault == "teapot":
            status, body, content_type = 418, b"short and stout", "text/plain"
        elif fault == "error":
            status, body = 500, b'{"message":"database is locked"}'
        elif fault == "unauthorized":
            status, body = 401, b""
        elif fault == "gateway":
            status, body, content_type = 502, b"<html>Bad Gateway</html>", "text/html"
        elif fault == "half-json":
            body = body[: max(1, len(body) // 2)]
        elif fault == "flip" and body:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 0x55]) + body[middle + 1 :]
        announced = len(body)
        if fault == "huge":
            announced = 1 << 40
        self.send_response(status)
        if body or content_type:
            self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(announced))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if fault in ("truncate", "huge"):
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif fault == "drip":
            self.wfile.write(body[:1])
            self.wfile.flush()
            self.hold()
        elif self.command != "HEAD":
            self.wfile.write(body)

    def hold(self):
        self.close_connection = True
        self.simulator.closed.wait(60)

    def json(self):
        return json.loads(self.body or b"null")

    def form(self):
        return {name: values[0] for name, values in urllib.parse.parse_qs(self.body.decode()).items()}

    def multipart_file(self):
        """The first file of a multipart form: (file name, bytes)."""
        content_type = self.headers.get("Content-Type", "")
        if "boundary=" not in content_type:
            return None
        boundary = content_type.split("boundary=")[1].strip('"').encode()
        for part in self.body.split(b"--" + boundary):
            head, _, content = part.partition(b"\r\n\r\n")
            if b'filename="' in head:
                name = head.split(b'filename="')[1].split(b'"')[0].decode()
                return name, content[:-2]
        return None

    def serve(self):
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            self.body = b""
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                self.body += self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    break
        else:
            self.body = self.rfile.read(length)
        url = urllib.parse.urlsplit(self.path)
        self.path_only = urllib.parse.unquote(url.path)
        self.query = {name: values[0] for name, values in urllib.parse.parse_qs(url.query).items()}
        simulator = self.simulator
        if self.path_only.startswith("/__"):
            self.control(simulator)
            return
        with simulator.lock:
            simulator.calls.append(f"{self.command} {self.path_only}")
        self.prepared = (500, b"the simulator has no answer", "text/plain", ())
        simulator.handle(self)
        self.send_prepared(*self.prepared)

    def control(self, simulator):
        body = b"{}"
        with simulator.lock:
            if self.path_only == "/__fault":
                simulator.faults.append(self.json())
            elif self.path_only == "/__mend":
                simulator.faults.clear()
            elif self.path_only == "/__set":
                simulator.set(self.json())
            elif self.path_only == "/__state":
                body = json.dumps({"calls": simulator.calls, **simulator.state()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = serve


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        # A caller that hung up is no news; a mistake of the simulator is.
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, BrokenPipeError)):
            super().handle_error(request, client_address)


def serve(simulator, port=0):
    """Serves for ever, and ends with its starter."""
    server = Server(("127.0.0.1", port), Call)
    server.simulator = simulator
    simulator.server = server
    simulator.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    print(simulator.port, flush=True)
    sys.stdin.read()
    os._exit(0)


def restart(simulator, away_s):
    """Refuses connections for a while, as an application that restarts."""

    def work():
        time.sleep(0.05)
        old = simulator.server
        old.shutdown()
        old.server_close()
        time.sleep(away_s)
        server = Server(("127.0.0.1", simulator.port), Call)
        server.simulator = simulator
        simulator.server = server
        simulator.came_back()
        server.serve_forever(poll_interval=0.02)

    threading.Thread(target=work, daemon=True).start()
