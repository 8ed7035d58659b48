// Judges tokens with jose: one JSON object with a token a line comes in, one with
// the verdict goes out.
import { createInterface } from "node:readline";
import { createRemoteJWKSet, jwtVerify } from "jose";

const { ISSUER: issuer, AUDIENCE: audience } = process.env;
const metadata = await (await fetch(`${issuer}/.well-known/openid-configuration`)).json();
// By default it does not look for a key that it does not know for 30 s after it
// has fetched; a test has no such patience.
const keys = createRemoteJWKSet(new URL(metadata.jwks_uri), { cooldownDuration: 0 });

for await (const line of createInterface({ input: process.stdin })) {
  let verdict;
  try {
    const { payload } = await jwtVerify(JSON.parse(line).token, keys, { issuer, audience, typ: "at+jwt", requiredClaims: ["exp", "sub", "client_id"] });
    verdict = { ok: true, subject: payload.sub };
  } catch (error) {
    verdict = { ok: false, error: String(error) };
  }
  console.log(JSON.stringify(verdict));
}
