"""A real Home Assistant Core on the loopback, for as long as standard input is open. Runs in its own environment
(tests/setup/homeassistant.sh).

Usage: homeassistant_core.py DIRECTORY [fresh] [unreachable] (which has a second place for backups, that is down)

It prints one line of JSON when it is ready: {"url", "config"}, and unless `fresh`, which has no user yet, "token" (of
its owner) and "user_token" (of a user who is no administrator). Then each line of standard input is one thing to do, and
is answered with a line: {"command": TYPE, ...} over the WebSocket, {"get": PATH}, {"post": PATH, "body": {}},
{"login": [NAME, PASSWORD]}, {"upload": [PATH, FILE]}, {"restarts": N} (waits for so many, and that it is up again).
"token" in one of these says in whose name.
"""

import asyncio
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import aiohttp

# A start took 5 s on two cores, 20 s when all was compiled first beside other work.
READY_S = 120
RESTART = 100
CONFIGURATION = """homeassistant:
  name: Larder's test
http:
  server_host: 127.0.0.1
  server_port: !env_var TEST_PORT
recorder:
  commit_interval: 0
history:
"""
MANIFEST = {"domain": "unreachable", "name": "Unreachable", "version": "1.0.0", "codeowners": [], "dependencies": [],
            "documentation": "https://example.org", "iot_class": "cloud_push", "requirements": []}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Core:
    """The process, started again when it asks for that, as its container's supervisor does."""

    def __init__(self, config, port):
        self.config = config
        self.port = port
        self.restarts = 0
        self.child = None
        self.exit_code = None
        self.ending = threading.Lock()
        threading.Thread(target=self.keep, daemon=True).start()

    def keep(self):
        libc = ctypes.CDLL(None)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["TEST_PORT"] = str(self.port)
        with open(os.path.join(self.config, "../output"), "ab") as output:
            while True:
                # PR_SET_PDEATHSIG: it never outlives this program, however that ends.
                with self.ending:
                    self.child = subprocess.Popen(
                        [sys.executable, "-m", "homeassistant", "--skip-pip", "-c", self.config],
                        stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
                        preexec_fn=lambda: libc.prctl(1, signal.SIGKILL))
                exit_code = self.child.wait()
                if exit_code != RESTART:
                    self.exit_code = exit_code
                    return
                self.restarts += 1

    def end(self):
        """Kills it, for what it has is thrown away; none is started any more."""
        self.ending.acquire()
        if self.child is not None:
            self.child.kill()
            self.child.wait()


