#!/usr/bin/env python3
"""S3, IAM and STS (moto) with TLS, and an instance metadata service, for the nodes of a bench.

    aws.py --address ADDRESS --certificates FOLDER --region REGION [--user-data FILE]

Listens on ADDRESS:443 with FOLDER/certificate.pem and FOLDER/key.pem, and on 169.254.169.254:80. Instance metadata ask for a
session token (IMDSv2, as new instances do) and name a role, its credentials, the region and, where FILE is given, user data.
"""

import argparse
import json
import logging
import pathlib
import secrets
import ssl
import threading

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

ROLE = "control-plane"
ACCOUNT = "123456789012"
METADATA_ADDRESS = "169.254.169.254"


class Metadata:
    """Instance metadata service, version 2 only (Amazon EC2 User Guide, "Use the Instance Metadata Service")."""

    def __init__(self, region, user_data):
        self.tokens = set()
        credentials = {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": "ASIATESTTESTTESTTEST",
            "SecretAccessKey": "test",
            "Token": "test",
            "LastUpdated": "2026-01-01T00:00:00Z",
            "Expiration": "2099-01-01T00:00:00Z",
        }
        document = {"region": region, "accountId": ACCOUNT, "instanceId": "i-0123456789abcdef0", "availabilityZone": f"{region}a"}
        meta = {
            "instance-id": document["instanceId"],
            "local-ipv4": "10.77.1.11",
            "placement/region": region,
            "placement/availability-zone": f"{region}a",
            "iam/security-credentials": ROLE,
            f"iam/security-credentials/{ROLE}": json.dumps(credentials),
        }
        self.answers = {f"latest/meta-data/{path}": text for path, text in meta.items()}
        self.answers["latest/dynamic/instance-identity/document"] = json.dumps(document)
        if user_data:
            self.answers["latest/user-data"] = user_data.read_text()

    @Request.application
    def __call__(self, request):
        path = request.path.strip("/")
        if path == "latest/api/token" and request.method == "PUT":
            token = secrets.token_urlsafe()
            self.tokens.add(token)
            lifetime = request.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "21600")
            return Response(token, headers={"X-aws-ec2-metadata-token-ttl-seconds": lifetime})
        if request.headers.get("X-aws-ec2-metadata-token") not in self.tokens:
            return Response("a session token is needed", 401)
        if path not in self.answers:
            return Response("not found", 404)
        return Response(self.answers[path], mimetype="text/plain")


class Aws(DomainDispatcherApplication):
    """moto, by the name of the host that is asked."""

    def get_service_from_unsigned_path(self, _path):
        # moto would take every path with .well-known in it for one of Cognito's.
        return None, None


class OneLine(WSGIRequestHandler):
    """Requests by their host: nearly all paths are the same in S3."""

    # Clients keep connections, as with AWS.
    protocol_version = "HTTP/1.1"

    def log_request(self, code="-", size="-"):
        logging.info("%s %s %s%s %s", self.address_string(), self.command, self.headers.get("Host"), self.path, code)


def serve(address, port, application, context=None):
    """Serves in a thread of its own that ends with the process."""
    server = make_server(address, port, application, threaded=True, request_handler=OneLine, ssl_context=context)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    return thread


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", required=True)
    parser.add_argument("--certificates", required=True, type=pathlib.Path)
    parser.add_argument("--region", required=True)
    parser.add_argument("--user-data", type=pathlib.Path)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(given.certificates / "certificate.pem", given.certificates / "key.pem")
    threads = [
        serve(given.address, 443, Aws(create_backend_app), context),
        serve(METADATA_ADDRESS, 80, Metadata(given.region, given.user_data)),
    ]
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
