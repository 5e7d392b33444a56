#!/usr/bin/env python3
"""Creates pods at one API server, for show (dryRun=All), until SIGTERM, and counts those that came without credentials.

    pods.py --kubeconfig ADMIN --server URL --account NAME --rate N --connections C --report FILE

As many a second as N, over C connections; fewer where the machine is busy. A pod is unpatched where the API server gives it back
without AWS_ROLE_ARN. A connection that the API server closed between two pods is opened again; what it answers with anything but 201,
and what it does not answer, is a failed call. Writes the report as JSON every second, and a last time before it exits 0 on SIGTERM.
"""

import argparse
import json
import os
import pathlib
import signal
import threading
import time

from witness import ApiServer, NoAnswer

# Longer than an API server waits for a webhook.
PATIENCE_SECONDS = 30


class Load:
    """Pods that were asked for; all threads add to it."""

    def __init__(self, given):
        self.given = given
        self.lock = threading.Lock()
        self.seen = {"pods": 0, "failed": [], "unpatched": [], "slowest_seconds": 0.0}

    def pod(self):
        containers = [{"name": "app", "image": "registry.example.com/app"}]
        spec = {"serviceAccountName": self.given.account, "containers": containers}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "load-"}, "spec": spec}

    def create(self, api):
        began = time.time()
        failed, unpatched = None, False
        try:
            status, body = api.post("/api/v1/namespaces/default/pods?dryRun=All", self.pod())
            failed = None if status == 201 else f"{status} {body[:300].decode(errors='replace')}"
            unpatched = status == 201 and b"AWS_ROLE_ARN" not in body
        except NoAnswer as error:
            failed = str(error)
        took = round(time.time() - began, 2)
        with self.lock:
            self.seen["pods"] += 1
            self.seen["slowest_seconds"] = max(self.seen["slowest_seconds"], took)
            if failed:
                self.seen["failed"].append({"began": began, "took": took, "why": failed})
            if unpatched:
                self.seen["unpatched"].append({"began": began, "took": took})

    def keep_creating(self, api, stop):
        interval = self.given.connections / self.given.rate
        while not stop.is_set():
            next_at = time.monotonic() + interval
            self.create(api)
            stop.wait(max(0.0, next_at - time.monotonic()))

    def write(self):
        new = pathlib.Path(f"{self.given.report}.new")
        with self.lock:
            new.write_text(json.dumps(self.seen, indent=1))
        os.replace(new, self.given.report)


def connected(given):
    api = ApiServer("", given.server, given.kubeconfig)
    api.as_administrator.timeout = PATIENCE_SECONDS
    return api


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--kubeconfig", "--server", "--account", "--report"):
        parser.add_argument(name, required=True)
    for name in ("--rate", "--connections"):
        parser.add_argument(name, required=True, type=int)
    given = parser.parse_args()
    load, stop = Load(given), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threads = [threading.Thread(target=load.keep_creating, args=[connected(given), stop]) for _ in range(given.connections)]
    for thread in threads:
        thread.start()
    while not stop.wait(1):
        load.write()
    for thread in threads:
        thread.join()
    load.write()


if __name__ == "__main__":
    main()
