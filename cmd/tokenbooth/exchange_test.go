package main

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// credential is a key as a client holds it.
type credential struct{ id, secret string }

// answer is what the server said.
type answer struct {
	status int
	header http.Header
	body   map[string]any
}

// text is a member of the body.
func (a answer) text(name string) string {
	text, _ := a.body[name].(string)
	return text
}

// form is the request of RFC 6749 section 4.4.2 with the credential in the body.
func (c credential) form() url.Values {
	return url.Values{"grant_type": {"client_credentials"}, "client_id": {c.id}, "client_secret": {c.secret}}
}

// login exchanges a key at the server with that URL.
func login(t *testing.T, base string, c credential) answer {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, base+"/api/login", strings.NewReader(c.form().Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return send(t, request)
}

// get asks with a token, or without one when it is empty.
func get(t *testing.T, address, token string) answer {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	return send(t, request)
}

func send(t *testing.T, request *http.Request) answer {
	t.Helper()
	response, err := client.Do(request)
	if err != nil {
		t.Errorf("no answer: %v", err)
		return answer{}
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Errorf("half an answer: %v", err)
	}
	a := answer{status: response.StatusCode, header: response.Header}
	if err := json.Unmarshal(text, &a.body); err != nil {
		t.Errorf("the answer is not JSON: %q", text)
	}
	return a
}

// wantToken exchanges a key and wants a token.
func wantToken(t *testing.T, base string, c credential) string {
	t.Helper()
	a := login(t, base, c)
	if a.status != http.StatusOK || a.text("access_token") == "" {
		t.Fatalf("login with %s answers %d %v, want a token", c.id, a.status, a.body)
	}
	return a.text("access_token")
}

// wantRefusal exchanges a key and wants a 401 that says why.
func wantRefusal(t *testing.T, base string, c credential, reason string) {
	t.Helper()
	a := login(t, base, c)
	if a.status != http.StatusUnauthorized || a.text("error") != "invalid_client" || !strings.Contains(a.text("error_description"), reason) {
		t.Errorf("login with %s answers %d %v, want 401 that says %q", c.id, a.status, a.body, reason)
	}
	if a.header.Get("WWW-Authenticate") == "" {
		t.Error("a 401 without a challenge")
	}
}

// claims reads a token without verifying it.
func claims(t *testing.T, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("a token has %d parts", len(parts))
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(payload, &c); err != nil {
		t.Fatal(err)
	}
	return c
}
