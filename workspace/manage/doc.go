// Package manage owns the use cases that change anything: workspaces, members,
// service accounts, keys, signing keys. The API, the console, the commands and
// the demo all come through here.
//
// Each goes through one function, do: authorise, execute, take the change
// number, write the audit events, commit, and for changes that deny something
// wait until every replica has taken them in. A change without its audit event,
// or without telling the caches, cannot be written.
package manage
