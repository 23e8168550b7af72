"""A simulated Radarr (Sonarr, Lidarr, Prowlarr, Readarr): its API as far as backup and restore go, with its traps.

    arr.py NAME DIRECTORY

NAME is radarr, sonarr, …; DIRECTORY becomes its AppData, with Backups/manual below it. As in the real one: the API key
does not open the download where Authentication is Forms (302 to /login), a Backup command that is asked for twice is
one, a command is 201, missing keys are 401 with nothing, a restore replaces config.xml at once and the database at the
next start, manual backups are never pruned.

Switches (/__set): authentication (forms|none|basic), database_type, work_s (seconds a backup takes), stuck, outcome
(completed|failed|aborted), zip (whole|no-db|no-config|bad-config|not-sqlite|no-tables|corrupt|no-info), rows, comes_back
(whether a restart ends), loses (how many uploads are taken and not used), version, key, manual_now (a person makes a backup).
"""

import base64
import datetime
import io
import os
import pathlib
import random
import shutil
import sqlite3
import sys
import threading
import time
import xml.sax.saxutils
import zipfile

import faults

KINDS = {
    "radarr": ("Radarr", "/api/v3", "Movies", "/movie"),
    "sonarr": ("Sonarr", "/api/v3", "Series", "/series"),
    "lidarr": ("Lidarr", "/api/v1", "Artists", "/artist"),
    "prowlarr": ("Prowlarr", "/api/v1", "Indexers", "/indexer"),
    "readarr": ("Readarr", "/api/v1", "Books", "/book"),
}
KEY = "0123456789abcdef0123456789abcdef"
USER, PASSWORD = "keeper", "p&ss word=ü"


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def stamp(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Arr(faults.Simulator):
    def __init__(self, name, directory):
        super().__init__()
        self.name = name
        self.title, self.api, self.table, self.listed = KINDS[name]
        self.directory = pathlib.Path(directory)
        self.manual = self.directory / "Backups" / "manual"
        self.manual.mkdir(parents=True, exist_ok=True)
        self.version = "6.0.3.10276"
        self.key = KEY
        self.authentication = "none"
        self.database_type = "sqLite"
        self.work_s = 0.2
        self.stuck = False
        self.outcome = "completed"
        self.zip = "whole"
        self.comes_back = True
        self.loses = 0
        self.start_time = stamp(now() - datetime.timedelta(days=3))
        self.commands = {}
        self.sessions = set()
        self.pending = None
        self.last_name = None
        self.make_database(12)
        # A person's own backup, older, and one by the schedule: both must stay.
        self.put_backup("manual", now() - datetime.timedelta(days=9), b"mine")
        self.put_backup("scheduled", now() - datetime.timedelta(days=1), b"scheduled")

    # What it holds.

    @property
    def database(self):
        return self.directory / f"{self.name}.db"

    def make_database(self, rows):
        self.database.unlink(missing_ok=True)
        connection = sqlite3.connect(self.database)
        connection.executescript(
            f"""CREATE TABLE VersionInfo (Version INTEGER, AppliedOn TEXT, Description TEXT);
            INSERT INTO VersionInfo VALUES (242, '2026-01-01', 'initial');
            CREATE TABLE {self.table} (Id INTEGER PRIMARY KEY, Title TEXT, Notes TEXT);
            CREATE TABLE Config (Id INTEGER PRIMARY KEY, Key TEXT, Value TEXT);"""
        )
        filler = random.Random(7)
        for n in range(rows):
            notes = "".join(filler.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=3000))
            connection.execute(f"INSERT INTO {self.table} (Title, Notes) VALUES (?, ?)", (f"Title {n}", notes))
        connection.commit()
        connection.close()

    def rows(self):
        connection = sqlite3.connect(self.database)
        try:
            return connection.execute(f"SELECT count(*) FROM {self.table}").fetchone()[0]
        finally:
            connection.close()

    def config_xml(self):
        key = xml.sax.saxutils.escape(self.key)
        return f"<Config>\n  <Port>7878</Port>\n  <ApiKey>{key}</ApiKey>\n  <UrlBase></UrlBase>\n</Config>\n".encode()

    def put_backup(self, kind, moment, content):
        directory = self.directory / "Backups" / kind
        directory.mkdir(parents=True, exist_ok=True)
        name = f"{self.name}_backup_v{self.version}_{moment.strftime('%Y.%m.%d_%H.%M.%S')}.zip"
        path = directory / name
        path.write_bytes(content)
        timestamp = moment.timestamp()
        os.utime(path, (timestamp, timestamp))
        return name

    def backups(self):
        found = []
        for kind in ("manual", "scheduled", "update"):
            for path in (self.directory / "Backups" / kind).glob("*.zip"):
                number = sum(ord(c) * 31**i for i, c in enumerate(f"backup-{kind}-{path.name}")) & 0x7FFFFFFF
                moment = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.timezone.utc)
                found.append(
                    {
                        "name": path.name,
                        "path": f"/backup/{kind}/{path.name}",
                        "type": kind,
                        "size": path.stat().st_size,
                        "time": stamp(moment),
                        "id": number,
                    }
                )
        return sorted(found, key=lambda each: each["time"], reverse=True)

    def make_zip(self):
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as archive:
            if self.zip != "no-config":
                broken = b"<Config><ApiKey></ApiKey></Config>"
                archive.writestr("config.xml", broken if self.zip == "bad-config" else self.config_xml())
            if self.zip != "no-info":
                archive.writestr("INFO", f"v{self.version}\n{stamp(now())}\n")
            if self.zip != "no-db" and self.database_type.lower() == "sqlite":
                archive.writestr(f"{self.name}.db", self.database_bytes())
        return whole.getvalue()

    def database_bytes(self):
        if self.zip == "not-sqlite":
            return b"this is no database at all" * 100
        if self.zip == "no-tables":
            path = self.directory / "other.db"
            path.unlink(missing_ok=True)
            connection = sqlite3.connect(path)
            connection.execute("CREATE TABLE Other (a)")
            connection.commit()
            connection.close()
            return path.read_bytes()
        content = bytearray(self.database.read_bytes())
        if self.zip == "corrupt":
            for at in range(3 * 4096, min(len(content), 6 * 4096)):
                content[at] = 0xA5
        return bytes(content)

    def state(self):
        return {
            "manual": sorted(path.name for path in self.manual.glob("*.zip")),
            "scheduled": len(list((self.directory / "Backups" / "scheduled").glob("*.zip"))),
            "commands": list(self.commands.values()),
            "rows": self.rows(),
            "key_is_default": self.key == KEY,
        }

    def set(self, values):
        for key, value in values.items():
            if key == "rows":
                self.make_database(value)
            elif key == "manual_now":
                self.put_backup("manual", now(), b"made by a person")
            else:
                setattr(self, key, value)

    # What it does.

    def work(self, command):
        while self.stuck:
            time.sleep(0.05)
            if command["status"] == "cancelled":
                return
        with self.lock:
            command["status"] = "started"
            command["started"] = stamp(now())
        time.sleep(self.work_s)
        with self.lock:
            if self.outcome == "completed":
                # File names have whole seconds.
                while True:
                    moment = now()
                    name = moment.strftime("%H.%M.%S")
                    if name != self.last_name:
                        break
                    time.sleep(0.05)
                self.last_name = name
                self.put_backup("manual", moment, self.make_zip())
                command["result"] = "successful"
            else:
                command["exception"] = "System.IO.IOException: No space left on device"
                command["message"] = "Failed"
                command["result"] = "unsuccessful"
            command["ended"] = stamp(now())
            command["status"] = self.outcome

    def came_back(self):
        with self.lock:
            if self.pending:
                shutil.move(self.pending, self.database)
                self.pending = None
            self.start_time = stamp(now())

    def may(self, call):
        key = call.headers.get("X-Api-Key") or call.query.get("apikey")
        if call.headers.get("Authorization", "").startswith("Bearer "):
            key = call.headers["Authorization"][7:]
        return key == self.key

    def handle(self, call):
        path, method = call.path_only, call.command
        if path == "/login" and method == "POST":
            self.login(call)
        elif path == "/ping":
            call.answer(200, {"status": "OK"})
        elif path.startswith("/backup/"):
            self.download(call)
        elif not path.startswith(self.api):
            call.answer(200, faults.LOGIN_PAGE, "text/html; charset=UTF-8")
        elif not self.may(call):
            call.answer(401, b"", "")
        else:
            self.api_call(call, path[len(self.api) :], method)

    def login(self, call):
        form = call.form()
        if (form.get("username"), form.get("password")) != (USER, PASSWORD):
            call.answer(302, b"", "", [("Location", "/login?returnUrl=/&loginFailed=true")])
            return
        session = base64.b64encode(random.randbytes(24)).decode()
        self.sessions.add(session)
        cookie = f"{self.title}Auth={session}; path=/; samesite=lax; httponly"
        call.answer(302, b"", "", [("Location", "/"), ("Set-Cookie", cookie)])

    def download(self, call):
        cookie = call.headers.get("Cookie", "").partition("=")[2]
        if self.authentication == "forms" and cookie not in self.sessions:
            location = "/login?returnUrl=" + call.path_only
            call.answer(302, b"", "", [("Location", location)])
            return
        if self.authentication == "basic":
            wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            if call.headers.get("Authorization") != wanted:
                call.answer(401, b"", "", [("WWW-Authenticate", 'Basic realm="Radarr"')])
                return
        path = self.directory / "Backups" / call.path_only[len("/backup/") :]
        if not path.is_file():
            call.answer(404, b"", "")
            return
        call.answer(200, path.read_bytes(), "application/zip")

    def api_call(self, call, path, method):
        if (method, path) == ("GET", "/system/status"):
            call.answer(
                200,
                {
                    "appName": self.title,
                    "instanceName": self.title,
                    "version": self.version,
                    "databaseType": self.database_type,
                    "authentication": self.authentication,
                    "urlBase": "",
                    "isDocker": True,
                    "startTime": self.start_time,
                },
            )
        elif (method, path) == ("POST", "/command"):
            self.command(call)
        elif (method, path) == ("GET", "/command"):
            call.answer(200, list(self.commands.values()))
        elif path.startswith("/command/"):
            self.one_command(call, int(path.rpartition("/")[2]), method)
        elif (method, path) == ("GET", "/system/backup"):
            call.answer(200, self.backups())
        elif (method, path) == ("POST", "/system/backup/restore/upload"):
            self.restore(call)
        elif path.startswith("/system/backup/") and method == "DELETE":
            self.delete(call, int(path.rpartition("/")[2]))
        elif (method, path) == ("POST", "/system/restart"):
            call.answer(200, {"restarting": True})
            if self.comes_back:
                faults.restart(self, 0.7)
        elif (method, path) == ("GET", self.listed):
            call.answer(200, [{"id": n, "title": f"Title {n}"} for n in range(self.rows())])
        else:
            call.answer(404, {"message": "NotFound"})

    def command(self, call):
        name = (call.json() or {}).get("name")
        if name != "Backup":
            call.answer(500, {"message": "unknown command"})
            return
        with self.lock:
            for other in self.commands.values():
                if other["name"] == name and other["status"] in ("queued", "started"):
                    call.answer(201, other)
                    return
            number = len(self.commands) + 101
            command = {"id": number, "name": name, "status": "queued", "result": "unknown", "queued": stamp(now())}
            command["trigger"] = "manual"
            self.commands[number] = command
            answer = dict(command)
        threading.Thread(target=self.work, args=(command,), daemon=True).start()
        call.answer(201, answer)

    def one_command(self, call, number, method):
        command = self.commands.get(number)
        if command is None:
            call.answer(404, {"message": "NotFound"})
        elif method == "DELETE":
            with self.lock:
                if command["status"] == "queued":
                    command["status"] = "cancelled"
            call.answer(200, {})
        else:
            with self.lock:
                call.answer(200, dict(command))

    def delete(self, call, number):
        for backup in self.backups():
            if backup["id"] == number:
                (self.directory / "Backups" / backup["type"] / backup["name"]).unlink()
                call.answer(200, {})
                return
        call.answer(404, {"message": "NotFound"})

    def restore(self, call):
        file = call.multipart_file()
        if file is None:
            call.answer(400, {"message": "file must be provided"})
            return
        name, content = file
        if not name.endswith((".zip", ".db", ".xml")):
            call.answer(415, {"message": "Invalid extension"})
            return
        found = False
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                if member == "config.xml":
                    text = archive.read(member).decode()
                    self.key = text.split("<ApiKey>")[1].split("</ApiKey>")[0]
                    found = True
                elif member == f"{self.name}.db":
                    self.pending = self.directory / f"{self.name}.restore"
                    self.pending.write_bytes(archive.read(member))
                    found = True
        if not found:
            call.answer(404, {"message": "Unable to restore database file from backup"})
            return
        if self.loses > 0:
            # Taken with a good word, and not used.
            self.loses -= 1
            self.pending = None
        call.answer(200, {"restartRequired": True})


if __name__ == "__main__":
    faults.serve(Arr(sys.argv[1], sys.argv[2]))
