"""A simulated Prometheus, for what the real one cannot be made to do: faults, and snapshots that a test looks at.

    prometheus.py DIRECTORY

DIRECTORY is its data directory, with one live block. Switches (/__set): admin (off: 500), blocks (how many a snapshot
has), samples (of each), config (the loaded one), version, rules (files that rules were loaded from), pools (scrape
jobs that are loaded; none: the server does not tell, as old ones).
"""

import json
import os
import pathlib
import sys
import time

import faults

CONFIG = "global:\n  scrape_interval: 15s\nscrape_configs:\n- job_name: self\n  basic_auth: {username: a, password: <secret>}\n"
NAME = "01KX{:022d}"


class Prometheus(faults.Simulator):
    def __init__(self, directory):
        super().__init__()
        self.directory = pathlib.Path(directory)
        (self.directory / "wal").mkdir()
        self.admin, self.blocks, self.samples, self.config = True, 1, 1000, CONFIG
        self.version, self.rules, self.pools = "3.1.0", [], None
        self.made = 0
        self.block(self.directory, 0, 1000)

    def block(self, place, number, samples):
        name = NAME.format(number)
        block = place / name
        (block / "chunks").mkdir(parents=True)
        meta = {"ulid": name, "version": 1, "stats": {"numSamples": samples, "numSeries": 3, "numChunks": 3}}
        (block / "meta.json").write_text(json.dumps(meta))
        (block / "index").write_bytes(b"\xba\xaa\xd7\x00" + b"index" * 500)
        (block / "chunks" / "000001").write_bytes(b"\x85\xbd\x40\xdd" + b"chunks" * 5000)
        (block / "tombstones").write_bytes(b"\x01\x30\xba\x30\x01\x00\x00\x00\x00")
        return block

    def state(self):
        snapshots = self.directory / "snapshots"
        return {"snapshots": sorted(os.listdir(snapshots)) if snapshots.is_dir() else []}

    def handle(self, call):
        path, method = call.path_only, call.command
        if path == "/api/v1/status/buildinfo":
            call.answer(200, {"status": "success", "data": {"version": self.version}})
        elif path == "/api/v1/status/config":
            call.answer(200, {"status": "success", "data": {"yaml": self.config}})
        elif path == "/api/v1/rules":
            groups = [{"name": "g", "file": file, "rules": []} for file in self.rules]
            call.answer(200, {"status": "success", "data": {"groups": groups}})
        elif path == "/api/v1/scrape_pools" and self.pools is not None:
            call.answer(200, {"status": "success", "data": {"scrapePools": self.pools}})
        elif path == "/api/v1/admin/tsdb/snapshot" and method == "POST":
            if not self.admin:
                call.answer(500, {"status": "error", "errorType": "unavailable", "error": "admin APIs disabled"})
                return
            self.made += 1
            name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + f"-{self.made:016x}"
            place = self.directory / "snapshots" / name
            place.mkdir(parents=True)
            for number in range(self.blocks):
                self.block(place, number, self.samples)
            call.answer(200, {"status": "success", "data": {"name": name}})
        else:
            call.answer(404, b"404 page not found", "text/plain")


if __name__ == "__main__":
    faults.serve(Prometheus(sys.argv[1]))
