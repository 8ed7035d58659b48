// Package identity owns how people prove who they are: passwords, passkeys,
// subjects of OpenID providers, links that work once, and the sessions that
// begin with such a proof.
//
// Its stores run in the caller's transaction. Whose proof opens what, and what is
// recorded of it, is workspace/manage; forms and cookies beyond that of the
// session are workspace/console.
package identity
