package policy_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
)

const issuer = "https://tokens.example.com"

// What random policies are made of: few names, so that they meet.
var (
	resources = []string{"collectors", "charts", "alerts"}
	actions   = []string{"read", "create", "update", "delete"}
	servers   = []string{"https://api.example.com", "https://charts.example.com", "urn:example:alerts"}
	start     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

// randomPolicy has some resources, one role of the operator's own, and some
// audiences, of which some carry only some resources.
func randomPolicy(t *rapid.T) *policy.Policy {
	catalogue, err := policy.NewCatalogue(
		rapid.MapOf(rapid.SampledFrom(resources), rapid.SliceOfNDistinct(rapid.SampledFrom(actions), 1, 4, rapid.ID)).Draw(t, "resources"),
		map[string][]string{"deployer": {"*:" + rapid.SampledFrom(actions).Draw(t, "deployer")}},
	)
	if err != nil {
		t.Fatal(err)
	}
	var registered []policy.Audience
	for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom(servers), rapid.ID).Draw(t, "audiences") {
		carried := rapid.SliceOfDistinct(rapid.SampledFrom(resources), rapid.ID).Draw(t, "carried")
		registered = append(registered, policy.Audience{Name: name, Resources: carried})
	}
	names := []string{"", issuer}
	for _, a := range registered {
		names = append(names, a.Name)
	}
	audiences, err := policy.NewAudiences(issuer, rapid.SampledFrom(names).Draw(t, "default"), registered)
	if err != nil {
		t.Fatal(err)
	}
	return &policy.Policy{Catalogue: catalogue, Audiences: audiences, TokenTTL: seconds(t, "default ttl")}
}

func seconds(t *rapid.T, name string) time.Duration {
	return time.Duration(rapid.IntRange(60, 3600).Draw(t, name)) * time.Second
}

// someScopes draws scopes of the catalogue, management rights, and ones that
// exist nowhere.
func someScopes(t *rapid.T, p *policy.Policy, name string) oauth.Scope {
	all := slices.Concat(p.Catalogue.All(), policy.Reserved(), oauth.Scope{"gone:read", "collectors:fly"})
	return oauth.NewScope(rapid.SliceOfN(rapid.SampledFrom(all), 0, 12).Draw(t, name)...)
}

// randomRecord is a live key of a service account or of a member.
func randomRecord(t *rapid.T, p *policy.Policy) *keys.Record {
	r := &keys.Record{}
	switch rapid.SampledFrom([]string{"role", "scopes", "user"}).Draw(t, "owner") {
	case "role":
		r.ServiceAccountID, r.OwnerRole = "sa_1", rapid.SampledFrom(append(p.Catalogue.Roles(), "gone")).Draw(t, "role")
	case "scopes":
		r.ServiceAccountID, r.OwnerScopes = "sa_1", someScopes(t, p, "owner's scopes")
	case "user":
		r.UserID, r.OwnerIsAdmin = "usr_1", rapid.Bool().Draw(t, "organization admin")
		r.OwnerRole = rapid.SampledFrom([]string{"owner", "manager", "viewer", ""}).Draw(t, "member")
	}
	if rapid.Bool().Draw(t, "restricted") {
		scopes := someScopes(t, p, "key's scopes")
		r.Scopes = &scopes
	}
	r.Audiences = someAudiences(t, "key's audiences")
	if rapid.Bool().Draw(t, "own ttl") {
		r.TokenTTL = seconds(t, "ttl")
	}
	if rapid.Bool().Draw(t, "expires") {
		left := rapid.Int64Range(int64(time.Second), int64(2*time.Hour)).Draw(t, "left")
		r.ExpiresAt = workspace.Time{Time: start.Add(time.Duration(left))}
	}
	return r
}

func someAudiences(t *rapid.T, name string) []string {
	known := append([]string{issuer, "https://gone.example.com"}, servers...)
	return rapid.SliceOfN(rapid.SampledFrom(known), 0, 3).Draw(t, name)
}

