// An OpenID provider for tests. Anybody signs in as whoever they say, with any
// password; a line of JSON on standard input sets somebody's groups and is answered
// with one.
import { createInterface } from "node:readline";
import { Provider } from "oidc-provider";

console.info = console.error; // standard output is for answers
const { PORT, REDIRECT } = process.env;
const groups = new Map();

const provider = new Provider(`http://127.0.0.1:${PORT}`, {
	clients: [{ client_id: "booth", client_secret: "correct horse battery", redirect_uris: [REDIRECT] }],
	claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name", "groups"] },
	findAccount: (_, sub) => ({
		accountId: sub,
		claims: () => ({ sub, email: `${sub}@idp.example`, email_verified: true, name: sub, groups: groups.get(sub) ?? [] }),
	}),
	pkce: { required: () => true },
	cookies: { keys: ["only for tests"] },
});

const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
provider.listen(Number(PORT), "127.0.0.1", () => say({ ok: true }));
createInterface({ input: process.stdin }).on("line", (line) => {
	const { login, groups: list } = JSON.parse(line);
	groups.set(login, list);
	say({ ok: true });
}).on("close", () => process.exit(0));
