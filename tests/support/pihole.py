"""A Pi-hole 6: sessions with 16 seats, the login's rate limit, the second factor, app passwords, Teleporter, restarts.

Options: --password, --app-password, --app-sudo yes, --totp SECRET (base32), --seats N (taken by others),
--old-versions yes. Settings: `clock` (seconds that its clock is off), `used_code` (the last one that it took), `totp_after_import` (the
secret that the imported settings bring).
Faults beyond those of every simulator: no-gravity, no-toml, no-section, bad-toml, not-a-database, damaged-database,
missing-table, extra-table, no-group, skips-in-silence (an import leaves out a table), import-hangs (it takes some tables and does not come to its end),
slow (an export takes a while),
import-fails, kept-session (logging out fails once), codes-busy (somebody else tries codes all the time), codes-used
(somebody else is always first).
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
import socket
import sqlite3
import tempfile
import threading
import time
import zipfile
import io

import simulator

SEATS = 16
GRAVITY = {
    "group": "id INTEGER, enabled INTEGER, name TEXT, description TEXT",
    "adlist": "id INTEGER, address TEXT, enabled INTEGER, comment TEXT",
    "adlist_by_group": "adlist_id INTEGER, group_id INTEGER",
    "domainlist": "id INTEGER, type INTEGER, domain TEXT, enabled INTEGER",
    "domainlist_by_group": "domainlist_id INTEGER, group_id INTEGER",
    "client": "id INTEGER, ip TEXT, comment TEXT",
    "client_by_group": "client_id INTEGER, group_id INTEGER",
}
FTL = {
    "message": "id INTEGER, type TEXT, message TEXT",
    "aliasclient": "id INTEGER, name TEXT",
    "network": "id INTEGER, hwaddr TEXT",
    "network_addresses": "network_id INTEGER, ip TEXT",
}
LEASES = "1732240000 aa:bb:cc:dd:ee:ff 192.168.1.50 laptop *\n"


def default_tables():
    return {
        "group": [[0, 1, "Default", "The default group"], [1, 1, "kids", None]],
        "adlist": [[1, "https://lists.example/hosts", 1, None]],
        "adlist_by_group": [[1, 0], [1, 1]],
        "domainlist": [[1, 0, "good.example", 1], [2, 1, "bad.example", 1], [3, 3, "(^|\\.)ads\\.", 1]],
        "domainlist_by_group": [[1, 0], [2, 0], [3, 1]],
        "client": [[1, "192.168.1.0/24", "the house"]],
        "client_by_group": [[1, 1]],
    }


def database(tables, rows, fault=""):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "x.db")
        connection = sqlite3.connect(path)
        for name, columns in tables.items():
            connection.execute(f'CREATE TABLE "{name}" ({columns})')
            for row in rows.get(name, []):
                connection.execute(f'INSERT INTO "{name}" VALUES ({",".join("?" * len(row))})', row)
        if fault == "damaged-database":
            connection.execute("CREATE INDEX i ON domainlist (domain)")
            connection.execute("PRAGMA writable_schema = ON")
            connection.commit()
            # An index that knows of no row: the file reads, and is not sound.
            root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'i'").fetchone()[0]
            size = connection.execute("PRAGMA page_size").fetchone()[0]
            connection.close()
            with open(path, "r+b") as file:
                file.seek((root - 1) * size + 3)
                file.write(b"\x00\x00")
        else:
            connection.commit()
            connection.close()
        with open(path, "rb") as file:
            return file.read()


class Pihole(simulator.Application):
    def __init__(self, options):
        super().__init__(options)
        self.password = options.get("password", "")
        self.app_password = options.get("app-password", "")
        self.app_sudo = options.get("app-sudo") == "yes"
        self.totp_secret = options.get("totp", "")
        self.clock = 0
        self.totp_after_import = ""
        self.used_code = ""
        self.code_seen_at = 0
        self.codes_seen = 0
        self.sessions = {}
        self.next_id = 0
        for _ in range(int(options.get("seats", 0))):
            self.open("Mozilla/5.0", False)
        self.opened = 0
        self.seats_most = 0
        self.failed_logins = []
        self.tables = default_tables()
        self.hostname = "pihole"
        self.imports = 0
        self.restarts = 0
        self.gravity_runs = 0
        self.domains = 1000
        self.gravity_path = "/etc/pihole/gravity.db"

    def state(self):
        return {
            **super().state(),
            "sessions": [each["user_agent"] for each in self.sessions.values()],
            "opened": self.opened,
            "codes_seen": self.codes_seen,
            "imports": self.imports,
            "restarts": self.restarts,
            "gravity_runs": self.gravity_runs,
            "tables": self.tables,
            "hostname": self.hostname,
        }

    def set(self, name, value):
        if name == "forget":
            for table in value.split(","):
                self.tables[table] = []
        else:
            super().set(name, value)

    def toml(self):
        return (
            "# Pi-hole configuration file (v6.4.1)\n# Encoding: UTF-8\n\n[dns]\n"
            '  upstreams = [ "9.9.9.9", "149.112.112.112" ]\n  hosts = [ "192.168.1.10 nas" ]\n  cnameRecords = []\n'
            f'  domain = "{self.hostname}"\n\n[dhcp]\n  active = true\n  hosts = []\n\n'
            '[webserver]\n  port = "80o,443os,[::]:80o,[::]:443os"\n\n  [webserver.api]\n    max_sessions = 16\n'
            f'    pwhash = "$BALLOON-SHA256$v=1$s=1024,t=32$c2FsdA$hash"\n\n'
            f'[files]\n  database = "/etc/pihole/pihole-FTL.db"\n  gravity = "{self.gravity_path}"\n'
        )

    def archive(self):
        fault = self.fault
        tables = dict(GRAVITY)
        rows = dict(self.tables)
        if fault == "missing-table":
            del tables["domainlist"]
        if fault == "extra-table":
            tables["gravity"] = "domain TEXT, adlist_id INTEGER"
        if fault == "no-group":
            rows["group"] = []
        toml = self.toml()
        if fault == "bad-toml":
            toml = toml.replace("[dhcp]", "[dhcp")
        if fault == "no-section":
            toml = toml.replace("[webserver]", "[web]").replace("[webserver.api]", "[web.api]")
        gravity = b"not a database " * 100 if fault == "not-a-database" else database(tables, rows, fault)
        members = [
            ("etc/pihole/pihole.toml", toml.encode()),
            ("etc/hosts", b"127.0.0.1 localhost\n"),
            ("etc/pihole/dhcp.leases", LEASES.encode()),
            ("etc/dnsmasq.d/99-local.conf", b"address=/printer.lan/192.168.1.9\n"),
            (self.gravity_path[1:], gravity),
            ("etc/pihole/pihole-FTL.db", database(FTL, {"network": [[1, "aa:bb"]], "message": []})),
        ]
        dropped = {"no-gravity": "etc/pihole/gravity.db", "no-toml": "etc/pihole/pihole.toml"}.get(fault)
        return simulator.make_zip([each for each in members if each[0] != dropped])

    def open(self, user_agent, app):
        sid = base64.b64encode(secrets.token_bytes(16)).decode()
        self.sessions[sid] = {"id": self.next_id, "user_agent": user_agent[:127], "app": app, "at": int(time.time())}
        self.next_id += 1
        return sid

    def error(self, call, status, key, message, hint=None):
        call.reply_json(status, {"error": {"key": key, "message": message, "hint": hint}, "took": 0.001})

    def session_json(self, valid, sid, message):
        return {
            "session": {
                "valid": valid,
                "totp": bool(self.totp_secret),
                "sid": sid,
                "csrf": secrets.token_hex(8) if sid else None,
                "validity": 1800 if sid else -1,
                "message": message,
            },
            "took": 0.003,
        }

    def answer(self, call):
        method, path = call.route
        sid = call.headers.get("X-FTL-SID") or call.headers.get("sid") or call.query.get("sid")
        with self.lock:
            session = self.sessions.get(sid)
            allowed = session is not None or not self.password
        if not path.startswith("/api/"):
            return call.reply(200, simulator.LOGIN_PAGE)
        if call.route == ("POST", "/api/auth"):
            return self.login(call)
        if call.route == ("GET", "/api/auth"):
            valid = allowed
            return call.reply_json(200 if valid else 401, self.session_json(valid, sid if session else None, None))
        if not allowed:
            return self.error(call, 401, "unauthorized", "Unauthorized")
        if call.route == ("DELETE", "/api/auth"):
            with self.lock:
                if self.fault == "kept-session":
                    self.fault = ""
                    return self.error(call, 500, "internal_error", "Internal error")
                if self.sessions.pop(sid, None) is None:
                    return self.error(call, 401, "unauthorized", "Unauthorized")
            return call.reply(204, b"")
        if call.route == ("GET", "/api/auth/sessions"):
            listed = [
                {"id": each["id"], "current_session": key == sid, "valid": True, "app": each["app"], "cli": False,
                 "tls": {"login": False, "mixed": False}, "login_at": each["at"], "last_active": each["at"],
                 "valid_until": each["at"] + 1800, "remote_addr": "127.0.0.1", "user_agent": each["user_agent"],
                 "x_forwarded_for": None}
                for key, each in self.sessions.items()
            ]
            return call.reply_json(200, {"sessions": listed, "took": 0.001})
        if method == "DELETE" and path.startswith("/api/auth/session/"):
            wanted = int(path.rsplit("/", 1)[1])
            with self.lock:
                found = [key for key, each in self.sessions.items() if each["id"] == wanted]
                if not found:
                    return self.error(call, 400, "bad_request", "Session ID not in use")
                del self.sessions[found[0]]
            return call.reply(204, b"")
        if call.route == ("GET", "/api/teleporter"):
            if self.fault == "compression":
                return self.error(call, 500, "compression_error", "Failed to create archive")
            if self.fault == "slow":
                time.sleep(30)
            name = 'attachment; filename="pi-hole_pihole_teleporter_2026-11-22_03-00-00_UTC.zip"'
            return call.export(self.archive(), "application/zip", [("Content-Disposition", name)])
        if call.route == ("POST", "/api/teleporter"):
            return self.restore(call, session)
        if call.route == ("GET", "/api/info/version"):
            if self.options.get("old-versions"):
                return self.error(call, 500, "internal_error", "Could not read versions file")
            one = lambda version: {"local": {"version": version, "branch": "master"}, "remote": {"version": version}}
            version = {"core": one("v6.2"), "web": one("v6.3"), "ftl": one("v6.4.1"), "docker": {"local": None}}
            return call.reply_json(200, {"version": version, "took": 0.001})
        if call.route == ("GET", "/api/config/webserver/api/app_sudo"):
            return call.reply_json(200, {"config": {"webserver": {"api": {"app_sudo": self.app_sudo}}}, "took": 0.001})
        if call.route == ("GET", "/api/stats/summary"):
            counts = {"domains_being_blocked": self.domains, "last_update": int(time.time())}
            return call.reply_json(200, {"queries": {"total": 3}, "gravity": counts, "took": 0.001})
        if call.route == ("POST", "/api/action/gravity"):
            return self.gravity(call)
        return self.error(call, 404, "not_found", "Not found", path)

    def gravity(self, call):
        """Answers before the work is done; a failure is told at the end of the stream, or behind its last chunk."""
        self.gravity_runs += 1
        output = "  [i] Target: https://lists.example/hosts\n"
        error = json.dumps({"error": {"key": "internal_error", "message": "Gravity failed", "hint": None}, "took": 1.2})
        failed = self.fault in ("gravity-fails", "gravity-fails-behind")
        if not failed:
            self.domains = 1000 if self.tables["adlist"] else 0
        body = (output + ("  [\u2717] failed\n" if failed else "  [OK] Done\n")).encode()
        call.body()
        call.send_response(200)
        call.send_header("Content-Type", "text/plain")
        call.send_header("Transfer-Encoding", "chunked")
        call.end_headers()
        if self.fault == "gravity-fails":
            body += error.encode()
        call.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
        if self.fault in ("gravity-fails-behind", "gravity-chatters"):
            # Seen: it writes on behind the last chunk, so the next answer on this connection is nonsense.
            call.wfile.write(error.encode())

    def login(self, call):
        given = call.json_body()
        if given is None:
            return self.error(call, 400, "bad_request", "No request body data")
        if "password" not in given:
            return self.error(call, 400, "bad_request", "No password found in JSON payload")
        password = given["password"]
        with self.lock:
            if not self.password:
                return call.reply_json(200, self.session_json(True, None, "password incorrect"))
            app = bool(self.app_password) and password == self.app_password
            if not app and password != self.password:
                now = time.monotonic()
                self.failed_logins = [each for each in self.failed_logins if now - each < 1] + [now]
                if len(self.failed_logins) > 3:
                    return self.error(call, 429, "rate_limiting", "Rate-limiting login attempts")
                return call.reply_json(401, self.session_json(False, None, "password incorrect"))
            if self.fault == "rate-limit":
                return self.error(call, 429, "rate_limiting", "Rate-limiting login attempts")
            if self.totp_secret and not app:
                if "totp" not in given:
                    return self.error(call, 400, "bad_request", "No 2FA token found in JSON payload")
                refused = self.refused_code(given["totp"])
                if refused is not None:
                    return self.error(call, *refused)
            if len(self.sessions) >= SEATS:
                hint = "increase webserver.api.max_sessions"
                return self.error(call, 429, "api_seats_exceeded", "API seats exceeded", hint)
            sid = self.open(call.headers.get("User-Agent", ""), app)
            self.opened += 1
        message = "app-password correct" if app else "password correct"
        cookie = [("Set-Cookie", f"sid={sid}; SameSite=Lax; Path=/; Max-Age=1800; HttpOnly")]
        call.reply_json(200, self.session_json(True, sid, message), cookie)

    def refused_code(self, code):
        """Why a code of the second factor is not taken: a number, the one of this step or a neighbour, each only once."""
        self.codes_seen += 1
        now = int(time.time())
        if now == self.code_seen_at or self.fault == "codes-busy":
            return 429, "rate_limiting", "Rate-limiting 2FA token requests, try again later"
        self.code_seen_at = now
        step = (now + int(self.clock)) // 30
        right = [self.code(step + near) for near in (-1, 0, 1)]
        if type(code) is not int or code not in right:
            return 401, "unauthorized", "Invalid 2FA token"
        if str(code) == self.used_code or self.fault == "codes-used":
            return 401, "unauthorized", "Reused 2FA token"
        self.used_code = str(code)
        return None

    def code(self, step):
        digest = hmac.new(base64.b32decode(self.totp_secret), step.to_bytes(8, "big"), hashlib.sha1).digest()
        at = digest[-1] & 15
        return (int.from_bytes(digest[at : at + 4], "big") & 0x7FFFFFFF) % 10**6

    def restore(self, call, session):
        form = call.multipart()
        if form is None or "file" not in form:
            return self.error(call, 400, "bad_request", "Invalid form request")
        if session is not None and session["app"] and not self.app_sudo:
            message = "Unable to change configuration (read-only)"
            return self.error(call, 403, "forbidden", message, "The current app session is not allowed to modify Pi-hole")
        name, content = form["file"]
        if not name.endswith(".zip") or not content.startswith(b"PK"):
            return self.error(call, 400, "bad_request", "Invalid file", "The uploaded file does not appear to be valid")
        wanted = json.loads(form["import"][1]) if "import" in form else None
        if self.fault == "import-fails":
            hint = "Failed to parse received ZIP archive: failed finding central directory"
            return self.error(call, 400, "bad_request", "Invalid request", hint)
        with zipfile.ZipFile(io.BytesIO(content)) as archive, self.lock:
            files = []
            if wanted is None or wanted.get("config"):
                text = archive.read("etc/pihole/pihole.toml").decode()
                self.hostname = text.split('domain = "')[1].split('"')[0]
                files.append("etc/pihole/pihole.toml")
                self.sessions.clear()
                self.totp_secret = self.totp_after_import or self.totp_secret
            if wanted is None or wanted.get("dhcp_leases"):
                files.append("etc/pihole/dhcp.leases")
            with tempfile.TemporaryDirectory() as directory:
                archive.extractall(directory)
                os.makedirs(os.path.join(directory, "etc/pihole"), exist_ok=True)
                connection = sqlite3.connect(os.path.join(directory, "etc/pihole/gravity.db"))
                # Under another name it is not found, and nobody is told.
                for table in GRAVITY if "etc/pihole/gravity.db" in archive.namelist() else ():
                    if wanted is not None and not wanted.get("gravity", {}).get(table):
                        continue
                    if self.fault == "skips-in-silence" and table == "adlist":
                        continue
                    if self.fault == "import-hangs" and table == "domainlist":
                        break
                    self.tables[table] = [list(row) for row in connection.execute(f'SELECT * FROM "{table}"')]
                    files.append(f"etc/pihole/gravity.db->{table}")
                    # What was downloaded is gone with the old tables, until gravity ran.
                    self.domains = 0
                connection.close()
            self.imports += 1
        if self.fault == "import-hangs":
            time.sleep(30)
        call.reply_json(200, {"files": files, "took": 0.05})
        threading.Thread(target=self.restart, daemon=True).start()

    def restart(self):
        """The process ends and comes back: nobody listens on its port for a while, then it answers 400 for a moment."""
        self.restarts += 1
        self.used_code = ""
        time.sleep(0.1)
        server, address, tls = self.server, self.server.server_address, self.server.tls
        server.shutdown()
        server.server_close()
        time.sleep(0.6)
        fresh = simulator.Server(address, server.RequestHandlerClass)
        fresh.tls = tls
        self.server = fresh
        threading.Thread(target=fresh.serve_forever, args=(0.05,), daemon=True).start()


simulator.main(Pihole)
