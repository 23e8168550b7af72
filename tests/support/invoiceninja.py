"""An Invoice Ninja 5: an export that is ordered, made by a queue and fetched from a signed link.

Options: --token T, --version V, --era empty|404 (what the link gives until it is ready), --polls N (how often it is not
ready), --app-url URL (what the server thinks it is called), --queue sync (the order blocks), --signed-host yes.
Faults beyond those of every simulator: no-link (before 5.6), order-empty, order-html, order-504, not-admin,
no-backup-json, bad-json, cut-json, no-clients, no-users, no-company, never-ready, not-zip.
"""

import io
import json
import os
import secrets
import time
import zipfile

import simulator

COMPANY = {"id": "abc", "company_key": "k", "settings": {"name": "Larder & Sons"}}


class Ninja(simulator.Application):
    def __init__(self, options):
        super().__init__(options)
        self.version = options.get("version", "5.10.17")
        self.polls_left = int(options.get("polls", 2))
        self.links = {}
        self.exports = 0
        self.imported = []
        self.lists = {
            "users": [{"email": "a@example.org", "google_2fa_secret": "x"}],
            "clients": [{"id": n, "name": f"client {n}", "note": os.urandom(200).hex()} for n in range(30)],
            "client_contacts": [{"id": n} for n in range(31)],
            "invoices": [{"id": n, "amount": n * 1.5} for n in range(50)],
            "payments": [],
            "products": [{"id": 1}],
            "quotes": [],
        }

    def state(self):
        return {**super().state(), "exports": self.exports, "imported": self.imported, "links": len(self.links)}

    def archive(self):
        value = {"app_version": self.version, "storage_url": "https://old.example/storage", "company": COMPANY,
                 **self.lists}
        dropped = {"no-clients": "clients", "no-company": "company"}.get(self.fault)
        value.pop(dropped, None)
        if self.fault == "no-users":
            value["users"] = []
        text = json.dumps(value)
        if self.fault == "cut-json":
            text = text[: len(text) // 2]
        if self.fault == "bad-json":
            text = "<?php Fatal error: Allowed memory size exhausted"
        name = "other.json" if self.fault == "no-backup-json" else "backup.json"
        return simulator.make_zip([(name, text.encode())])

    def answer(self, call):
        path = call.split.path
        if path.startswith("/api/v1/protected_download/"):
            return self.download(call, path.rsplit("/", 1)[1])
        if not path.startswith("/api/v1/"):
            return call.reply(200, simulator.LOGIN_PAGE)
        version = [("X-App-Version", self.version)]
        if call.headers.get("X-API-TOKEN") != self.options["token"]:
            if call.headers.get("X-Requested-With") != "XMLHttpRequest":
                return call.redirect("/login")
            return call.reply_json(403, {"message": "Invalid token", "errors": {}}, version)
        if self.fault == "not-admin":
            return call.reply_json(403, {"message": "This action is unauthorized."}, version)
        if call.route == ("GET", "/api/v1/ping"):
            return call.reply_json(200, {"company_name": "Larder & Sons", "user_name": "A"}, version)
        if call.route == ("POST", "/api/v1/export"):
            return self.order(call, version)
        if call.route == ("POST", "/api/v1/import_json"):
            return self.restore(call, version)
        return call.reply_json(404, {"message": "Not found"}, version)

    def order(self, call, version):
        faults = {
            "order-empty": lambda: call.reply(200, b"", "application/json"),
            "order-html": lambda: call.reply(200, simulator.LOGIN_PAGE),
            "order-504": lambda: call.reply(504, b"<html>504 Gateway Time-out</html>"),
            "no-link": lambda: call.reply_json(200, {"message": "Processing"}, version),
        }
        if self.fault in faults:
            return faults[self.fault]()
        if self.options.get("queue") == "sync":
            time.sleep(1.5)
            self.polls_left = 0
        with self.lock:
            self.exports += 1
            name = secrets.token_hex(16)
            signature = secrets.token_hex(16)
            self.links[name] = signature
        base = self.options.get("app-url", self.url)
        url = f"{base}/api/v1/protected_download/{name}?expires={int(time.time()) + 3600}&signature={signature}"
        return call.reply_json(200, {"message": "Processing", "url": url}, version)

    def download(self, call, name):
        if self.links.get(name) != call.query.get("signature"):
            return call.reply(403, b"<html>403 Invalid signature</html>")
        if self.options.get("signed-host"):
            host = self.options["app-url"].split("://")[1]
            if call.headers.get("Host") != host:
                return call.reply(403, b"<html>403 Invalid signature</html>")
        if self.polls_left > 0 or self.fault == "never-ready":
            self.polls_left -= 1
            if self.options.get("era") == "404":
                return call.reply(404, b"<!DOCTYPE html><html>File not found</html>")
            return call.reply(200, b"")
        if self.fault == "not-zip":
            return call.reply(200, b"%PDF-1.4 an invoice", "application/pdf")
        disposition = [("Content-Disposition", "attachment; filename=2026-11-22_larder_k.zip")]
        return call.export(self.archive(), "application/zip", disposition)

    def restore(self, call, version):
        form = call.multipart()
        if not form or "files" not in form:
            return call.reply_json(422, {"message": "The files field is required."}, version)
        name, content = form["files"]
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                value = json.loads(archive.read("backup.json"))
        except (zipfile.BadZipFile, KeyError):
            return call.reply_json(422, {"message": "The files must be a file of type: zip."}, version)
        wanted = {key: form[key][1].decode() for key in ("import_settings", "import_data") if key in form}
        self.imported.append({"fields": wanted, "clients": len(value["clients"])})
        return call.reply_json(200, {"message": "Processing"}, version)


simulator.main(Ninja)
