package identity

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"
)

// Why a person did not come back from a provider.
var (
	// ErrProviderDown means that the provider does not answer, or does not know this
	// service: nothing that the person did is wrong.
	ErrProviderDown = errors.New("the OpenID provider is not available")
	// ErrProviderAnswer means that what came back is not the answer to this attempt.
	ErrProviderAnswer = errors.New("not the provider's answer to this attempt")
)

// ProviderRefusal is what the provider says when it signs nobody in (OpenID Connect
// Core §3.1.2.6). Both texts come through the browser: anybody may have written them.
type ProviderRefusal struct{ Code, Description string }

// Error implements error.
func (e *ProviderRefusal) Error() string { return "the OpenID provider refused: " + e.Code }

// ProviderOptions say which OpenID provider people sign in with.
type ProviderOptions struct {
	Issuer       string
	ClientID     string
	ClientSecret string // empty: a public client
	Name         string // as people know it
	Scopes       []string
	Claim        string           // whose values are a person's groups; empty: there are none
	RedirectURL  string           // of this service
	Now          func() time.Time // nil: time.Now
}

// Provider is an OpenID provider, asked with the authorization code flow, PKCE, state
// and nonce. What it publishes is read when it is first needed, and again until that
// succeeds, so that the service starts without it.
type Provider struct {
	o      ProviderOptions
	client *http.Client
	flight singleflight.Group

	mu       sync.Mutex
	known    *discovered
	failure  error
	failedAt time.Time
}

// discovered is what a provider publishes of itself.
type discovered struct {
	provider *oidc.Provider
	config   oauth2.Config
	names    bool // its answers carry iss (RFC 9207)
}

// How long the provider may take for one answer, how much of it is read, and how long
// after a failure it is asked anew.
const (
	providerPatience = 10 * time.Second
	providerAnswer   = 1 << 20
	providerRest     = 2 * time.Second
)

// NewProvider makes a provider. It asks nothing yet.
func NewProvider(o ProviderOptions) *Provider {
	if o.Now == nil {
		o.Now = time.Now
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
	return &Provider{o: o, client: &http.Client{Timeout: providerPatience, Transport: bounded{transport}}}
}

// bounded cuts answers off where no honest one ends.
type bounded struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, providerAnswer), response.Body}
	return response, nil
}

// Name is the provider as people know it.
func (p *Provider) Name() string { return p.o.Name }

// Issuer is the provider's own name for itself: a person is this and a subject.
func (p *Provider) Issuer() string { return p.o.Issuer }

// Attempt is what has to be known again when a person comes back. It is secret.
type Attempt struct {
	State    string `json:"state"`
	Nonce    string `json:"nonce"`
	Verifier string `json:"verifier"`
}

// Is reports whether a state is the attempt's, in constant time.
func (a Attempt) Is(state string) bool { return same(state, a.State) }

// NewAttempt makes an attempt and the address to send the browser to. ErrProviderDown.
func (p *Provider) NewAttempt(ctx context.Context) (address string, a Attempt, err error) {
	d, err := p.discover(ctx)
	if err != nil {
		return "", a, err
	}
	// Each is random and 256 bits; a verifier is just that.
	a = Attempt{State: oauth2.GenerateVerifier(), Nonce: oauth2.GenerateVerifier(), Verifier: oauth2.GenerateVerifier()}
	return d.config.AuthCodeURL(a.State, oidc.Nonce(a.Nonce), oauth2.S256ChallengeOption(a.Verifier)), a, nil
}

