#!/usr/bin/env python3
"""An OIDC relying party that shares no code with irsad: is this token good for this issuer and audience?

    oidc_client.py --issuer URL --audience AUDIENCE [--documents FOLDER-OR-URL] [--ca FILE] [--proxy URL] < TOKEN
    oidc_client.py --issuer URL --cache SECONDS [--documents FOLDER-OR-URL] [--ca FILE] [--proxy URL] < LINES

Reads the published documents at the issuer URL, or at --documents as if that were the issuer URL, as OpenID Connect
Discovery 1.0 (sections 3 and 4) says, and checks signature, iss, aud and exp by PyJWT. Prints the claims as JSON and exits 0,
or prints one reason on stderr and exits 1; wrong usage exits 2.

With --cache it is a relying party that goes on: a line "AUDIENCE TOKEN" is answered by a line "good", "refused: REASON" or
"unreadable: REASON". Documents are read again when they are older than SECONDS, an unknown kid is no reason to; while they
cannot be read, the last ones count.
"""

import argparse
import json
import pathlib
import ssl
import sys
import time
import urllib.request

import jwt

# OpenID Connect Discovery 1.0, section 3: the REQUIRED members that a verifier of ID tokens meets.
REQUIRED = ["issuer", "jwks_uri", "response_types_supported", "subject_types_supported", "id_token_signing_alg_values_supported"]
TIMEOUT_SECONDS = 10


class Refused(Exception):
    """The token or the documents are not good; the text is the reason."""


class Unreadable(Refused):
    """There is no document to judge by."""


def read(location, way):
    """The JSON object in a file or at a URL."""
    try:
        if not location.startswith(("http://", "https://")):
            return json.loads(pathlib.Path(location).read_bytes())
        context = ssl.create_default_context(cafile=way.ca)
        # Only the proxy that is named: the environment's cannot see a server of this test.
        proxies = {"https": way.proxy} if way.proxy else {}
        handlers = [urllib.request.ProxyHandler(proxies), urllib.request.HTTPSHandler(context=context)]
        with urllib.request.build_opener(*handlers).open(location, timeout=TIMEOUT_SECONDS) as answer:
            return json.load(answer)
    except (OSError, ValueError) as error:
        raise Unreadable(f"cannot read {location}: {error}") from error


def discover(issuer, location, way):
    """The provider metadata, checked against the issuer that was asked for."""
    metadata = read(f"{location}/.well-known/openid-configuration", way)
    missing = [name for name in REQUIRED if not metadata.get(name)]
    if missing:
        raise Refused(f"the discovery document lacks {', '.join(missing)}")
    # Section 4.3: identical, not only alike; a trailing slash counts.
    if metadata["issuer"] != issuer:
        raise Refused(f"the discovery document is of {metadata['issuer']}, not of {issuer}")
    return metadata


def keys(metadata, location, way):
    """The published keys by kid."""
    issuer, uri = metadata["issuer"], metadata["jwks_uri"]
    # What is published below the issuer is read where the documents are; a jwks_uri elsewhere is read there.
    if uri.startswith(f"{issuer}/"):
        uri = location + uri[len(issuer) :]
    by_kid = {}
    for key in read(uri, way).get("keys", []):
        if key.get("kid") in by_kid or not key.get("kid"):
            raise Refused(f"the JWKS has no kid or the same kid twice: {key.get('kid')}")
        if key.get("use") not in (None, "sig"):
            raise Refused(f"key {key['kid']} is not for signatures: {key['use']}")
        by_kid[key["kid"]] = key
    return by_kid


def documents(issuer, location, way):
    """What is published: provider metadata, and keys by kid."""
    metadata = discover(issuer, location, way)
    return metadata, keys(metadata, location, way)


def verify(token, issuer, audience, metadata, published):
    """The claims of a token that is good for this issuer and audience."""
    header = jwt.get_unverified_header(token)
    kid, algorithm = header.get("kid"), header.get("alg")
    if kid not in published:
        raise Refused(f"the token's kid {kid} is not published; published: {', '.join(published) or 'none'}")
    if algorithm not in metadata["id_token_signing_alg_values_supported"]:
        raise Refused(f"the token's algorithm {algorithm} is not in id_token_signing_alg_values_supported")
    return jwt.decode(
        token,
        jwt.PyJWK(published[kid]).key,
        algorithms=[algorithm],
        issuer=issuer,
        audience=audience,
        options={"require": ["iss", "sub", "aud", "exp", "iat"]},
    )


class Cache:
    """Documents of one issuer, kept for some time."""

    def __init__(self, given, location):
        self.given, self.location, self.read_at, self.documents = given, location, None, None

    def current(self):
        """The documents to judge by now."""
        now = time.monotonic()
        if self.read_at is None or now - self.read_at > self.given.cache:
            try:
                self.documents, self.read_at = documents(self.given.issuer, self.location, self.given), now
            except Unreadable:
                if self.documents is None:
                    raise
        return self.documents


def answer(line, cache):
    """One line for one question."""
    audience, token = line.split()
    try:
        verify(token, cache.given.issuer, audience, *cache.current())
    except Unreadable as error:
        return f"unreadable: {error}"
    except (Refused, jwt.PyJWTError) as error:
        return f"refused: {error}"
    return "good"


def serve(given, location):
    """Answers line by line, until there are no more."""
    cache = Cache(given, location)
    for line in sys.stdin:
        print(" ".join(answer(line, cache).split()), flush=True)
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--issuer", required=True)
    parser.add_argument("--audience", help="what the token has to be for")
    parser.add_argument("--cache", type=float, metavar="SECONDS", help="answer line by line; keep documents for so long")
    parser.add_argument("--documents", help="folder or URL to read instead of the issuer URL")
    parser.add_argument("--ca", help="PEM file of the authorities to trust instead of the system's")
    parser.add_argument("--proxy", help="HTTP proxy to reach the documents through")
    given = parser.parse_args()
    if (given.audience is None) == (given.cache is None):
        parser.error("give --audience or --cache")
    location = (given.documents or given.issuer).rstrip("/")
    if given.cache is not None:
        return serve(given, location)
    try:
        token = sys.stdin.read().strip()
        claims = verify(token, given.issuer, given.audience, *documents(given.issuer, location, given))
    except (Refused, jwt.PyJWTError) as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    print(json.dumps(claims, indent=2, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
