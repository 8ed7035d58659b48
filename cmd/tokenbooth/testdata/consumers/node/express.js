// Judges tokens with express-oauth2-jwt-bearer, as a service that is asked over
// HTTP: it prints its address, and serves until its standard input ends.
import express from "express";
import { auth, requiredScopes } from "express-oauth2-jwt-bearer";

const { ISSUER: issuerBaseURL, AUDIENCE: audience, ALGORITHM: tokenSigningAlg } = process.env;
const app = express();
// strict asks for typ at+jwt. The cool-down is 30 s by default, as jose's.
app.use(auth({ issuerBaseURL, audience, tokenSigningAlg, strict: true, cooldownDuration: 0 }));
app.get("/", (request, response) => response.json({ subject: request.auth.payload.sub }));
app.get("/read", requiredScopes("collectors:read"), (_, response) => response.json({}));
app.get("/delete", requiredScopes("collectors:delete"), (_, response) => response.json({}));
app.use((error, _request, response, _next) => response.status(error.status ?? 500).set(error.headers ?? {}).json({ error: error.message }));

const server = app.listen(0, "127.0.0.1", () => console.log(JSON.stringify({ url: `http://127.0.0.1:${server.address().port}` })));
process.stdin.resume().on("end", () => process.exit());