// Finish checks what the browser brought back and finds out who the person is. The
// attempt has to be spent by then. ErrProviderAnswer, ErrProviderDown, or a
// *ProviderRefusal.
func (p *Provider) Finish(ctx context.Context, a Attempt, answer url.Values) (person Person, err error) {
	if !a.Is(answer.Get("state")) {
		return person, fmt.Errorf("%w: another state", ErrProviderAnswer)
	}
	d, err := p.discover(ctx)
	if err != nil {
		return person, err
	}
	if iss := answer.Get("iss"); (iss != "" || d.names) && iss != p.o.Issuer { // RFC 9207 §2.4
		return person, fmt.Errorf("%w: another issuer", ErrProviderAnswer)
	}
	if code := answer.Get("error"); code != "" {
		return person, &ProviderRefusal{Code: code, Description: answer.Get("error_description")}
	}
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, p.client), 2*providerPatience)
	defer cancel()
	token, err := d.config.Exchange(ctx, answer.Get("code"), oauth2.VerifierOption(a.Verifier))
	if err != nil {
		return person, exchangeError(err)
	}
	claims, err := p.verify(ctx, d, a, token)
	if err != nil {
		return person, err
	}
	return p.person(ctx, d, token, claims)
}

// exchangeError tells a wrong code from a provider that cannot help. The answer itself
// is in no message, since it may hold what should not be in a log.
func exchangeError(err error) error {
	var refused *oauth2.RetrieveError
	switch {
	case !errors.As(err, &refused):
		return fmt.Errorf("%w: %w", ErrProviderDown, err)
	case refused.ErrorCode == "invalid_grant" || refused.ErrorCode == "invalid_request":
		return fmt.Errorf("%w: its code is refused (%s)", ErrProviderAnswer, refused.ErrorCode)
	}
	return fmt.Errorf("%w: it refuses this service (status %d, %s)", ErrProviderDown, refused.Response.StatusCode, cmp.Or(refused.ErrorCode, "no error code"))
}

// same compares in constant time; nothing is the same as an empty text.
func same(got, want string) bool {
	return want != "" && subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}

// verify checks the ID token (OpenID Connect Core §3.1.3.7) and reads its claims.
func (p *Provider) verify(ctx context.Context, d *discovered, a Attempt, token *oauth2.Token) (claims, error) {
	raw, _ := token.Extra("id_token").(string)
	verified, err := d.provider.Verifier(&oidc.Config{ClientID: p.o.ClientID, Now: p.o.Now}).Verify(ctx, raw)
	if err != nil {
		return nil, fmt.Errorf("%w: its ID token: %w", ErrProviderAnswer, err)
	}
	if !same(verified.Nonce, a.Nonce) {
		return nil, fmt.Errorf("%w: another nonce", ErrProviderAnswer)
	}
	if verified.AccessTokenHash != "" {
		if err := verified.VerifyAccessToken(token.AccessToken); err != nil {
			return nil, fmt.Errorf("%w: at_hash: %w", ErrProviderAnswer, err)
		}
	}
	found := claims{}
	if err := verified.Claims(&found); err != nil {
		return nil, fmt.Errorf("%w: its claims: %w", ErrProviderAnswer, err)
	}
	if azp := found.text("azp"); azp != "" && azp != p.o.ClientID {
		return nil, fmt.Errorf("%w: its ID token is for another client", ErrProviderAnswer)
	}
	return found, nil
}

// claims are what a provider says of a person.
type claims map[string]json.RawMessage

func (c claims) text(name string) (text string) {
	_ = json.Unmarshal(c[name], &text) // what is no text is nothing
	return text
}

// list is a claim that is one text, or a list of them.
func (c claims) list(name string) (list []string) {
	if text := c.text(name); text != "" {
		return []string{text}
	}
	_ = json.Unmarshal(c[name], &list)
	return list
}

