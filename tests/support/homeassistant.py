"""A Home Assistant 2025.4 (Core): its WebSocket with the commands of backups, download, upload, slow jobs.

Options: --token T, --version V, --admin no, --seconds N (how long a backup takes), --os yes (Home Assistant OS).
Faults beyond those of every simulator: agent-fails, job-fails, job-lost, protected (the list says so), securetar (a
part is encrypted), no-index, bad-index, no-core, no-storage, no-configuration, no-database, damaged-database,
cut-inner, missing-addon, not-deleted, hangs-up (the socket ends after the order), quiet (no answer to commands),
wrong-size, old (no such commands); and what is no fault of the backup: being-read
(a part of the database is in its log), other-place-down (a second place for backups does not answer).
"""

import base64
import gzip
import hashlib
import io
import json
import os
import secrets
import sqlite3
import struct
import tarfile
import tempfile
import threading
import time

import simulator

MAGIC = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class WebSocket:
    """Frames of RFC 6455, the server's side."""

    def __init__(self, call):
        self.call = call
        key = call.headers["Sec-WebSocket-Key"]
        assert len(base64.b64decode(key)) == 16, key
        accept = base64.b64encode(hashlib.sha1((key + MAGIC).encode()).digest()).decode()
        call.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)):
            call.send_header(name, value)
        call.end_headers()
        call.wfile.flush()
        call.close_connection = True

    def send(self, value, fragments=1):
        data = json.dumps(value).encode()
        size = max(1, len(data) // fragments)
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        for index, piece in enumerate(pieces):
            opcode = 1 if index == 0 else 0
            self.frame((0x80 if index == len(pieces) - 1 else 0) | opcode, piece)
            if fragments > 1:
                # Control frames may come between.
                self.frame(0x89, b"ping")

    def frame(self, first, payload):
        head = bytes([first])
        if len(payload) < 126:
            head += bytes([len(payload)])
        elif len(payload) < 65536:
            head += bytes([126]) + struct.pack(">H", len(payload))
        else:
            head += bytes([127]) + struct.pack(">Q", len(payload))
        self.call.wfile.write(head + payload)
        self.call.wfile.flush()

    def receive(self):
        """The next message, None when the other side has gone."""
        whole = b""
        while True:
            head = self.call.rfile.read(2)
            if len(head) < 2:
                return None
            size = head[1] & 0x7F
            if size == 126:
                size = struct.unpack(">H", self.call.rfile.read(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", self.call.rfile.read(8))[0]
            assert head[1] & 0x80, "a client masks"
            mask = self.call.rfile.read(4)
            data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(self.call.rfile.read(size)))
            opcode = head[0] & 0x0F
            if opcode == 8:
                return None
            if opcode in (9, 10):
                continue
            whole += data
            if head[0] & 0x80:
                return json.loads(whole)


def database(fault):
    """The recorder's database, and its log beside it."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "x.db")
        connection = sqlite3.connect(path)
        # As the recorder has it; a backup holds the database after a checkpoint, and an empty log.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE states (state_id INTEGER PRIMARY KEY, state TEXT)")
        connection.execute("CREATE TABLE events (event_id INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO states (state) VALUES (?)", [(str(n) * 20,) for n in range(400)])
        connection.commit()
        if fault == "being-read":
            with open(path, "rb") as file, open(path + "-wal", "rb") as log:
                return file.read(), log.read()
        connection.close()
        with open(path, "rb") as file:
            data = bytearray(file.read())
        if fault == "damaged-database":
            data[4096:4200] = b"\xa5" * 104
        return bytes(data), b""


def add(archive, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mtime = 1732240000
    archive.addfile(info, io.BytesIO(content))


class HomeAssistant(simulator.Application):
    def __init__(self, options):
        super().__init__(options)
        self.version = options.get("version", "2025.4.4")
        self.agent = "hassio.local" if options.get("os") else "backup.local"
        self.backups = {}
        # One of somebody else, which must survive.
        self.keep("automatic backup", b"x")
        self.state_of_it = "idle"
        self.event = None
        self.generated = 0
        self.orders = []
        self.uploaded = 0

    def keep(self, name, content, protected=False):
        backup_id = secrets.token_hex(4)
        self.backups[backup_id] = {"name": name, "content": content, "protected": protected}
        return backup_id

    def state(self):
        return {**super().state(), "backups": sorted(each["name"] for each in self.backups.values()),
                "generated": self.generated, "uploaded": self.uploaded, "orders": self.orders, "busy": self.state_of_it}

    def core_tar(self, database_wanted):
        fault = self.fault
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            root = tarfile.TarInfo("data")
            root.type = tarfile.DIRTYPE
            archive.addfile(root)
            if fault != "no-configuration":
                add(archive, "data/configuration.yaml", b"default_config:\n")
            add(archive, "data/secrets.yaml", b"wifi: hunter2\n")
            if fault != "no-storage":
                add(archive, "data/.storage/core.config_entries", json.dumps({"data": {"entries": []}}).encode())
                add(archive, "data/.storage/auth", json.dumps({"data": {"users": []}}).encode())
                add(archive, "data/.storage/some.integration", os.urandom(2000))
            link = tarfile.TarInfo("data/www")
            link.type, link.linkname = tarfile.SYMTYPE, "/media/www"
            archive.addfile(link)
            if database_wanted and fault != "no-database":
                content, log = database(fault)
                add(archive, "data/home-assistant_v2.db-wal", log)
                add(archive, "data/home-assistant_v2.db", content)
        data = out.getvalue()
        return data[: len(data) // 2] if fault == "cut-inner" else data

    def tar(self, order):
        fault = self.fault
        addons = [{"slug": "core_mosquitto", "name": "Mosquitto", "version": "6.5"}] if self.options.get("os") else []
        index = {
            "slug": secrets.token_hex(4), "name": order["name"], "date": "2026-11-22T03:00:00+00:00", "type": "partial",
            "version": 2, "compressed": True, "protected": False, "crypto": None, "addons": addons,
            "folders": order.get("include_folders", []) if self.options.get("os") else [],
            "homeassistant": {"version": self.version, "exclude_database": not order["include_database"]}, "extra": {},
        }
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as archive:
            if fault != "no-index":
                text = json.dumps(index)
                add(archive, "./backup.json", (text[:-20] if fault == "bad-index" else text).encode())
            if fault != "no-core":
                core = self.core_tar(order["include_database"])
                if fault == "securetar":
                    core = b"SecureTar\x02" + os.urandom(3000)
                add(archive, "homeassistant.tar.gz", core)
            for each in [] if fault == "missing-addon" else addons:
                add(archive, f"{each['slug']}.tar.gz", self.small_tar(each["slug"]))
            for folder in index["folders"]:
                add(archive, folder.replace("/", "_") + ".tar.gz", self.small_tar(folder))
        return out.getvalue()

    def small_tar(self, name):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            add(archive, "data/options.json", json.dumps({"name": name}).encode())
        return out.getvalue()

    def make(self, order):
        time.sleep(float(self.options.get("seconds", 0.3)))
        with self.lock:
            failed = self.fault == "job-fails"
            if not failed and self.fault != "job-lost":
                self.keep(order["name"], self.tar(order), self.fault == "protected")
            self.event = {"manager_state": "create_backup", "reason": "upload_failed" if failed else None,
                          "stage": None, "state": "failed" if failed else "completed"}
            self.state_of_it = "idle"

    def listed(self, backup_id, each):
        failed = [self.agent] if self.fault == "agent-fails" and each["name"].startswith("larder") else []
        size = len(each["content"]) + (1 if self.fault == "wrong-size" else 0)
        agents = {} if failed else {self.agent: {"protected": each["protected"], "size": size}}
        return {"backup_id": backup_id, "name": each["name"], "date": "2026-11-22T03:00:00+00:00", "agents": agents,
                "failed_agent_ids": failed, "addons": [], "folders": [], "database_included": True,
                "homeassistant_included": True, "homeassistant_version": self.version,
                "with_automatic_settings": False, "extra_metadata": {}}

    def command(self, message):
        kind = message["type"]
        if self.options.get("admin") == "no":
            return None, ("unauthorized", "Unauthorized")
        if self.fault == "old" or not kind.startswith("backup/"):
            return None, ("unknown_command", "Unknown command.")
        if kind == "backup/agents/info":
            return {"agents": [{"agent_id": self.agent, "name": "local"}, {"agent_id": "cloud.cloud", "name": "cloud"}]}, None
        if kind == "backup/info":
            backups = [self.listed(*each) for each in self.backups.items()]
            return {"agent_errors": {}, "backups": backups, "last_action_event": self.event, "state": self.state_of_it,
                    "last_attempted_automatic_backup": None, "next_automatic_backup": None}, None
        if kind == "backup/generate":
            if self.state_of_it != "idle":
                return None, ("home_assistant_error", "Backup manager busy: create_backup")
            if not self.options.get("os") and ("include_folders" in message or "include_all_addons" in message):
                return None, ("home_assistant_error", "Addons and folders are not supported by core backup")
            self.state_of_it = "create_backup"
            self.generated += 1
            self.orders.append({key: value for key, value in message.items() if key not in ("id", "type", "name")})
            threading.Thread(target=self.make, args=(message,), daemon=True).start()
            return {"backup_job_id": secrets.token_hex(4)}, None
        if kind == "backup/delete":
            if self.fault == "not-deleted":
                self.fault = ""
                return {"agent_errors": {self.agent: "Permission denied"}}, None
            self.backups.pop(message["backup_id"], None)
            # Every place is asked, also one that never had it.
            down = self.fault == "other-place-down"
            return {"agent_errors": {"cloud.cloud": "Unreachable"} if down else {}}, None
        return None, ("unknown_command", "Unknown command.")

    def talk(self, call):
        socket = WebSocket(call)
        socket.send({"type": "auth_required", "ha_version": self.version})
        first = socket.receive()
        if first is None or first.get("access_token") != self.options["token"]:
            return socket.send({"type": "auth_invalid", "message": "Invalid access token or password"})
        socket.send({"type": "auth_ok", "ha_version": self.version})
        while (message := socket.receive()) is not None:
            if self.fault == "quiet":
                continue
            socket.send({"id": 9999, "type": "event", "event": {"noise": True}})
            with self.lock:
                result, error = self.command(message)
            if error:
                socket.send({"id": message["id"], "type": "result", "success": False,
                             "error": {"code": error[0], "message": error[1]}})
            else:
                fragments = 5 if message["type"] == "backup/info" else 1
                socket.send({"id": message["id"], "type": "result", "success": True, "result": result}, fragments)
            if self.fault == "hangs-up" and message["type"] == "backup/generate":
                self.fault = ""
                return None

    def answer(self, call):
        path = call.split.path
        if path == "/api/websocket":
            if call.headers.get("Upgrade", "").lower() != "websocket":
                return call.reply(400, b"No WebSocket UPGRADE hdr", "text/plain")
            if self.fault == "starting":
                return call.reply(502, b"bad gateway", "text/plain")
            return self.talk(call)
        if not path.startswith("/api/"):
            return call.reply(200, simulator.LOGIN_PAGE)
        if call.headers.get("Authorization") != f"Bearer {self.options['token']}":
            return call.reply(401, b"401: Unauthorized", "text/plain")
        if path.startswith("/api/backup/download/"):
            if call.query.get("agent_id") != self.agent:
                return call.reply(400, b"", "text/plain")
            found = self.backups.get(path.rsplit("/", 1)[1])
            if found is None:
                return call.reply(404, b"", "text/plain")
            if self.fault == "slow":
                time.sleep(30)
            return call.export(found["content"], "application/x-tar")
        if call.route == ("POST", "/api/backup/upload"):
            content = call.multipart()["file"][1]
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                name = json.load(archive.extractfile("./backup.json"))["name"]
            with self.lock:
                backup_id = self.keep(name, content)
                self.uploaded += 1
            return call.reply_json(201, {"backup_id": backup_id})
        return call.reply(404, b"404: Not Found", "text/plain")


simulator.main(HomeAssistant)
