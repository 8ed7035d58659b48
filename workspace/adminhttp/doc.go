// Package adminhttp owns the management API over HTTP: its routes, how requests
// are read and answered, and its OpenAPI document.
//
// It decides nothing: who may do what, and what that changes, is workspace/manage;
// who asks is recognised by oauth/grant; the wire types are workspace/admin. Each
// error is mapped to the wire once, in errors.go.
package adminhttp
