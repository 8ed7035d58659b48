package endpoint_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/tokenbooth/tokenbooth/oauth/endpoint"
)

// listening is a booth on the loopback interface, whose issuer is where it
// listens.
func listening(t *testing.T, path string) *booth {
	server := httptest.NewUnstartedServer(nil)
	b := newBooth(t, options{issuer: "http://" + server.Listener.Addr().String() + path})
	server.Config.Handler = b
	server.Start()
	t.Cleanup(server.Close)
	return b
}

// golang.org/x/oauth2 gets tokens however it sends the credentials; left to
// itself it tries the header first.
func TestStockClient(t *testing.T) {
	b := listening(t, "")
	for name, style := range map[string]oauth2.AuthStyle{
		"detect": oauth2.AuthStyleAutoDetect, "params": oauth2.AuthStyleInParams, "header": oauth2.AuthStyleInHeader,
	} {
		config := clientcredentials.Config{
			ClientID: string(b.active.ID), ClientSecret: b.active.Secret.Reveal(), AuthStyle: style,
			TokenURL: b.issuer + endpoint.LoginPath, Scopes: []string{"collectors:read", "pipelines:read"},
		}
		token, err := config.Token(t.Context())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if token.Type() != "Bearer" || !token.Valid() || token.Extra("scope") != "collectors:read pipelines:read" {
			t.Errorf("%s: type %s, valid %t, scope %v", name, token.Type(), token.Valid(), token.Extra("scope"))
		}
		config.ClientSecret = b.wrong(b.active.ID)
		_, err = config.Token(t.Context())
		if err == nil || !strings.Contains(err.Error(), "invalid_client") {
			t.Errorf("%s, wrong secret: %v", name, err)
		}
	}
}

// coreos/go-oidc verifies tokens with nothing but the issuer and the audience.
func TestStockVerifier(t *testing.T) {
	for _, path := range []string{"", "/tenants/a"} {
		b := listening(t, path)
		config := clientcredentials.Config{
			ClientID: string(b.active.ID), ClientSecret: b.active.Secret.Reveal(), TokenURL: b.issuer + endpoint.LoginPath,
		}
		token, err := config.Token(t.Context())
		b.check(err)
		provider, err := oidc.NewProvider(t.Context(), b.issuer)
		b.check(err)
		verified, err := provider.Verifier(&oidc.Config{ClientID: apiURL}).Verify(t.Context(), token.AccessToken)
		if err != nil {
			t.Fatalf("issuer %s: %v", b.issuer, err)
		}
		if verified.Subject != b.active.OwnerID() || verified.Issuer != b.issuer {
			t.Errorf("sub %s, iss %s", verified.Subject, verified.Issuer)
		}
		if _, err := provider.Verifier(&oidc.Config{ClientID: reports}).Verify(t.Context(), token.AccessToken); err == nil {
			t.Error("another audience accepts the token")
		}
	}
}
