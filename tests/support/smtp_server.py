"""A real mail server for the tests: aiosmtpd on the loopback, with TLS and a login.

    smtp_server.py DIRECTORY MODE [--port N] [--cert FILE --key FILE]

MODE: tls (from the first byte), starttls, plain, or silent (takes connections and says nothing).
It prints its port, writes each mail to DIRECTORY/mails/<n>.eml with its envelope in <n>.json, and ends when its
standard input is closed. Who may log in: larder / "right horse" (only where TLS is on, or plain).

DIRECTORY/behaviour, one rule a line, read at each step:
    later ADDRESS     answers RCPT TO with 450 (greylisting)
    refuse ADDRESS    answers RCPT TO with 550
    refuse-data       answers the mail with 554
    later-all         answers MAIL FROM with 451
    busy              answers MAIL FROM with 421 and hangs up
    login-required    no mail without a login
    full-name         answers EHLO with 504 unless the client gives a name with a domain, or an address in brackets
    full-name-late    takes any name, and answers RCPT TO with 504 as Postfix does
    only-address      answers EHLO with 550 unless the client gives an address in brackets
"""

import argparse
import asyncio
import email
import email.policy
import json
import pathlib
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


def is_full(name):
    return name.startswith("[") or "." in name.strip(".")


class Handler:
    def __init__(self, directory):
        self.directory = directory
        self.mails = directory / "mails"
        self.mails.mkdir(exist_ok=True)

    def rules(self):
        try:
            return (self.directory / "behaviour").read_text().splitlines()
        except FileNotFoundError:
            return []

    def parts(self, content):
        """The decoded text of each part, by its type."""
        message = email.message_from_bytes(content, policy=email.policy.default)
        leaves = [part for part in message.walk() if not part.is_multipart()]
        return {part.get_content_type(): part.get_content() for part in leaves}

    async def handle_EHLO(self, server, session, envelope, hostname, responses):
        rules = self.rules()
        if "full-name" in rules and not is_full(hostname):
            return ["504 5.5.2 <%s>: need fully-qualified hostname" % hostname]
        if "only-address" in rules and not hostname.startswith("["):
            return ["550 5.7.1 <%s>: Helo command rejected: Host not found" % hostname]
        session.host_name = hostname
        return responses

    async def handle_MAIL(self, server, session, envelope, address, options):
        rules = self.rules()
        if "later-all" in rules:
            return "451 4.3.0 come back later"
        if "login-required" in rules and not session.authenticated:
            return "530 5.7.0 log in first"
        if "busy" in rules:
            asyncio.get_running_loop().call_later(0.05, server.transport.close)
            return "421 4.3.2 shutting down"
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        rules = self.rules()
        if "full-name-late" in rules and not is_full(session.host_name):
            return "504 5.5.2 <%s>: Helo command rejected: need fully-qualified hostname" % session.host_name
        if f"later {address}" in rules:
            return "450 4.2.0 greylisted, try again"
        if f"refuse {address}" in rules:
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if "refuse-data" in self.rules():
            return "554 5.7.1 looks like spam"
        number = len(list(self.mails.glob("*.json")))
        (self.mails / f"{number}.eml").write_bytes(envelope.original_content)
        encrypted = session.ssl is not None or server.transport.get_extra_info("ssl_object") is not None
        facts = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": encrypted,
            "hello": session.host_name,
            "user": session.auth_data.decode() if session.auth_data else None,
            "parts": self.parts(envelope.original_content),
        }
        # The last to appear: who sees it can read the mail.
        new = self.mails / f"{number}.new"
        new.write_text(json.dumps(facts))
        new.rename(self.mails / f"{number}.json")
        return "250 2.0.0 taken"


def authenticate(server, session, envelope, mechanism, data):
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"larder", b"right horse")
    # Neither handled here nor told more than yes or no: the server answers 535 by itself.
    return AuthResult(success=right, handled=False, auth_data=data.login if right else None)


async def silent(reader, writer):
    await reader.read()
    writer.close()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("mode", choices=["tls", "starttls", "plain", "silent"])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    args = parser.parse_args()
    args.directory.mkdir(exist_ok=True)

    context = None
    if args.cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(args.cert, args.key)
    handler = Handler(args.directory)

    def protocol():
        return SMTP(
            handler,
            hostname="mail.test",
            tls_context=context if args.mode == "starttls" else None,
            require_starttls=args.mode == "starttls",
            authenticator=authenticate,
            auth_require_tls=args.mode == "starttls",
            timeout=60,
        )

    loop = asyncio.get_running_loop()
    if args.mode == "silent":
        server = await asyncio.start_server(silent, "127.0.0.1", args.port)
    else:
        over = context if args.mode == "tls" else None
        server = await loop.create_server(protocol, "127.0.0.1", args.port, ssl=over)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Whoever started us is gone when this ends.
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
