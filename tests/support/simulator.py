"""What the simulated applications of the tests have in common: HTTP and HTTPS, damage on request, a door for the test.

A simulator is started as `python3 pihole.py [--tls KIND] [--NAME VALUE …]`. It prints one line of JSON when it is ready:
{"url", "control", "ca", "fingerprint"}. On the control address (plain HTTP, another port) the test reads the state
(GET /__state) and sets what it wants (GET /__set?fault=truncated). The kinds of certificates: `good` (signed by a
private authority for localhost and 127.0.0.1), `other-name`, `expired`, `self-signed`.

Only the standard library is used; certificates are made by the program openssl.
"""

import argparse
import gzip
import hashlib
import http.server
import io
import json
import os
import secrets
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import zipfile

LOGIN_PAGE = b"<!DOCTYPE html>\n<html><head><title>Login</title></head><body><form>Sign in</form></body></html>\n"


class Application:
    """The state of a simulated application. A simulator derives from it and says how it answers."""

    def __init__(self, options):
        self.lock = threading.RLock()
        self.fault = options.get("fault", "")
        self.requests = []
        self.server = None
        self.options = options

    def state(self):
        """What a test sees; a simulator adds its own."""
        return {"requests": list(self.requests)}

    def set(self, name, value):
        setattr(self, name, value)

    def answer(self, call):
        raise NotImplementedError


class Call(http.server.BaseHTTPRequestHandler):
    """One request, with what makes answering it short."""

    protocol_version = "HTTP/1.1"
    application = None

    def log_message(self, *args):
        pass

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (ConnectionError, ssl.SSLError, TimeoutError):
            self.close_connection = True

    def _any(self):
        self.split = urllib.parse.urlsplit(self.path)
        self.query = dict(urllib.parse.parse_qsl(self.split.query, keep_blank_values=True))
        self.route = (self.command, self.split.path)
        self._body = None
        with self.application.lock:
            self.application.requests.append(f"{self.command} {self.split.path}")
        self.application.answer(self)
        if self._body is None and int(self.headers.get("Content-Length") or 0) > 0:
            self.body()

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _any

    def body(self):
        if self._body is None:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                parts = []
                while True:
                    size = int(self.rfile.readline().split(b";")[0], 16)
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                    if size == 0:
                        break
                self._body = b"".join(parts)
            else:
                self._body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return self._body

    def json_body(self):
        try:
            return json.loads(self.body() or b"null")
        except ValueError:
            return None

    def form_body(self):
        return dict(urllib.parse.parse_qsl(self.body().decode(), keep_blank_values=True))

    def multipart(self):
        """{name: (file name or None, bytes)}"""
        kind = self.headers.get("Content-Type", "")
        if not kind.startswith("multipart/form-data") or "boundary=" not in kind:
            return None
        boundary = b"--" + kind.split("boundary=")[1].strip('"').encode()
        found = {}
        for part in self.body().split(boundary)[1:-1]:
            head, _, content = part[2:].partition(b"\r\n\r\n")
            words = {}
            for line in head.decode().split("\r\n"):
                if line.lower().startswith("content-disposition"):
                    for word in line.split(";")[1:]:
                        name, _, value = word.strip().partition("=")
                        words[name] = value.strip('"')
            found[words.get("name")] = (words.get("filename"), content[:-2])
        return found

    def cookies(self):
        pairs = (each.strip().partition("=") for each in self.headers.get("Cookie", "").split(";"))
        return {name: value for name, _, value in pairs}

    def reply(self, status, body=b"", content_type="text/html", headers=()):
        self.body()
        self.send_response(status)
        if content_type:
            self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def reply_json(self, status, value, headers=()):
        self.reply(status, json.dumps(value).encode(), "application/json; charset=utf-8", headers)

    def redirect(self, to, headers=()):
        self.reply(302, b"", "text/html", [("Location", to), *headers])

    def export(self, body, content_type, headers=()):
        """Sends an export, damaged as the test wants it."""
        fault = self.application.fault
        body = dressed(body, getattr(self.application, "clothes", ""))
        half = len(body) // 2
        if fault == "empty":
            return self.reply(200, b"", content_type, headers)
        if fault == "html":
            return self.reply(200, LOGIN_PAGE, "text/html; charset=utf-8")
        if fault == "html-as-export":
            return self.reply(200, LOGIN_PAGE, content_type, headers)
        if fault == "six-bytes":
            return self.reply(200, b"string", content_type, headers)
        if fault == "redirect":
            return self.redirect("/login?next=%2Fexport")
        if fault == "error":
            return self.reply_json(500, {"message": "the disk is on fire"})
        if fault == "forbidden":
            return self.reply_json(403, {"message": "Forbidden"})
        if fault == "flipped":
            body = body[:half] + bytes([body[half] ^ 0x20]) + body[half + 1 :]
            return self.reply(200, body, content_type, headers)
        if fault in ("truncated", "silence", "huge", "half-closed", "reset"):
            self.body()
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            if fault == "half-closed":
                self.send_header("Connection", "close")
            else:
                self.send_header("Content-Length", str(10**15 if fault == "huge" else len(body)))
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[:half])
            self.wfile.flush()
            if fault == "silence":
                time.sleep(float(self.application.options.get("silence", 20)))
            if fault == "half-closed" and not isinstance(self.connection, ssl.SSLSocket):
                self.connection.shutdown(socket.SHUT_WR)
                time.sleep(0.5)
            if fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            return None
        return self.reply(200, body, content_type, headers)


