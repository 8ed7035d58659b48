// Package admin owns the wire types of the management API and a client for it.
//
// It is for programs that manage workspaces, keys and people from outside, the
// tokenbooth command among them; it links no server code. The API itself is
// described by /api/openapi.yaml of a running Tokenbooth, and the handlers are
// workspace/adminhttp.
//
//	client, err := admin.New(admin.Config{URL: "https://login.example.com", Credential: secret})
//	key, err := client.CreateKey(ctx, "payments", admin.NewKey{Name: "gitlab-ci", Scopes: []string{"collectors:read"}})
//
// Errors that the API answers with are *Error.
package admin
