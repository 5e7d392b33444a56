#!/usr/bin/env python3
"""Watches the API servers of a cluster: do they, and does an outsider, accept every token that is alive, and how often is each started?

    witness.py --kubeconfig ADMIN --server NODE=URL... --aws-ca FILE --issuer URL --bench NAME --pod-tokens FILE --report FILE

Every second, until SIGTERM, at each server: mints a token, presents the newest and the oldest tokens of all servers, a random choice
of those between and pods' own tokens as a bearer (SelfSubjectReview, no client certificate), presents one with a broken signature, and
verifies from outside the newest, any older and the pods' tokens for AWS that carry --issuer. FILE has tokens of pods, one a line. Five times a second looks
which kube-apiserver processes run on the nodes of bench NAME, by pid and start time.

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
import re
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


class Down(NoAnswer):
    """Nothing listens, or what listened went away."""


class ApiServer:
    """One API server, asked as an administrator or with a bearer token."""

    def __init__(self, node, server, kubeconfig):
        self.node = node
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
            raise Down(str(error)) from error

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


class Report:
    """What was seen so far; all threads add to it."""

    def __init__(self, given):
        self.path = given.report
        self.lock = threading.Lock()
        self.down = set()
        self.seen = {
            "minted": 0, "accepted": 0, "refused": [], "no_answer": 0, "outside_accepted": 0, "forged_accepted": 0,
            "forged_refused": 0, "issuers": [], "starts": {node: [] for node, _ in given.server}, "most_down": 0,
        }  # fmt: skip

    def count(self, what):
        with self.lock:
            self.seen[what] += 1

    def add_once(self, known, what):
        """True where it is new."""
        with self.lock:
            is_new = what not in known
            if is_new:
                known.append(what)
            return is_new

    def refuse(self, who, token, why):
        claims, now = claims_of(token), time.time()
        at = time.strftime("%T", time.gmtime(now))
        kid = jwt.get_unverified_header(token)["kid"]
        with self.lock:
            self.seen["refused"].append({"by": who, "why": why, "iss": claims["iss"], "kid": kid, "age": int(now - claims["iat"]), "at": at})

    def is_down(self, node, down):
        with self.lock:
            (self.down.add if down else self.down.discard)(node)
            self.seen["most_down"] = max(self.seen["most_down"], len(self.down))

    def write(self):
        new = pathlib.Path(f"{self.path}.new")
        with self.lock:
            new.write_text(json.dumps(self.seen, indent=1))
            os.replace(new, self.path)


class Witness:
    """Watches one API server; the tokens of all are presented to it."""

    def __init__(self, given, api, report, tokens):
        self.given = given
        self.api = api
        self.report = report
        self.tokens = tokens
        self.has_answered = False
        # As oidc_client.py is told its way on the command line.
        self.outside = argparse.Namespace(ca=given.aws_ca, proxy=None)

    def mint(self):
        token = self.api.mint()
        self.tokens.append(token)
        self.report.count("minted")
        self.report.add_once(self.report.seen["issuers"], claims_of(token)["iss"])

    def show_outside(self, token):
        issuer = self.given.issuer
        try:
            oidc_client.verify(token, issuer, AUDIENCES[0], *oidc_client.documents(issuer, issuer, self.outside))
            self.report.count("outside_accepted")
        except (oidc_client.Refused, jwt.PyJWTError) as error:
            got_answer = not isinstance(error.__cause__, OSError) or isinstance(error.__cause__, urllib.error.HTTPError)
            if got_answer:
                self.report.refuse("outsider", token, str(error))
            else:
                self.report.count("no_answer")

    def present(self, token):
        if self.api.accepts(token):
            self.report.count("accepted")
        else:
            self.report.refuse(f"API server of {self.api.node}", token, "401")

    def present_forged(self, token):
        head, _, signature = token.rpartition(".")
        forged = f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
        self.report.count("forged_accepted" if self.api.accepts(forged) else "forged_refused")

    def choose(self):
        """The newest of every server, the oldest, some of those between, and those of pods."""
        servers = len(self.given.server)
        tokens = list(self.tokens)
        between = tokens[1 : -2 * servers]
        chosen = tokens[:1] + random.sample(between, min(len(between), PRESENTED // servers)) + tokens[1:][-2 * servers :]
        return chosen + [token for token in self.pods() if AUDIENCES[0] not in claims_of(token)["aud"]]

    def choose_outside(self):
        ours = [token for token in self.tokens if claims_of(token)["iss"] == self.given.issuer]
        pods = [token for token in self.pods() if AUDIENCES[0] in claims_of(token)["aud"]]
        return ours[-1:] + random.sample(ours, min(len(ours), 1)) + [token for token in pods if claims_of(token)["iss"] == self.given.issuer]

    def pods(self):
        path = pathlib.Path(self.given.pod_tokens)
        return path.read_text().split() if path.exists() else []

    def round(self):
        steps = [self.mint]
        if self.tokens:
            steps += [lambda token=token: self.present(token) for token in self.choose()]
            steps.append(lambda: self.present_forged(self.tokens[0]))
            steps += [lambda token=token: self.show_outside(token) for token in self.choose_outside()]
        for step in steps:
            try:
                step()
            except Down:
                self.report.count("no_answer")
                # A node that has not joined yet is not down.
                self.report.is_down(self.api.node, self.has_answered)
                return
            except NoAnswer:
                self.report.count("no_answer")
        self.has_answered = True
        self.report.is_down(self.api.node, False)

    def watch(self, stop):
        while not stop.is_set():
            self.round()
            stop.wait(1)


def claims_of(token):
    return jwt.decode(token, options={"verify_signature": False})


def look_for_starts(bench, report):
    """Start time as well as pid: pids come back."""
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            name, _, fields = (folder / "stat").read_text().partition(") ")
            # The name stands there from exec on; a child of containerd's shim that has not come so far has another one.
            if not name.endswith("(kube-apiserver"):
                continue
            # Nodes share one kernel; each has its own control groups.
            node = re.search(f"/irsad-vm/{bench}/(n[0-9])", (folder / "cgroup").read_text())
        except OSError:
            continue
        if node and report.add_once(report.seen["starts"].setdefault(node[1], []), f"{folder.name} since {fields.split()[19]}"):
            # At once: the test may ask for it in the next moment.
            report.write()


def watch_starts(bench, report, stop):
    while not stop.wait(0.2):
        look_for_starts(bench, report)


def node_and_url(text):
    node, _, url = text.partition("=")
    return node, url


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--kubeconfig", "--aws-ca", "--issuer", "--bench", "--pod-tokens", "--report"):
        parser.add_argument(name, required=True)
    parser.add_argument("--server", required=True, action="append", type=node_and_url)
    given = parser.parse_args()
    report, tokens, stop = Report(given), [], threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threads = [threading.Thread(target=watch_starts, args=[given.bench, report, stop])]
    for node, url in given.server:
        witness = Witness(given, ApiServer(node, url, given.kubeconfig), report, tokens)
        threads.append(threading.Thread(target=witness.watch, args=[stop]))
    for thread in threads:
        thread.start()
    # A thread that failed would leave its server unwatched in silence.
    while not stop.wait(1) and all(thread.is_alive() for thread in threads):
        report.write()
    failed = not stop.is_set()
    stop.set()
    for thread in threads:
        thread.join()
    report.write()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
