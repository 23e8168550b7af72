"""Passes requests on to another server, and asks it for a certain answer (`Prefer: code=429, example=no_seats`).

Options: --to http://HOST:PORT, --call "POST /api/auth", --prefer TEXT.
"""

import http.client
import urllib.parse

import simulator


class Passer(simulator.Application):
    def answer(self, call):
        to = urllib.parse.urlsplit(self.options["to"])
        connection = http.client.HTTPConnection(to.hostname, to.port, timeout=20)
        left_out = ("host", "connection", "content-length", "transfer-encoding")
        headers = {name: value for name, value in call.headers.items() if name.lower() not in left_out}
        if f"{call.command} {call.split.path}" == self.options["call"]:
            headers["Prefer"] = self.options["prefer"]
        connection.request(call.command, call.path, call.body() or None, headers)
        answer = connection.getresponse()
        body = answer.read()
        passed = [(name, value) for name, value in answer.getheaders() if name.lower() == "location"]
        call.reply(answer.status, body, answer.getheader("Content-Type", ""), passed)


simulator.main(Passer)