def dressed(body, clothes):
    """The export as another server of the same kind writes it: `gzip`, `bom`, `utf-16`, `latin-1`, or two with a `+`."""
    head = b'<?xml version="1.0"'
    for each in filter(None, clothes.split("+")):
        if each == "gzip":
            body = gzip.compress(body)
        elif each == "bom":
            body = b"\xef\xbb\xbf" + body
        elif each == "utf-16":
            body = b"\xff\xfe" + body.replace(head, head + b' encoding="UTF-16"').decode().encode("utf-16-le")
        else:
            body = body.replace(head + b"?>", head + ' encoding="ISO-8859-1"?><!-- Küche -->'.encode()).decode().encode("latin-1")
    return body


class Control(http.server.BaseHTTPRequestHandler):
    application = None

    def log_message(self, *args):
        pass

    def do_GET(self):
        split = urllib.parse.urlsplit(self.path)
        with self.application.lock:
            if split.path == "/__set":
                for name, value in urllib.parse.parse_qsl(split.query, keep_blank_values=True):
                    self.application.set(name, value)
            body = json.dumps(self.application.state()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request, client_address):
        kind = sys.exc_info()[0]
        if not issubclass(kind, (ConnectionError, ssl.SSLError, TimeoutError)):
            super().handle_error(request, client_address)

    def get_request(self):
        connection, address = super().get_request()
        if self.tls is not None:
            # The handshake belongs to the thread of the request: one bad client must not stop the others.
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    tls = None


class Unseekable(io.RawIOBase):
    """A stream to which zipfile writes as servers do: sizes and checksums behind each member."""

    def __init__(self):
        self.parts = []

    def writable(self):
        return True

    def write(self, data):
        self.parts.append(bytes(data))
        return len(data)


def make_zip(members):
    """A zip as servers stream it: with data descriptors, its sizes only in the central directory."""
    stream = Unseekable()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name, (2026, 11, 22, 3, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return b"".join(stream.parts)


def openssl(*arguments, cwd):
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def certificates(directory, kind):
    """Makes ca.crt, server.key and server.crt."""
    name = "elsewhere.example" if kind == "other-name" else "localhost"
    names = f"subjectAltName=DNS:{name}" + ("" if kind == "other-name" else ",IP:127.0.0.1")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    if kind == "self-signed":
        openssl("req", "-x509", *key, "-days", "2", "-subj", f"/CN={name}", "-addext", names,
                "-keyout", "server.key", "-out", "server.crt", cwd=directory)
        return
    openssl("req", "-x509", *key, "-days", "2", "-subj", "/CN=Private test authority",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign",
            "-keyout", "ca.key", "-out", "ca.crt", cwd=directory)
    openssl("req", *key, "-subj", f"/CN={name}", "-keyout", "server.key", "-out", "server.csr", cwd=directory)
    with open(os.path.join(directory, "ca.cnf"), "w", encoding="utf-8") as config:
        config.write("[ca]\ndefault_ca=a\n[a]\ndatabase=index.txt\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\n"
                     "policy=p\nunique_subject=no\ncopy_extensions=none\n[p]\ncommonName=supplied\n"
                     f"[e]\nbasicConstraints=CA:FALSE\n{names}\n")
    for file, text in (("index.txt", ""), ("serial", "01\n")):
        with open(os.path.join(directory, file), "w", encoding="utf-8") as out:
            out.write(text)
    dates = ("20200101000000Z", "20210101000000Z") if kind == "expired" else ("20200101000000Z", "20491231000000Z")
    openssl("ca", "-batch", "-config", "ca.cnf", "-extensions", "e", "-startdate", dates[0], "-enddate", dates[1],
            "-cert", "ca.crt", "-keyfile", "ca.key", "-in", "server.csr", "-out", "server.crt", "-notext",
            cwd=directory)


def main(make):
    """Serves the application that `make(options)` gives until standard input ends, so no test leaves one behind."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tls", default="")
    known, rest = parser.parse_known_args()
    options = {name[2:]: value for name, value in zip(rest[::2], rest[1::2])}
    application = make(options)
    handler = type("Handler", (getattr(application, "handler", Call),), {"application": application})
    directory = tempfile.TemporaryDirectory(prefix="larder-sim-")
    server = Server(("127.0.0.1", 0), handler)
    application.server = server
    ready = {"url": f"http://127.0.0.1:{server.server_port}"}
    if known.tls:
        certificates(directory.name, known.tls)
        path = lambda name: os.path.join(directory.name, name)
        server.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.tls.load_cert_chain(path("server.crt"), path("server.key"))
        with open(path("server.crt"), encoding="ascii") as pem:
            der = ssl.PEM_cert_to_DER_cert(pem.read())
        ready = {"url": f"https://localhost:{server.server_port}", "ca": path("ca.crt"),
                 "fingerprint": hashlib.sha256(der).hexdigest()}
    control = Server(("127.0.0.1", 0), type("Door", (Control,), {"application": application}))
    ready["control"] = f"127.0.0.1:{control.server_port}"
    threading.Thread(target=control.serve_forever, daemon=True).start()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    application.url = ready["url"]
    print(json.dumps(ready), flush=True)
    sys.stdin.read()
    directory.cleanup()
    os._exit(0)


def token(size=16):
    return secrets.token_hex(size)