// randomRequest asks for everything, for part of what the key holds, or for
// anything at all.
func randomRequest(t *rapid.T, p *policy.Policy, r *keys.Record) policy.Request {
	var request policy.Request
	switch rapid.SampledFrom([]string{"everything", "part", "anything"}).Draw(t, "request") {
	case "part":
		request.Scope = p.Holds(r).Intersect(someScopes(t, p, "part"))
		request.Audience = rapid.SliceOfN(rapid.SampledFrom(p.Audiences.Names()), 0, 3).Draw(t, "known audiences")
	case "anything":
		request.Scope, request.Audience = someScopes(t, p, "requested scopes"), someAudiences(t, "requested audiences")
	}
	return request
}

func TestDecideGrantsNoMoreThanIsHeld(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := randomPolicy(t)
		r := randomRecord(t, p)
		request := randomRequest(t, p, r)
		grant, err := p.Decide(&everything, r, request, start)
		if err != nil {
			if !errors.Is(err, policy.ErrScope) && !errors.Is(err, policy.ErrAudience) || len(grant.Scope) > 0 || grant.Audience != nil || grant.TTL != 0 {
				t.Fatalf("%+v beside the error %v", grant, err)
			}
			return
		}
		checkScope(t, p, r, request, grant)
		checkAudience(t, p, r, request, grant)
		checkTTL(t, p, r, grant)
	})
}

func checkScope(t *rapid.T, p *policy.Policy, r *keys.Record, request policy.Request, grant policy.Grant) {
	if !p.Holds(r).Contains(grant.Scope) {
		t.Fatalf("granted %q of %q", grant.Scope, p.Holds(r))
	}
	if len(request.Scope) > 0 && !slices.Equal(grant.Scope, request.Scope) {
		t.Fatalf("granted %q for %q: neither all nor an error", grant.Scope, request.Scope)
	}
	for _, scope := range grant.Scope {
		if policy.IsReserved(scope) && !slices.Equal(grant.Audience, []string{issuer}) {
			t.Fatalf("%s for the audience %q", scope, grant.Audience)
		}
		if r.Scopes != nil && !r.Scopes.Has(scope) {
			t.Fatalf("%s, which the key was not given", scope)
		}
		if !p.Catalogue.All().Has(scope) && !policy.Reserved().Has(scope) {
			t.Fatalf("%s, which does not exist", scope)
		}
	}
}

func checkAudience(t *rapid.T, p *policy.Policy, r *keys.Record, request policy.Request, grant policy.Grant) {
	if len(grant.Audience) == 0 {
		t.Fatal("no audience")
	}
	for i, name := range grant.Audience {
		switch {
		case !p.Audiences.Known(name):
			t.Fatalf("%s is not registered", name)
		case len(r.Audiences) > 0 && !slices.Contains(r.Audiences, name):
			t.Fatalf("%s is not of the key's %q", name, r.Audiences)
		case len(request.Audience) > 0 && !slices.Contains(request.Audience, name):
			t.Fatalf("%s is not of the requested %q", name, request.Audience)
		case slices.Contains(grant.Audience[:i], name):
			t.Fatalf("%q has one twice", grant.Audience)
		}
	}
	if len(request.Audience) == 0 && len(grant.Audience) != 1 {
		t.Fatalf("%q, though none was asked for", grant.Audience)
	}
}

func checkTTL(t *rapid.T, p *policy.Policy, r *keys.Record, grant policy.Grant) {
	want := p.TokenTTL
	if r.TokenTTL != 0 {
		want = r.TokenTTL
	}
	switch ttl := grant.TTL; {
	case ttl > want || ttl%time.Second != 0 || ttl < time.Second:
		t.Fatalf("a life of %s of %s", ttl, want)
	case r.ExpiresAt.IsZero() && ttl != want:
		t.Fatalf("a life of %s, want %s", ttl, want)
	case !r.ExpiresAt.IsZero() && start.Add(ttl).After(r.ExpiresAt.Time):
		t.Fatalf("the token outlives the key by %s", start.Add(ttl).Sub(r.ExpiresAt.Time))
	case !r.ExpiresAt.IsZero() && ttl < want && r.ExpiresAt.Sub(start.Add(ttl)) >= time.Second:
		t.Fatalf("a life of %s ends %s early", ttl, r.ExpiresAt.Sub(start.Add(ttl)))
	}
}

