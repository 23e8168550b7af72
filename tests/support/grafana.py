"""A simulated Grafana: the API as far as export and restore go, with its traps.

    grafana.py [fresh] DIRECTORY

As in the real one: search shows only what the token may see (the viewer's sees less and gets 200), pages repeat or are
shorter than asked, dashboards of the new schema answer 406 with the place where they are, secrets never come back,
what the provisioning API makes without X-Disable-Provenance can no longer be changed in the interface, a dashboard
without its folder, a rule group without its folder, policies without their receiver are refused.

Switches (/__set): version, page_cap (rows a page has at most), repeat (every page is the first), bare_dashboards
(each is {}), weak (which tokens see less), drop_dashboards (how many are gone), unseen (uids that are listed and answer 404),
deleted_meanwhile (uids that are gone once they were listed), alerting_gone (places of alerting that answer 404, or "all"), refuse (titles of dashboards that are not saved).
"""

import copy
import sys

import faults

TOKEN = "glsa_admin0123456789"
VIEWER = "glsa_viewer0123456789"
V2 = "/apis/dashboard.grafana.app/v2beta1/namespaces/default/dashboards"
PROVISIONING = "/api/v1/provisioning"


class Grafana(faults.Simulator):
    def __init__(self, fresh):
        super().__init__()
        self.version = "12.4.0"
        self.page_cap = 5000
        self.repeat = False
        self.bare_dashboards = False
        # Listed, and not to be had: by a permission on a folder, a broken index, a proxy. Once: deleted meanwhile.
        self.unseen, self.deleted_meanwhile = [], []
        self.alerting_gone = []
        # Titles that are refused when they are saved.
        self.refuse = []
        self.folders, self.datasources, self.panels, self.dashboards = {}, {}, {}, {}
        self.new_dashboards, self.points, self.mutes, self.templates = {}, {}, {}, {}
        self.policies = {"receiver": "grafana-default-email", "group_by": ["grafana_folder", "alertname"]}
        self.groups = {}
        self.locked = set()
        self.numbers = 100
        if not fresh:
            self.fill()

    def fill(self):
        for uid, title, parent in (("infra", "Infrastructure", ""), ("net", "Network", "infra"), ("home", "Home", "")):
            self.folders[uid] = {"uid": uid, "title": title, "parentUid": parent}
        self.datasources["prom"] = {
            "id": 1, "orgId": 1, "uid": "prom", "name": "Prometheus", "type": "prometheus", "access": "proxy",
            "url": "http://prometheus:9090", "basicAuth": True, "basicAuthUser": "me", "isDefault": True,
            "jsonData": {"httpMethod": "POST"}, "secureJsonFields": {"basicAuthPassword": True}, "readOnly": False, "version": 3,
        }
        self.datasources["loki"] = {
            "id": 2, "orgId": 1, "uid": "loki", "name": "Loki", "type": "loki", "access": "proxy", "url": "http://loki:3100",
            "jsonData": {}, "secureJsonFields": {}, "readOnly": False, "version": 1,
        }
        self.panels["cpu"] = {
            "id": 9, "orgId": 1, "uid": "cpu", "folderUid": "infra", "name": "CPU", "kind": 1, "version": 2,
            "model": {"type": "timeseries", "title": "CPU"}, "meta": {"folderName": "Infrastructure"},
        }
        for n in range(9):
            self.dashboards[f"dash{n}"] = {
                "dashboard": {
                    "id": 20 + n, "uid": f"dash{n}", "title": f"Dashboard {n}", "version": 4, "schemaVersion": 39, "tags": [],
                    "panels": [{"id": 1, "type": "timeseries", "datasource": {"type": "prometheus", "uid": "prom"}}],
                },
                "folderUid": ["", "infra", "net"][n % 3],
            }
        for uid, folder in (("dyn1", "home"), ("dyn2", "")):
            self.new_dashboards[uid] = {
                "kind": "Dashboard", "apiVersion": "dashboard.grafana.app/v2beta1",
                "metadata": {
                    "name": uid, "namespace": "default", "resourceVersion": "17", "generation": 3, "uid": "0ad5",
                    "creationTimestamp": "2026-01-01T00:00:00Z",
                    "annotations": {"grafana.app/folder": folder, "grafana.app/createdBy": "user:1"},
                },
                "spec": {"title": f"Dynamic {uid}", "elements": {"panel-1": {"kind": "Panel"}}, "layout": {"kind": "GridLayout"}},
            }
        self.points["cp1"] = {
            "uid": "cp1", "name": "ops", "type": "slack", "settings": {"url": "[REDACTED]", "recipient": "#ops"},
            "disableResolveMessage": False, "provenance": "",
        }
        self.mutes["nights"] = {"name": "nights", "time_intervals": [{"times": [{"start_time": "22:00", "end_time": "06:00"}]}]}
        self.templates["short"] = {"name": "short", "template": '{{ define "short" }}x{{ end }}', "version": "abc", "provenance": ""}
        self.policies = {
            "receiver": "ops", "group_by": ["alertname"],
            "routes": [{"receiver": "ops", "object_matchers": [["severity", "=", "page"]], "mute_time_intervals": ["nights"]}],
        }
        self.groups[("infra", "host alerts/1")] = {
            "title": "host alerts/1", "folderUid": "infra", "interval": 60,
            "rules": [self.rule(f"rule{n}", "infra", "host alerts/1", n) for n in range(3)],
        }

    @staticmethod
    def rule(uid, folder, group, number):
        return {
            "id": number, "uid": uid, "orgID": 1, "folderUID": folder, "ruleGroup": group, "title": f"Rule {number}",
            "condition": "A", "data": [{"refId": "A", "datasourceUid": "prom"}], "for": "5m", "updated": "2026-01-01T00:00:00Z",
        }

    def state(self):
        return {
            "folders": self.folders, "datasources": self.datasources, "panels": self.panels, "dashboards": self.dashboards,
            "new_dashboards": self.new_dashboards, "points": self.points, "mutes": self.mutes, "templates": self.templates,
            "policies": self.policies, "groups": list(self.groups.values()), "locked": sorted(self.locked),
        }

    def set(self, values):
        for key, value in values.items():
            if key == "drop_dashboards":
                for uid in list(self.dashboards)[:value]:
                    del self.dashboards[uid]
            elif key == "drop_folder":
                del self.folders[value]
            elif key == "provisioned":
                self.dashboards[value]["provisioned"] = True
                self.dashboards[value]["dashboard"]["title"] += " (from a file)"
            elif key == "rename":
                self.dashboards[value]["dashboard"]["title"] = "changed by hand"
            else:
                setattr(self, key, value)

    # Answers.

    def handle(self, call):
        path, method = call.path_only, call.command
        if path == "/api/health":
            call.answer(200, {"database": "ok", "version": self.version, "commit": "abc"})
            return
        token = call.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in (TOKEN, VIEWER):
            call.answer(401, {"message": "Invalid API key"})
            return
        weak = token == VIEWER
        if weak and (path.startswith(("/api/datasources", PROVISIONING)) or method != "GET"):
            call.answer(403, {"message": "You'll need additional permissions to perform this action."})
            return
        if method == "DELETE":
            with self.lock:
                self.delete(call, path)
            return
        for prefix, work in (
            ("/api/org", self.org), ("/api/search", self.search), ("/api/folders", self.folder), ("/api/datasources", self.datasource),
            ("/api/library-elements", self.library), ("/api/dashboards", self.dashboard), (V2, self.new_dashboard),
            (PROVISIONING, self.provisioning),
        ):
            if path.startswith(prefix):
                with self.lock:
                    work(call, path[len(prefix) :], method, weak)
                return
        call.answer(404, {"message": "Not found"})

    def delete(self, call, path):
        stores = {
            "/api/folders/": self.folders, "/api/datasources/uid/": self.datasources, "/api/library-elements/": self.panels,
            "/api/dashboards/uid/": self.dashboards, V2 + "/": self.new_dashboards, PROVISIONING + "/contact-points/": self.points,
            PROVISIONING + "/mute-timings/": self.mutes, PROVISIONING + "/templates/": self.templates,
        }
        for prefix, store in stores.items():
            if path.startswith(prefix):
                gone = store.pop(path[len(prefix) :], None)
                call.answer(200 if gone else 404, {"message": "deleted" if gone else "not found"})
                return
        folder, _, group = path.removeprefix(PROVISIONING + "/folder/").partition("/rule-groups/")
        self.groups.pop((folder, group), None)
        call.answer(204, b"", "application/json")

    def org(self, call, path, method, weak):
        call.answer(200, {"id": 1, "name": "Main Org."})

    def page(self, call, rows, size):
        page = 1 if self.repeat else int(call.query.get("page", 1))
        size = min(int(call.query.get(size, 1000)), self.page_cap)
        return rows[(page - 1) * size : page * size]

    def search(self, call, path, method, weak):
        rows = []
        for uid, one in self.dashboards.items():
            rows.append({"uid": uid, "title": one["dashboard"]["title"], "type": "dash-db"})
        for uid, one in self.new_dashboards.items():
            rows.append({"uid": uid, "title": one["spec"]["title"], "type": "dash-db"})
        if weak:
            rows = rows[:2]
        for uid in self.deleted_meanwhile:
            # This list still has it, the next one has not.
            self.dashboards.pop(uid, None)
        call.answer(200, self.page(call, rows, "limit"))

    def folder(self, call, path, method, weak):
        if method == "GET" and not path:
            parent = call.query.get("parentUid", "")
            rows = [one for one in self.folders.values() if one["parentUid"] == parent]
            call.answer(200, [{"uid": one["uid"], "title": one["title"]} for one in self.page(call, rows, "limit")])
        elif method == "POST" and not path:
            body = call.json()
            if body["uid"] in self.folders:
                call.answer(409, {"message": "a folder with that uid exists"})
            elif body.get("parentUid") and body["parentUid"] not in self.folders:
                call.answer(404, {"message": "parent folder not found"})
            else:
                self.folders[body["uid"]] = {"uid": body["uid"], "title": body["title"], "parentUid": body.get("parentUid", "")}
                call.answer(200, self.folders[body["uid"]])
        else:
            uid, _, verb = path[1:].partition("/")
            one = self.folders.get(uid)
            if one is None:
                call.answer(404, {"message": "folder not found"})
                return
            if method == "PUT":
                one["title"] = call.json()["title"]
            elif method == "POST" and verb == "move":
                one["parentUid"] = call.json()["parentUid"]
            call.answer(200, {key: value for key, value in one.items() if value})

    def datasource(self, call, path, method, weak):
        if method == "GET" and not path:
            call.answer(200, [{key: one[key] for key in one if key != "secureJsonFields"} for one in self.datasources.values()])
        elif method == "POST":
            body = call.json()
            if any(one["name"] == body["name"] for one in self.datasources.values()):
                call.answer(409, {"message": "data source with the same name already exists"})
                return
            self.numbers += 1
            secure = {name: True for name in body.pop("secureJsonData", {})}
            body.update(id=self.numbers, orgId=1, version=1, readOnly=False, secureJsonFields=secure)
            self.datasources[body["uid"]] = body
            call.answer(200, {"datasource": body, "message": "Datasource added"})
        else:
            uid = path.removeprefix("/uid/")
            one = self.datasources.get(uid)
            if one is None:
                call.answer(404, {"message": "Data source not found"})
            elif method == "PUT":
                kept = {key: one[key] for key in ("id", "orgId", "readOnly", "secureJsonFields")}
                self.datasources[uid] = {**call.json(), **kept, "version": one["version"] + 1}
                call.answer(200, {"message": "Datasource updated"})
            else:
                call.answer(200, one)

    def library(self, call, path, method, weak):
        if method == "GET" and not path:
            rows = self.page(call, list(self.panels.values()), "perPage")
            call.answer(200, {"result": {"elements": rows, "totalCount": len(self.panels), "page": 1, "perPage": 100}})
        elif method == "POST":
            body = call.json()
            if body["folderUid"] and body["folderUid"] not in self.folders:
                call.answer(404, {"message": "folder not found"})
                return
            self.numbers += 1
            self.panels[body["uid"]] = {**body, "id": self.numbers, "orgId": 1, "version": 1, "meta": {}}
            call.answer(200, {"result": self.panels[body["uid"]]})
        else:
            one = self.panels.get(path[1:])
            if one is None:
                call.answer(404, {"message": "library element could not be found"})
            elif method == "PATCH":
                body = call.json()
                if body["version"] != one["version"]:
                    call.answer(412, {"message": "the library element has been changed by someone else"})
                    return
                one.update(body, version=one["version"] + 1)
                call.answer(200, {"result": one})
            else:
                call.answer(200, {"result": one})

    def dashboard(self, call, path, method, weak):
        if method == "POST" and path == "/db":
            body = call.json()
            dashboard, folder = body["dashboard"], body.get("folderUid", "")
            if dashboard.get("title") in self.refuse:
                call.answer(400, {"message": "bad dashboard data"})
            elif not dashboard.get("title"):
                call.answer(400, {"message": "Dashboard title cannot be empty"})
            elif folder and folder not in self.folders:
                call.answer(404, {"message": "folder not found"})
            elif self.dashboards.get(dashboard["uid"], {}).get("provisioned"):
                call.answer(400, {"message": "Cannot save provisioned dashboard"})
            elif dashboard["uid"] in self.dashboards and not body.get("overwrite"):
                call.answer(412, {"status": "version-mismatch"})
            else:
                self.numbers += 1
                before = self.dashboards.get(dashboard["uid"], {"dashboard": {}})["dashboard"]
                number, version = before.get("id", self.numbers), before.get("version", 0) + 1
                self.dashboards[dashboard["uid"]] = {"dashboard": {**dashboard, "id": number, "version": version}, "folderUid": folder}
                call.answer(200, {"status": "success", "uid": dashboard["uid"], "version": version})
            return
        uid = path.removeprefix("/uid/")
        if self.bare_dashboards:
            call.answer(200, {"dashboard": {}, "meta": {}})
        elif uid in self.new_dashboards:
            message = f"dashboard api version not supported, use {V2}/{uid} instead"
            call.answer(406, {"message": message, "status": "error"})
        elif uid in self.dashboards and uid not in self.unseen:
            one = self.dashboards[uid]
            meta = {"folderUid": one["folderUid"], "provisioned": one.get("provisioned", False), "version": 4, "canSave": True}
            call.answer(200, {"dashboard": one["dashboard"], "meta": meta})
        else:
            call.answer(404, {"message": "Dashboard not found"})

    def new_dashboard(self, call, path, method, weak):
        uid = path[1:]
        if method == "GET":
            one = self.new_dashboards.get(uid)
            call.answer(200, one) if one else call.answer(404, {"message": "not found"})
            return
        body = call.json()
        uid = body["metadata"]["name"]
        if "resourceVersion" in body["metadata"] or "elements" not in body["spec"]:
            call.answer(422, {"message": "invalid"})
        elif method == "POST" and uid in self.new_dashboards:
            call.answer(409, {"reason": "AlreadyExists", "message": "already exists"})
        else:
            body = copy.deepcopy(body)
            body["metadata"].update(resourceVersion="99", generation=1)
            self.new_dashboards[uid] = body
            call.answer(201 if method == "POST" else 200, body)

    def provisioning(self, call, path, method, weak):
        if "all" in self.alerting_gone or path in self.alerting_gone:
            call.answer(404, {"message": "Not found"})
            return
        made = method != "GET" and call.headers.get("X-Disable-Provenance") != "true"
        if made:
            self.locked.add(path)
        if path == "/alert-rules":
            call.answer(200, [rule for group in self.groups.values() for rule in group["rules"]])
        elif path.startswith("/folder/"):
            folder, _, group = path[len("/folder/") :].partition("/rule-groups/")
            if method == "GET":
                one = self.groups.get((folder, group))
                call.answer(200, one) if one else call.answer(404, {"message": "not found"})
            elif folder not in self.folders:
                call.answer(404, {"message": "folder not found"})
            else:
                body = call.json()
                for rule in body["rules"]:
                    self.numbers += 1
                    rule.update(id=self.numbers, orgID=1, updated="2026-11-11T00:00:00Z")
                self.groups[(folder, group)] = body
                call.answer(200, body)
        elif path == "/policies":
            if method == "PUT":
                body = call.json()
                if body["receiver"] not in {one["name"] for one in self.points.values()} | {"grafana-default-email"}:
                    call.answer(400, {"message": "receiver does not exist"})
                    return
                self.policies = body
                call.answer(202, {"message": "policies updated"})
            else:
                call.answer(200, {**self.policies, "provenance": ""})
        else:
            self.named(call, path, method)

    def named(self, call, path, method):
        place, _, name = path[1:].partition("/")
        store = {"contact-points": self.points, "mute-timings": self.mutes, "templates": self.templates}.get(place)
        key = "uid" if place == "contact-points" else "name"
        if store is None:
            call.answer(404, {"message": "Not found"})
        elif method == "GET" and not name:
            call.answer(200, list(store.values()))
        elif method == "GET":
            call.answer(200, store[name]) if name in store else call.answer(404, {"message": "not found"})
        elif method == "POST":
            body = call.json()
            if body[key] in store:
                call.answer(409, {"message": "already exists"})
                return
            store[body[key]] = body
            call.answer(202 if place == "contact-points" else 201, body)
        else:
            body = call.json()
            if place == "templates":
                if name in store and body.get("version") != store[name]["version"]:
                    call.answer(409, {"message": "version conflict"})
                    return
                self.numbers += 1
                body["version"] = f"v{self.numbers}"
            body[key] = name
            store[name] = body
            call.answer(202, body)


if __name__ == "__main__":
    faults.serve(Grafana("fresh" in sys.argv[1:-1]))
