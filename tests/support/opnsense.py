"""An OPNsense: its backup API behind key and secret, with the empty 200 where there is nothing to give.

Options: --key K --secret S, --old yes (before 24.1: only the API of os-api-backup), --firmware yes (the key may read it).
Faults beyond those of every simulator: wrong-root (a pfSense answers), no-interfaces, encrypted.
"""

import base64

import simulator

CONFIG = (
    '<?xml version="1.0"?>\n<{root}>\n  <theme>opnsense</theme>\n  <system>\n    <hostname>fw</hostname>\n'
    "    <user><name>root</name><password>$2y$10$hash</password></user>\n  </system>\n{interfaces}"
    "  <nat><rule><descr>a &amp; b</descr></rule></nat>\n"
    "  <filter>\n    <rule><type>pass</type></rule>\n    <rule><type>block</type></rule>\n  </filter>\n"
    "  <cert><refid>1</refid></cert>\n  <revision><time>1732240000.1</time></revision>\n</{root}>\n"
)
INTERFACES = "  <interfaces>\n    <wan><if>em0</if></wan>\n    <lan><if>em1</if></lan>\n  </interfaces>\n"


class Opnsense(simulator.Application):
    def answer(self, call):
        path = call.split.path
        if not path.startswith("/api/"):
            return call.reply(200, simulator.LOGIN_PAGE)
        pair = base64.b64encode(f"{self.options['key']}:{self.options['secret']}".encode()).decode()
        if call.headers.get("Authorization") != f"Basic {pair}":
            return call.reply_json(401, {"status": 401, "message": "Authentication Failed"})
        if self.fault == "forbidden":
            return call.reply_json(403, {"status": 403, "message": "Forbidden"})
        if path == "/api/core/firmware/status":
            if self.options.get("firmware"):
                return call.reply_json(200, {"product_version": "24.7.9", "status": "none"})
            return call.reply_json(403, {"status": 403, "message": "Forbidden"})
        ours = "/api/backup/backup/download" if self.options.get("old") else "/api/core/backup/download/this"
        if path != ours:
            return call.reply_json(404, {"errorMessage": "Endpoint not found"})
        root = "pfsense" if self.fault == "wrong-root" else "opnsense"
        text = CONFIG.format(root=root, interfaces="" if self.fault == "no-interfaces" else INTERFACES)
        if self.fault == "encrypted":
            text = "---- BEGIN config.xml ----\nVersion: OPNsense 24.7\n" + "QUJD" * 100 + "\n---- END config.xml ----\n"
        name = 'attachment; filename="config-1732240000.1.xml"'
        return call.export(text.encode(), "application/octet-stream", [("Content-Disposition", name)])


simulator.main(Opnsense)
