"""Judges tokens with the library that is named: pyjwt or authlib.

One JSON object with a token a line comes in, one with the verdict goes out.
"""

import json
import os
import sys
import urllib.request

ISSUER, AUDIENCE, ALGORITHM = (os.environ[name] for name in ("ISSUER", "AUDIENCE", "ALGORITHM"))


def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


METADATA = fetch(ISSUER + "/.well-known/openid-configuration")
if METADATA["issuer"] != ISSUER:
    sys.exit("the metadata is that of another issuer")


def pyjwt():
    import jwt

    keys = jwt.PyJWKClient(METADATA["jwks_uri"])

    def judge(token):
        if jwt.get_unverified_header(token).get("typ") != "at+jwt":
            raise ValueError("its typ is not at+jwt")
        key = keys.get_signing_key_from_jwt(token).key
        options = {"require": ["exp", "iat", "iss", "aud", "sub"]}
        return jwt.decode(token, key, algorithms=[ALGORITHM], issuer=ISSUER, audience=AUDIENCE, options=options)["sub"]

    return judge


def authlib():
    from authlib.jose import JsonWebKey, JsonWebToken

    jwt = JsonWebToken([ALGORITHM])
    known = {"keys": JsonWebKey.import_key_set(fetch(METADATA["jwks_uri"]))}

    def key(header, _payload):
        if header.get("typ") != "at+jwt":
            raise ValueError("its typ is not at+jwt")
        try:
            return known["keys"].find_by_kid(header["kid"])
        except ValueError:  # the keys may have been rotated
            known["keys"] = JsonWebKey.import_key_set(fetch(METADATA["jwks_uri"]))
            return known["keys"].find_by_kid(header["kid"])

    def judge(token):
        essential = {name: {"essential": True} for name in ("exp", "iat", "sub")}
        options = {"iss": {"essential": True, "value": ISSUER}, "aud": {"essential": True, "value": AUDIENCE}, **essential}
        claims = jwt.decode(token, key, claims_options=options)
        claims.validate()
        return claims["sub"]

    return judge


def main():
    judge = {"pyjwt": pyjwt, "authlib": authlib}[sys.argv[1]]()
    for line in sys.stdin:
        try:
            verdict = {"ok": True, "subject": judge(json.loads(line)["token"])}
        except Exception as error:  # whatever a library raises is a refusal
            verdict = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(verdict), flush=True)


main()
