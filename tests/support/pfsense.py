"""A pfSense: csrf-magic, a login form that answers 200 when it fails, a cookie that changes at the login, lockout.

Options: --user U --password P, --no-right yes (the user may not see the page).
Faults beyond those of every simulator: session-ends (between the login and the form), bad-token (the form is refused),
locked (an address that failed too often), wrong-root, no-interfaces, encrypted, not-pfsense (another server answers).
"""

import time
import secrets

import simulator
from simulator import LOGIN_PAGE

CONFIG = (
    '<?xml version="1.0"?>\n<{root}>\n\t<version>23.3</version>\n\t<system>\n\t\t<hostname>fw</hostname>\n'
    "\t\t<user><name>admin</name><bcrypt-hash>$2y$10$hash</bcrypt-hash></user>\n\t</system>\n{interfaces}"
    "\t<filter>\n\t\t<rule><descr><![CDATA[allow <all>]]></descr></rule>\n\t</filter>\n{rrd}"
    "\t<revision><time>1732240000</time></revision>\n</{root}>\n"
)
INTERFACES = "\t<interfaces>\n\t\t<wan><if>em0</if></wan>\n\t\t<lan><if>em1</if></lan>\n\t</interfaces>\n"


class Pfsense(simulator.Application):
    def __init__(self, options):
        super().__init__(options)
        self.sessions = {}
        self.logged_out = 0

    def state(self):
        open_now = [each for each in self.sessions.values() if each["user"]]
        return {**super().state(), "open": len(open_now), "logged_out": self.logged_out}

    def page(self, call, session, body, status=200, headers=()):
        # Each page has a token of its own; all of a session are valid for two hours.
        token = f"sid:{secrets.token_hex(20)},{int(time.time())}"
        session["tokens"].add(token)
        hidden = f"<input type='hidden' name='__csrf_magic' value=\"{token}\" />"
        script = f'<script>var csrfMagicToken = "{token}";var csrfMagicName = "__csrf_magic";</script>'
        html = f"<!DOCTYPE html>\n<html><head>{script}</head><body>{body.replace('</form>', hidden + '</form>')}</body></html>"
        call.reply(status, html.encode(), "text/html; charset=UTF-8", headers)

    def login_page(self, call, session, headers=(), message=""):
        form = ('<form method="post" class="login">%s<input name="usernamefld"><input name="passwordfld">'
                '<button name="login">Sign In</button></form>' % message)
        self.page(call, session, form, headers=headers)

    def answer(self, call):
        if self.fault == "not-pfsense":
            return call.reply(200, b"<html><body>It works!</body></html>")
        cookie = call.cookies().get("PHPSESSID")
        headers = []
        with self.lock:
            session = self.sessions.get(cookie)
            if session is None:
                cookie = secrets.token_hex(16)
                session = self.sessions[cookie] = {"user": None, "tokens": set()}
                headers = [("Set-Cookie", f"PHPSESSID={cookie}; path=/; secure; HttpOnly")]
        form = call.form_body() if call.command == "POST" else {}
        if call.command == "POST":
            if form.get("__csrf_magic") not in session["tokens"] or self.fault == "bad-token" and "download" in form:
                return self.page(call, session, "<p>CSRF check failed. Your form session may have expired</p>", headers=headers)
            if self.url not in call.headers.get("Referer", ""):
                return self.page(call, session, "An HTTP_REFERER was detected other than what is defined", headers=headers)
        if "login" in form:
            if self.fault == "locked":
                return call.reply(403, b"<html>Forbidden</html>")
            if (form.get("usernamefld"), form.get("passwordfld")) != (self.options["user"], self.options["password"]):
                return self.login_page(call, session, headers, "Username or Password incorrect")
            # Against session fixation: a new id at the login.
            with self.lock:
                del self.sessions[cookie]
                cookie = secrets.token_hex(16)
                self.sessions[cookie] = {"user": form["usernamefld"], "tokens": set()}
            return call.redirect(call.split.path, [("Set-Cookie", f"PHPSESSID={cookie}; path=/; secure; HttpOnly")])
        if session["user"] is None:
            return self.login_page(call, session, headers)
        if "logout" in form:
            with self.lock:
                del self.sessions[cookie]
                self.logged_out += 1
            return call.redirect("/")
        if call.split.path != "/diag_backup.php":
            return self.page(call, session, "<h1>Dashboard</h1>")
        if self.options.get("no-right"):
            return self.page(call, session, "No page assigned to this user! Click here to logout.")
        if call.command == "GET":
            return self.page(call, session, '<form><select name="backuparea"></select>'
                                            '<input name="donotbackuprrd" type="checkbox"></form>')
        if "download" not in form:
            return self.page(call, session, "<p>what?</p>")
        if self.fault == "session-ends":
            with self.lock:
                session["user"] = None
            return self.login_page(call, session)
        root = "opnsense" if self.fault == "wrong-root" else "pfsense"
        rrd = "" if form.get("donotbackuprrd") == "yes" else "\t<rrddata><rrddatafile/></rrddata>\n"
        interfaces = "" if self.fault == "no-interfaces" else INTERFACES
        text = CONFIG.format(root=root, interfaces=interfaces, rrd=rrd)
        if self.fault == "encrypted":
            text = "---- BEGIN config.xml ----\nVersion: pfSense 23.3\n" + "QUJD" * 100 + "\n---- END config.xml ----\n"
        name = "attachment; filename=config-fw-20261122030000.xml"
        return call.export(text.encode(), "application/octet-stream", [("Content-Disposition", name)])


simulator.main(Pfsense)