class Talk:
    def __init__(self, url, core):
        self.url = url
        self.core = core
        self.http = aiohttp.ClientSession()
        self.token = None

    async def call(self, method, path, token=None, **body):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.http.request(method, self.url + path, headers=headers, **body) as answer:
            text = await answer.text()
            try:
                told = json.loads(text)
            except ValueError:
                told = text
            return {"status": answer.status, "body": told}

    async def command(self, fields, token):
        async with self.http.ws_connect(self.url + "/api/websocket", max_msg_size=0) as ws:
            await ws.receive_json()
            await ws.send_json({"type": "auth", "access_token": token})
            if (await ws.receive_json())["type"] != "auth_ok":
                return {"success": False, "error": {"code": "auth_invalid"}}
            await ws.send_json({"id": 1, **fields})
            async for message in ws:
                if (told := message.json()).get("type") == "result":
                    return told
            return {"success": None}

    async def result(self, **fields):
        told = await self.command(fields, self.token)
        assert told["success"], told
        return told["result"]

    async def session(self, code):
        """The token of a browser's session, for a code of the login."""
        form = {"grant_type": "authorization_code", "code": code, "client_id": self.url + "/"}
        return (await self.call("POST", "/auth/token", data=form))["body"]["access_token"]

    async def long_lived(self, session):
        order = {"type": "auth/long_lived_access_token", "client_name": "larder", "lifespan": 30}
        return (await self.command(order, session))["result"]

    async def login(self, name, password):
        client = {"client_id": self.url + "/"}
        flow = (await self.call("POST", "/auth/login_flow", json={
            **client, "handler": ["homeassistant", None], "redirect_uri": self.url + "/"}))["body"]
        done = (await self.call("POST", f"/auth/login_flow/{flow['flow_id']}", json={
            **client, "username": name, "password": password}))["body"]
        return await self.session(done["result"]) if done["type"] == "create_entry" else None

    async def onboard(self):
        done = await self.call("POST", "/api/onboarding/users", json={
            "client_id": self.url + "/", "name": "Owner", "username": "owner", "password": "owner's wombat",
            "language": "en"})
        session = await self.session(done["body"]["auth_code"])
        self.token = await self.long_lived(session)
        for step, body in (("core_config", {}), ("analytics", {}), ("integration", {
                "client_id": self.url + "/", "redirect_uri": self.url + "/"})):
            done = await self.call("POST", f"/api/onboarding/{step}", session, json=body)
            assert done["status"] == 200, (step, done)
        user = await self.result(type="config/auth/create", name="User", group_ids=["system-users"])
        await self.result(type="config/auth_provider/homeassistant/create", user_id=user["user"]["id"],
                          username="user", password="user's wombat")
        return await self.long_lived(await self.login("user", "user's wombat"))

    async def up(self):
        if self.token:
            told = await self.call("GET", "/api/config", self.token)
            return told["status"] == 200 and told["body"]["state"] == "RUNNING"
        # Only one that has no user answers this; and it does so last.
        fresh = self.core.restarts == 0
        return (await self.call("GET", "/api/onboarding/backup/info" if fresh else "/auth/providers"))["status"] == 200

    async def ready(self):
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self.core.exit_code is None:
            try:
                if await self.up():
                    return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
        raise TimeoutError(f"it does not get ready (exit code {self.core.exit_code})")

    async def restarted(self, wanted):
        deadline = time.monotonic() + READY_S
        while self.core.restarts < wanted:
            if time.monotonic() > deadline or self.core.exit_code is not None:
                raise TimeoutError(f"{self.core.restarts} restarts (exit code {self.core.exit_code})")
            await asyncio.sleep(0.1)
        await self.ready()
        return {"restarts": self.core.restarts}

    async def do(self, order):
        token = order.pop("token", self.token)
        if "command" in order:
            return await self.command({"type": order.pop("command"), **order}, token)
        if "get" in order:
            return await self.call("GET", order["get"], token)
        if "post" in order:
            return await self.call("POST", order["post"], token, json=order.get("body", {}))
        if "login" in order:
            return {"token": await self.login(*order["login"])}
        if "upload" in order:
            path, file = order["upload"]
            with open(file, "rb") as source:
                return await self.call("POST", path, token, data={"file": source})
        if "restarts" in order:
            return await self.restarted(order["restarts"])
        raise ValueError(f"{order} is no order")


def add_agent(config):
    home = os.path.join(config, "custom_components/unreachable")
    os.makedirs(home)
    shutil.copy(os.path.join(os.path.dirname(__file__), "homeassistant_agent.py"), os.path.join(home, "backup.py"))
    with open(os.path.join(home, "manifest.json"), "w") as file:
        json.dump(MANIFEST, file)
    with open(os.path.join(home, "__init__.py"), "w") as file:
        file.write("async def async_setup(hass, config):\n    return True\n")
    with open(os.path.join(config, "configuration.yaml"), "a") as file:
        file.write("unreachable:\n")


async def main():
    directory = sys.argv[1]
    config = os.path.join(directory, "config")
    os.mkdir(config)
    port = free_port()
    with open(os.path.join(config, "configuration.yaml"), "w") as file:
        file.write(CONFIGURATION)
    if "unreachable" in sys.argv[2:]:
        add_agent(config)
    core = Core(config, port)
    try:
        await serve(Talk(f"http://127.0.0.1:{port}", core))
    finally:
        core.end()


async def serve(talk):
    await talk.ready()
    told = {"url": talk.url, "config": talk.core.config}
    if "fresh" not in sys.argv[2:]:
        told |= {"user_token": await talk.onboard(), "token": talk.token}
        await talk.ready()
    print(json.dumps(told), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        try:
            answer = await asyncio.wait_for(talk.do(json.loads(line)), READY_S + 60)
        except Exception as error:
            answer = {"trouble": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


try:
    asyncio.run(main())
except Exception as error:
    print(json.dumps({"trouble": f"{type(error).__name__}: {error}"}), flush=True)
finally:
    # A thread that still reads standard input must not keep it.
    os._exit(0)
