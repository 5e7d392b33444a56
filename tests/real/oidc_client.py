#!/usr/bin/env python3
"""An OIDC relying party that shares no code with irsad: is this token good for this issuer and audience?

    oidc_client.py --issuer URL --audience AUDIENCE [--documents FOLDER-OR-URL] [--ca FILE] [--proxy URL] < TOKEN

Reads the published documents at the issuer URL, or at --documents as if that were the issuer URL, as OpenID Connect
Discovery 1.0 (sections 3 and 4) says, and checks signature, iss, aud and exp by PyJWT. Prints the claims as JSON and exits 0,
or prints one reason on stderr and exits 1; wrong usage exits 2.
"""

import argparse
import json
import pathlib
import ssl
import sys
import urllib.request

import jwt

# OpenID Connect Discovery 1.0, section 3: the REQUIRED members that a verifier of ID tokens meets.
REQUIRED = ["issuer", "jwks_uri", "response_types_supported", "subject_types_supported", "id_token_signing_alg_values_supported"]
TIMEOUT_SECONDS = 10


class Refused(Exception):
    """The token or the documents are not good; the text is the reason."""


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
        raise Refused(f"cannot read {location}: {error}") from error


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


def verify(token, issuer, audience, location, way):
    """The claims of a token that is good for this issuer and audience."""
    metadata = discover(issuer, location, way)
    published = keys(metadata, location, way)
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--issuer", required=True)
    parser.add_argument("--audience", required=True)
    parser.add_argument("--documents", help="folder or URL to read instead of the issuer URL")
    parser.add_argument("--ca", help="PEM file of the authorities to trust instead of the system's")
    parser.add_argument("--proxy", help="HTTP proxy to reach the documents through")
    given = parser.parse_args()
    try:
        token = sys.stdin.read().strip()
        location = (given.documents or given.issuer).rstrip("/")
        claims = verify(token, given.issuer, given.audience, location, given)
    except (Refused, jwt.PyJWTError) as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    print(json.dumps(claims, indent=2, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
