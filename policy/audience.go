package policy

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/tokenbooth/tokenbooth/oauth"
)

// Audience is a registered resource server: where a token is good.
type Audience struct {
	Name      string   // an absolute URI, such as https://api.example.com, or a plain name
	Resources []string // whose scopes its tokens carry; empty: all of the catalogue
	Form      Form     // of its tokens; zero: that of the profile generic
}

// Audiences are the registered resource servers. The issuer itself is always
// one: tokens for it, and only those, may carry management rights.
type Audiences struct {
	issuer   string
	fallback []string // one
	byName   map[string]Audience
	names    []string
}

// NewAudiences checks the configured audiences. The default is fallback, or the
// issuer when that is empty. The error joins everything that is wrong.
func NewAudiences(issuer, fallback string, servers []Audience) (*Audiences, error) {
	a := &Audiences{issuer: issuer, fallback: []string{cmp.Or(fallback, issuer)}, byName: map[string]Audience{}}
	var mistakes []error
	for _, server := range slices.Concat([]Audience{{Name: issuer}}, servers) {
		if server.Form == (Form{}) {
			server.Form = generic
		}
		if err := checkName(server.Name); err != nil {
			mistakes = append(mistakes, fmt.Errorf("the audience %q: %w", server.Name, err))
		}
		if _, twice := a.byName[server.Name]; twice {
			mistakes = append(mistakes, fmt.Errorf("the audience %q is registered twice (the issuer always is)", server.Name))
		}
		a.byName[server.Name] = server
		a.names = append(a.names, server.Name)
	}
	if _, ok := a.byName[a.Default()]; !ok {
		mistakes = append(mistakes, fmt.Errorf("the default audience %q is not registered: registered are %s", a.Default(), strings.Join(a.names, ", ")))
	}
	if err := errors.Join(mistakes...); err != nil {
		return nil, err
	}
	return a, nil
}

// plainName is an audience that is no URI, such as sts.amazonaws.com.
var plainName = regexp.MustCompile(`^[A-Za-z0-9._~/-]+$`)

// checkName checks that an audience is a StringOrURI (RFC 7519 §2): with a colon
// it has to be a URI.
func checkName(audience string) error {
	if plainName.MatchString(audience) {
		return nil
	}
	return CheckURI(audience)
}

// Names lists the registered audiences, the issuer first.
func (a *Audiences) Names() []string { return slices.Clone(a.names) }

// Form is the form of tokens for these audiences, which have to agree on one.
// The error wraps ErrAudience.
func (a *Audiences) Form(chosen []string) (Form, error) {
	form := a.byName[chosen[0]].Form
	for _, name := range chosen[1:] {
		if a.byName[name].Form != form {
			return Form{}, fmt.Errorf("%w: %s and %s want tokens of different forms: ask for one of them at a time",
				ErrAudience, shorten(chosen[:1]), shorten([]string{name}))
		}
	}
	return form, nil
}

// Algorithms lists those that some audience's tokens are signed with.
func (a *Audiences) Algorithms() []string {
	var out []string
	for _, server := range a.byName {
		out = append(out, server.Form.Algorithm)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// OfType lists the audiences whose tokens have that typ, the issuer first.
func (a *Audiences) OfType(typ string) []string {
	return slices.DeleteFunc(a.Names(), func(name string) bool { return a.byName[name].Form.Type != typ })
}

// Default is the audience of keys that name none.
func (a *Audiences) Default() string { return a.fallback[0] }

// Known reports whether an audience is registered.
func (a *Audiences) Known(name string) bool {
	_, ok := a.byName[name]
	return ok
}

// carries reports whether a token for these audiences may hold the scope.
// Management rights go only to tokens for the issuer alone, so that no service
// can replay a caller's token to the management API.
func (a *Audiences) carries(chosen []string, scope string) bool {
	if IsReserved(scope) {
		return len(chosen) == 1 && chosen[0] == a.issuer
	}
	resource, _, _ := strings.Cut(scope, ":")
	return slices.ContainsFunc(chosen, func(name string) bool {
		resources := a.byName[name].Resources
		return len(resources) == 0 || slices.Contains(resources, resource)
	})
}

// carriedByAny reports whether a token for one of these audiences may hold the
// scope.
func (a *Audiences) carriedByAny(names []string, scope string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return a.Known(name) && a.carries([]string{name}, scope) })
}

// Carriers lists the audiences whose tokens may hold the scope, the issuer first.
func (a *Audiences) Carriers(scope string) []string {
	return slices.DeleteFunc(a.Names(), func(name string) bool { return !a.carries([]string{name}, scope) })
}

// narrow keeps the scopes that a token for these audiences may hold.
func (a *Audiences) narrow(s oauth.Scope, chosen []string) oauth.Scope {
	return keep(s, func(scope string) bool { return a.carries(chosen, scope) })
}

// CheckURI checks the form that RFC 8707 §2 asks of a resource. The error says
// what is wanted and does not quote the URI.
func CheckURI(uri string) error {
	u, err := url.Parse(uri)
	switch {
	case err != nil || !u.IsAbs() || (u.Host == "" && u.Opaque == ""):
		return errors.New("want an absolute URI, such as https://api.example.com")
	case strings.Contains(uri, "#"):
		return errors.New("want a URI without a fragment")
	case strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }):
		return errors.New("want a URI of printable ASCII")
	}
	return nil
}