// Taking something away, from the key or from what is asked for, never adds.
func TestNarrowerNeverGrantsMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := randomPolicy(t)
		r := randomRecord(t, p)
		audience := someAudiences(t, "requested audiences")
		whole, err := p.Decide(&everything, r, policy.Request{Audience: audience}, start)
		if err != nil {
			return
		}
		narrowed := *r
		part := p.Holds(r).Intersect(someScopes(t, p, "narrowed to"))
		narrowed.Scopes = &part
		less, err := p.Decide(&everything, &narrowed, policy.Request{Audience: audience}, start)
		if err != nil || !whole.Scope.Contains(less.Scope) || !part.Contains(less.Scope) {
			t.Fatalf("the narrower key is granted %q, %v; the whole one %q", less.Scope, err, whole.Scope)
		}
		if asked := whole.Scope.Intersect(part); len(asked) > 0 {
			less, err = p.Decide(&everything, r, policy.Request{Scope: asked, Audience: audience}, start)
			if err != nil || !slices.Equal(less.Scope, asked) {
				t.Fatalf("asked for %q: %q, %v", asked, less.Scope, err)
			}
		}
	})
}

// A token for a service carries only scopes of the service's resources.
func TestScopesFollowTheAudience(t *testing.T) {
	p := fixedPolicy(t)
	r := &keys.Record{Key: keys.Key{UserID: "usr_1"}, OwnerRole: "owner", OwnerIsAdmin: true}
	for _, c := range []struct {
		audience []string
		want     string // of the granted scopes, the resources
	}{
		{[]string{issuer}, "alerts api-keys audit charts collectors members organization policy quota service-accounts tokens workspace"},
		{[]string{"https://api.example.com"}, "alerts charts collectors"},
		{[]string{"https://charts.example.com"}, "charts"},
		{[]string{"https://charts.example.com", "urn:example:alerts"}, "alerts charts"},
		{[]string{"https://charts.example.com", "https://charts.example.com"}, "charts"},
		{[]string{issuer, "https://charts.example.com"}, "alerts charts collectors"},
		{[]string{issuer, issuer}, "alerts api-keys audit charts collectors members organization policy quota service-accounts tokens workspace"},
		{nil, "charts"},
	} {
		grant, err := p.Decide(&everything, r, policy.Request{Audience: c.audience}, start)
		var got []string
		for _, scope := range grant.Scope {
			resource, _, _ := strings.Cut(scope, ":")
			got = append(got, resource)
		}
		if text := strings.Join(slices.Compact(got), " "); err != nil || text != c.want {
			t.Errorf("%q: scopes of %q, %v; want of %q", c.audience, text, err, c.want)
		}
	}
}

