"""An application that gives exports at addresses: /export.zip, .tar, .tar.gz, .json, .json.gz, .db, .xml, .html, /big;
one XML in other encodings and packed, unasked (`clothes`); dumps in a gzip, whole, cut and empty.

Options: --token T (bearer), --user U --password P (basic), --key K (query), --size BYTES (of /big), --version V.
"""

import gzip
import base64
import io
import json
import os
import sqlite3
import tarfile
import tempfile

import simulator

RULES = {"version": 3, "rules": [{"name": f"rule {n}", "when": "n" * 50} for n in range(200)]}


def tar(mode):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name in ("config.json", "data/notes.txt"):
            info = tarfile.TarInfo(name)
            content = os.urandom(3000)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def tar_of_nothing():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("dump.sql"))
    return out.getvalue()


def database():
    with tempfile.TemporaryDirectory() as directory:
        connection = sqlite3.connect(os.path.join(directory, "x.db"))
        connection.execute("CREATE TABLE notes (text)")
        connection.executemany("INSERT INTO notes VALUES (?)", [("x" * 200,)] * 500)
        connection.commit()
        connection.close()
        with open(os.path.join(directory, "x.db"), "rb") as file:
            return file.read()


XML = b'<?xml version="1.0"?>\n<backup version="2"><items>' + b"<item>one</item>" * 500 + b"</items></backup>\n"


DUMP = (b"--\n-- PostgreSQL database dump\n--\n\nCREATE TABLE public.t (i integer);\n\nCOPY public.t (i) FROM stdin;\n"
        b"1\n2\n\\.\n\n--\n-- PostgreSQL database dump complete\n--\n\n")

# The same text as other servers write it.
TEXT = '<?xml version="1.0" encoding="%s"?>\n<backup version="2"><name>Küche &amp; Flur</name>' + "<item>ö</item>" * 300 + "</backup>\n"


def clothes():
    plain = (TEXT % "UTF-8").encode()
    utf_16 = (TEXT % "UTF-16").encode("utf-16-le")
    return {
        "gzip": gzip.compress(plain),
        "bom": b"\xef\xbb\xbf" + plain,
        "latin-1": (TEXT % "ISO-8859-1").encode("latin-1"),
        "latin-9": (TEXT % "iso-8859-15").encode("iso-8859-15"),
        "windows-1252": (TEXT % "windows-1252").encode("cp1252"),
        "utf-16le": b"\xff\xfe" + utf_16,
        "utf-16be": b"\xfe\xff" + (TEXT % "UTF-16").encode("utf-16-be"),
        "utf-16-without-a-mark": utf_16,
        "gzip-of-utf-16": gzip.compress(b"\xff\xfe" + utf_16),
        "gzip-of-latin-1": gzip.compress((TEXT % "ISO-8859-1").encode("latin-1")),
        "unknown": (TEXT % "KOI8-R").encode("latin-1"),
    }


class Exporter(simulator.Application):
    def __init__(self, options):
        super().__init__(options)
        self.exports = {
            "/export.zip": ("application/zip", simulator.make_zip([("a.json", b"{}"), ("b.bin", os.urandom(5000))])),
            "/export.tar": ("application/x-tar", tar("w")),
            "/export.tar.gz": ("application/gzip", tar("w:gz")),
            "/export.json": ("application/json; charset=utf-8", json.dumps(RULES).encode()),
            "/export.json.gz": ("application/gzip", gzip.compress(json.dumps(RULES).encode() + os.urandom(9000))),
            "/export.db": ("application/octet-stream", database()),
            "/export.xml": ("application/xml", XML),
            "/export.html": ("text/html; charset=utf-8", simulator.LOGIN_PAGE * 20),
            "/": ("application/json", json.dumps(RULES).encode()),
            "/nothing.sql.gz": ("application/gzip", gzip.compress(b"")),
            "/nothing.tar.gz": ("application/gzip", tar_of_nothing()),
            "/dump.sql.gz": ("application/gzip", gzip.compress(DUMP)),
            "/cut.sql.gz": ("application/gzip", gzip.compress(DUMP[:-60])),
        }
        self.exports.update({f"/{name}.xml": ("application/xml", content) for name, content in clothes().items()})
        self.sent = {}

    def state(self):
        return {**super().state(), "sent": self.sent}

    def answer(self, call):
        body = call.body().decode()
        self.sent = {"method": call.command, "body": body, "type": call.headers.get("Content-Type"),
                     "accept": call.headers.get("Accept"), "tenant": call.headers.get("X-Tenant")}
        given = call.headers.get("Authorization", "")
        wanted = ""
        if "token" in self.options:
            wanted = "Bearer " + self.options["token"]
        if "user" in self.options:
            pair = f"{self.options['user']}:{self.options['password']}"
            wanted = "Basic " + base64.b64encode(pair.encode()).decode()
        if given != wanted or call.query.get("key") != self.options.get("key"):
            return call.reply_json(401, {"message": "Who are you?"})
        if "header" in self.options and call.headers.get("X-Api-Key") != self.options["header"]:
            return call.reply_json(403, {"message": "Forbidden"})
        path = call.split.path
        if path == "/encoded.xml":
            # A server that packs although nobody said that it may.
            return call.export(clothes()["gzip"], "application/xml", [("Content-Encoding", "gzip")])
        if path == "/big":
            return self.big(call, int(self.options["size"]))
        if path == "/nothing":
            return call.reply(204, b"")
        if path == "/busy":
            return call.reply(503, b"one moment", "text/plain")
        if path not in self.exports:
            return call.reply_json(404, {"message": "no such page"})
        kind, content = self.exports[path]
        return call.export(content, kind, [("X-App-Version", "9.1.4")])

    def big(self, call, size):
        call.send_response(200)
        call.send_header("Content-Type", "application/octet-stream")
        call.send_header("Content-Length", str(size))
        call.end_headers()
        piece = os.urandom(1 << 20)
        while size > 0:
            call.wfile.write(piece[:size])
            size -= len(piece)


simulator.main(Exporter)
