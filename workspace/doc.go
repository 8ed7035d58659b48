// Package workspace owns the tenants and who belongs to them: workspaces, users,
// members with their roles, and service accounts, with the statements that
// store them.
//
// Its stores run in the caller's transaction and only store: they do not
// authorise, audit or begin transactions. Changing anything goes through
// workspace/manage. API keys are package keys; how people prove who they are is
// workspace/identity.
package workspace