// person makes a person of claims, and asks the provider for those that were not in
// the ID token (OpenID Connect Core §5.4).
func (p *Provider) person(ctx context.Context, d *discovered, token *oauth2.Token, c claims) (Person, error) {
	missing := slices.ContainsFunc([]string{"email", "name", cmp.Or(p.o.Claim, "name")}, func(name string) bool { return c[name] == nil })
	if missing && d.provider.UserInfoEndpoint() != "" {
		more, err := p.userInfo(ctx, d, token, c.text("sub"))
		if err != nil {
			return Person{}, err
		}
		for name, value := range more {
			if c[name] == nil {
				c[name] = value
			}
		}
	}
	elsewhere := claims{}
	_ = json.Unmarshal(c["_claim_names"], &elsewhere)
	if p.o.Claim != "" && c[p.o.Claim] == nil && elsewhere[p.o.Claim] != nil {
		// Taken for "no groups", it would cost people everything that they have here.
		return Person{}, fmt.Errorf("%w: it says only where the claim %q can be read, not what it is: let it send the groups of this application alone", ErrProviderDown, p.o.Claim)
	}
	person := Person{Issuer: p.o.Issuer, Subject: c.text("sub"), Email: c.text("email"), Name: c.text("name")}
	if p.o.Claim != "" {
		person.Groups = c.list(p.o.Claim)
	}
	if string(c["email_verified"]) == "false" || c.text("email_verified") == "false" {
		person.Email = ""
	}
	if person.Subject == "" || len(person.Subject) > maxSubject {
		return Person{}, fmt.Errorf("%w: its subject is empty or too long", ErrProviderAnswer)
	}
	return person, nil
}

// maxSubject is how long a subject may be, in bytes (OpenID Connect Core §2).
const maxSubject = 255

// userInfo asks who the access token speaks for. It has to be the same person.
func (p *Provider) userInfo(ctx context.Context, d *discovered, token *oauth2.Token, subject string) (claims, error) {
	info, err := d.provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return nil, fmt.Errorf("%w: its user info: %w", ErrProviderDown, err)
	}
	if info.Subject != subject { // OpenID Connect Core §5.3.2
		return nil, fmt.Errorf("%w: its user info is of somebody else", ErrProviderAnswer)
	}
	found := claims{}
	if err := info.Claims(&found); err != nil {
		return nil, fmt.Errorf("%w: its user info: %w", ErrProviderAnswer, err)
	}
	return found, nil
}

// discover reads what the provider publishes, once. Many who come at the same time
// ask once, and for a moment after a failure nobody asks.
func (p *Provider) discover(ctx context.Context) (*discovered, error) {
	p.mu.Lock()
	known, failure, rests := p.known, p.failure, p.o.Now().Sub(p.failedAt) < providerRest
	p.mu.Unlock()
	switch {
	case known != nil:
		return known, nil
	case failure != nil && rests:
		return nil, failure
	}
	_, _, _ = p.flight.Do("", func() (any, error) {
		found, err := p.ask(context.WithoutCancel(ctx))
		p.mu.Lock()
		defer p.mu.Unlock()
		p.known, p.failure, p.failedAt = found, err, p.o.Now()
		return nil, nil
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known, p.failure
}

// ask reads the discovery document (OpenID Connect Discovery §4).
func (p *Provider) ask(ctx context.Context) (*discovered, error) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, p.client), providerPatience)
	defer cancel()
	provider, err := oidc.NewProvider(ctx, p.o.Issuer)
	if err != nil {
		return nil, fmt.Errorf("%w: discovery: %w", ErrProviderDown, err)
	}
	var says struct {
		Methods []string `json:"token_endpoint_auth_methods_supported"`
		Names   bool     `json:"authorization_response_iss_parameter_supported"`
	}
	if err := provider.Claims(&says); err != nil {
		return nil, fmt.Errorf("%w: discovery: %w", ErrProviderDown, err)
	}
	endpoint := provider.Endpoint()
	// Said, since the library would try both, and so send a code twice.
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if p.o.ClientSecret == "" || (len(says.Methods) > 0 && !slices.Contains(says.Methods, "client_secret_basic")) {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return &discovered{provider: provider, names: says.Names, config: oauth2.Config{
		ClientID: p.o.ClientID, ClientSecret: p.o.ClientSecret, Endpoint: endpoint, RedirectURL: p.o.RedirectURL, Scopes: p.o.Scopes,
	}}, nil
}
