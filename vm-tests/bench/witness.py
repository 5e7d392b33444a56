#!/usr/bin/env python3
"""Watches one API server: does it, and does an outsider, accept every token that is alive, and how often is it started?

    witness.py --kubeconfig ADMIN --server URL --aws-ca FILE --issuer URL --report FILE

Every second, until SIGTERM: mints a token, presents the newest and the oldest tokens and a random choice of those between as a
bearer (SelfSubjectReview, no client certificate), presents one with a broken signature, and verifies the newest token from outside
if it carries --issuer. Five times a second looks which kube-apiserver processes run here, by pid and start time.

Refused is a token that was answered with 401, or that the outsider refuses while it gets answers. A 403 or 5xx is the answer of
a server that is starting or stopping, and no judgement (kube-apiserver serves before RBAC is loaded). Writes the report as JSON
every second; writes it a last time and exits 0 on SIGTERM.
"""

import argparse
import base64
import http.client
import json
import os
import pathlib
import random
import signal
import ssl
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse

import jwt

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "tests/real"))
import oidc_client  # noqa: E402

AUDIENCES = ["sts.amazonaws.com", "https://kubernetes.default.svc.cluster.local"]
TOKEN_REQUEST = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": AUDIENCES, "expirationSeconds": 7200}}
SELF_REVIEW = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
PRESENTED = 12


class NoAnswer(Exception):
    """The server did not answer, or with a status that judges nothing."""


class ApiServer:
    """One API server, asked as an administrator or with a bearer token."""

    def __init__(self, server, kubeconfig):
        host = urllib.parse.urlsplit(server).netloc
        anonymous, administrator = ssl.create_default_context(), ssl.create_default_context()
        self.read(kubeconfig, anonymous, administrator)
        self.as_bearer = http.client.HTTPSConnection(host, timeout=3, context=anonymous)
        self.as_administrator = http.client.HTTPSConnection(host, timeout=3, context=administrator)

    def read(self, kubeconfig, anonymous, administrator):
        """kubeadm writes admin.conf with everything inline, one key a line."""
        found = {}
        for line in pathlib.Path(kubeconfig).read_text().splitlines():
            name, _, value = line.strip().partition(": ")
            if name.endswith("-data"):
                found[name] = base64.b64decode(value).decode()
        for context in (anonymous, administrator):
            context.load_verify_locations(cadata=found["certificate-authority-data"])
        with tempfile.NamedTemporaryFile("w") as both:
            both.write(found["client-certificate-data"] + found["client-key-data"])
            both.flush()
            administrator.load_cert_chain(both.name)

    def post(self, path, body, bearer=None):
        """Status and body of the answer."""
        headers = {"Content-Type": "application/json"}
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        connection = self.as_bearer if bearer else self.as_administrator
        try:
            # Connects where it is not connected; a kept connection saves most of the processor time of a request.
            connection.request("POST", path, json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise NoAnswer(str(error)) from error

    def mint(self):
        status, body = self.post("/api/v1/namespaces/default/serviceaccounts/default/token", TOKEN_REQUEST)
        if status != 201:
            raise NoAnswer(f"mint: {status}")
        return json.loads(body)["status"]["token"]

    def accepts(self, token):
        status, _ = self.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", SELF_REVIEW, bearer=token)
        if status not in (201, 401):
            raise NoAnswer(f"present: {status}")
        return status == 201


class Witness:
    """What was seen so far."""

    def __init__(self, given):
        self.given = given
        self.api = ApiServer(given.server, given.kubeconfig)
        # As oidc_client.py is told its way on the command line.
        self.outside = argparse.Namespace(ca=given.aws_ca, proxy=None)
        self.tokens = []
        self.writing = threading.Lock()
        self.report = {
            "minted": 0, "accepted": 0, "refused": [], "no_answer": 0, "outside_accepted": 0,
            "forged_accepted": 0, "forged_refused": 0, "issuers": [], "starts": [],
        }  # fmt: skip

    def look_for_starts(self):
        """Start time as well as pid: pids come back."""
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                name, _, fields = (folder / "stat").read_text().partition(") ")
            except OSError:
                continue
            # The name stands there from exec on; a child of containerd's shim that has not come so far has another one.
            if name.endswith("(kube-apiserver"):
                start = f"{folder.name} since {fields.split()[19]}"
                if start not in self.report["starts"]:
                    self.report["starts"].append(start)
                    # At once: a round may last while a server that stops answers nothing.
                    self.write()

    def watch_starts(self, stop):
        while not stop.wait(0.2):
            self.look_for_starts()

    def mint(self):
        token = self.api.mint()
        issuer = jwt.decode(token, options={"verify_signature": False})["iss"]
        self.tokens.append(token)
        self.report["minted"] += 1
        if issuer not in self.report["issuers"]:
            self.report["issuers"].append(issuer)
        if issuer == self.given.issuer:
            self.show_outside(token)

    def refuse(self, who, token, why):
        claims = jwt.decode(token, options={"verify_signature": False})
        self.report["refused"].append({"by": who, "why": why, "iss": claims["iss"], "age": int(time.time() - claims["iat"])})

    def show_outside(self, token):
        issuer = self.given.issuer
        try:
            oidc_client.verify(token, issuer, AUDIENCES[0], issuer, self.outside)
            self.report["outside_accepted"] += 1
        except (oidc_client.Refused, jwt.PyJWTError) as error:
            got_answer = not isinstance(error.__cause__, OSError) or isinstance(error.__cause__, urllib.error.HTTPError)
            if got_answer:
                self.refuse("outsider", token, str(error))
            else:
                self.report["no_answer"] += 1

    def present(self, token):
        if self.api.accepts(token):
            self.report["accepted"] += 1
        else:
            self.refuse("API server", token, "401")

    def present_forged(self, token):
        head, _, signature = token.rpartition(".")
        forged = f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
        self.report["forged_accepted" if self.api.accepts(forged) else "forged_refused"] += 1

    def choose(self):
        """The newest, the oldest, and some of those between."""
        between = self.tokens[1:-1]
        return self.tokens[:1] + random.sample(between, min(len(between), PRESENTED)) + self.tokens[-1:]

    def round(self):
        steps = [self.mint]
        if self.tokens:
            steps += [lambda token=token: self.present(token) for token in self.choose()]
            steps.append(lambda: self.present_forged(self.tokens[0]))
        for step in steps:
            try:
                step()
            except NoAnswer:
                self.report["no_answer"] += 1

    def write(self):
        new = pathlib.Path(f"{self.given.report}.new")
        with self.writing:
            new.write_text(json.dumps(self.report, indent=1))
            os.replace(new, self.given.report)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--kubeconfig", "--server", "--aws-ca", "--issuer", "--report"):
        parser.add_argument(name, required=True)
    witness, stop = Witness(parser.parse_args()), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    watcher = threading.Thread(target=witness.watch_starts, args=[stop])
    watcher.start()
    while not stop.is_set():
        witness.round()
        witness.write()
        stop.wait(1)
    watcher.join()
    witness.write()


if __name__ == "__main__":
    main()