func fixedPolicy(t *testing.T) *policy.Policy {
	t.Helper()
	catalogue, err := policy.NewCatalogue(map[string][]string{"collectors": actions, "charts": {"read", "delete"}, "alerts": {"read"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	audiences, err := policy.NewAudiences(issuer, "https://charts.example.com", []policy.Audience{
		{Name: "https://api.example.com"},
		{Name: "https://charts.example.com", Resources: []string{"charts"}},
		{Name: "urn:example:alerts", Resources: []string{"alerts"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &policy.Policy{Catalogue: catalogue, Audiences: audiences, TokenTTL: 10 * time.Minute}
}

func TestDefaultAudience(t *testing.T) {
	p := fixedPolicy(t)
	for _, c := range []struct{ of, requested, want []string }{
		{nil, nil, []string{"https://charts.example.com"}},
		{[]string{"urn:example:alerts", issuer}, nil, []string{"urn:example:alerts"}},
		{[]string{"urn:example:alerts", issuer}, []string{issuer}, []string{issuer}},
		{nil, []string{issuer}, []string{issuer}},
	} {
		grant, err := p.Decide(&everything, &keys.Record{Key: keys.Key{Audiences: c.of}}, policy.Request{Audience: c.requested}, start)
		if err != nil || !slices.Equal(grant.Audience, c.want) {
			t.Errorf("key with %q asked for %q: %q, %v; want %q", c.of, c.requested, grant.Audience, err, c.want)
		}
	}
}

func TestRefusalsHelp(t *testing.T) {
	p := fixedPolicy(t)
	r := &keys.Record{Key: keys.Key{Audiences: []string{"https://api.example.com"}}, OwnerRole: "viewer"}
	for _, c := range []struct {
		request policy.Request
		kind    error
		want    string
	}{
		{policy.Request{Scope: oauth.NewScope("collectors:delete", "collectors:read")}, policy.ErrScope,
			"scope not granted: this key does not hold collectors:delete for the audience https://api.example.com; it holds: alerts:read charts:read collectors:read"},
		{policy.Request{Audience: []string{issuer}}, policy.ErrAudience,
			"audience not granted: https://tokens.example.com is not an audience of this key; it may use: https://api.example.com"},
		{policy.Request{Audience: []string{"https://API.example.com"}}, policy.ErrAudience,
			"audience not granted: https://API.example.com is not an audience of this key; it may use: https://api.example.com"},
	} {
		if _, err := p.Decide(&everything, r, c.request, start); !errors.Is(err, c.kind) || err.Error() != c.want {
			t.Errorf("error %q, want %q", err, c.want)
		}
	}
	nothing := &keys.Record{OwnerRole: "gone"}
	if _, err := p.Decide(&everything, nothing, policy.Request{Scope: oauth.NewScope("charts:read")}, start); err == nil || !strings.HasSuffix(err.Error(), "it holds: nothing") {
		t.Errorf("error %v of a key that holds nothing", err)
	}
}

func TestRefusalsAreBounded(t *testing.T) {
	many := make([]string, 200)
	catalogued := map[string][]string{}
	var registered []policy.Audience
	for i := range many {
		many[i] = fmt.Sprintf("nowhere-%d:read", i)
		catalogued[fmt.Sprintf("resource-%d", i)] = actions
		registered = append(registered, policy.Audience{Name: fmt.Sprintf("https://service-%d.example.com", i)})
	}
	catalogue, err := policy.NewCatalogue(catalogued, nil)
	if err != nil {
		t.Fatal(err)
	}
	audiences, err := policy.NewAudiences(issuer, "", registered)
	if err != nil {
		t.Fatal(err)
	}
	p := &policy.Policy{Catalogue: catalogue, Audiences: audiences, TokenTTL: time.Minute}
	r := &keys.Record{OwnerRole: "admin"}
	for name, request := range map[string]policy.Request{
		"many scopes":    {Scope: oauth.NewScope(many...)},
		"a long scope":   {Scope: oauth.NewScope(strings.Repeat("x", oauth.MaxScopeLength))},
		"long audience":  {Audience: []string{strings.Repeat("x", 60_000)}},
		"many audiences": {Audience: slices.Repeat([]string{"https://nowhere.example.com"}, 1000)},
	} {
		_, err := p.Decide(&everything, r, request, start)
		if err == nil || len(err.Error()) > 4000 || !strings.Contains(err.Error(), " more") {
			t.Errorf("%s: an error of %d bytes: %.200v", name, len(fmt.Sprint(err)), err)
		}
	}
}

// everything is what applies where nobody says anything.
var everything = policy.Unbounded()

// What most clients ask for, everything for the key's first audience, allocates nothing
// where nothing is narrowed, and the scope alone where something is.
func TestDecideAllocatesLittle(t *testing.T) {
	p := fixedPolicy(t)
	b := policy.Unbounded()
	for most, record := range []*keys.Record{
		{OwnerRole: "viewer", Key: keys.Key{ServiceAccountID: "sa_1", Audiences: []string{"https://api.example.com"}}},
		{OwnerRole: "viewer", Key: keys.Key{ServiceAccountID: "sa_1"}}, // the default audience has some of them
	} {
		n := testing.AllocsPerRun(100, func() {
			if _, err := p.Decide(&b, record, policy.Request{}, time.Now()); err != nil {
				t.Fatal(err)
			}
		})
		if n > float64(most) {
			t.Errorf("%d: %v objects", most, n)
		}
	}
}

func TestCombineAllocatesNothing(t *testing.T) {
	scopes := []string{"collectors:*"}
	rules := policy.Rules{AllowedScopes: &scopes}
	if n := testing.AllocsPerRun(100, func() { policy.Combine(rules, rules) }); n != 0 {
		t.Errorf("%v objects", n)
	}
}
