package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// What Decide refuses. The text is meant for the key's holder.
var (
	ErrScope    = errors.New("scope not granted")
	ErrAudience = errors.New("audience not granted")
)

// Policy answers exchanges. It is immutable; what changes is in the records.
type Policy struct {
	Catalogue *Catalogue
	Audiences *Audiences
	TokenTTL  time.Duration // for keys that do not set their own
}

// Request is what a client asks for; both parts only narrow.
type Request struct {
	Scope    oauth.Scope // empty: everything that the key holds for the audience
	Audience []string    // empty: the default
}

// Grant is what a token will carry.
type Grant struct {
	Scope    oauth.Scope
	Audience []string
	Form     Form
	TTL      time.Duration
}

// Decide says what a token for a live key carries. It never grants more than Holds
// and the bounds of its workspace, and never lives longer than the key. Errors wrap ErrScope or
// ErrAudience.
func (p *Policy) Decide(b *Bounds, r *keys.Record, request Request, now time.Time) (Grant, error) {
	audience, err := p.audience(r, request.Audience)
	if err != nil {
		return Grant{}, err
	}
	form, err := p.Audiences.Form(audience)
	if err != nil {
		return Grant{}, err
	}
	available := p.Audiences.narrow(b.Keep(p.Holds(r)), audience)
	scope := available
	if len(request.Scope) > 0 {
		if missing := request.Scope.Minus(available); len(missing) > 0 {
			return Grant{}, fmt.Errorf("%w: this key does not hold %s for the audience %s; it holds: %s",
				ErrScope, shorten(missing), shorten(audience), shorten(available))
		}
		scope = request.Scope
	}
	return Grant{Scope: scope, Audience: audience, Form: form, TTL: p.lifetime(r, now)}, nil
}

// Holds is every scope that some token of the key could carry where nothing bounds
// its workspace (Bounds.Keep): what its owner holds now, within what the key itself
// was given and the audiences that it has. Who may grant what goes by this: bounds
// may be lifted one day.
func (p *Policy) Holds(r *keys.Record) oauth.Scope {
	held := p.ownerHolds(r)
	if r.Scopes != nil {
		held = held.Intersect(*r.Scopes)
	}
	if len(r.Audiences) > 0 {
		held = keep(held, func(scope string) bool { return p.Audiences.carriedByAny(r.Audiences, scope) })
	}
	return held
}

// ownerHolds is the present rights of the owner: a member's by role; a service
// account's by role, or its explicit scopes as far as they still exist.
func (p *Policy) ownerHolds(r *keys.Record) oauth.Scope {
	if r.UserID != "" {
		return p.Catalogue.MemberRights(workspace.Role(r.OwnerRole), r.OwnerIsAdmin)
	}
	return p.ServiceAccountHolds(r.OwnerRole, r.OwnerScopes)
}

// ServiceAccountHolds is what a service account with that role or those
// explicit scopes holds.
func (p *Policy) ServiceAccountHolds(role string, explicit oauth.Scope) oauth.Scope {
	if role != "" {
		scopes, _ := p.Catalogue.Role(role) // a role that is gone bundles nothing
		return scopes
	}
	return explicit.Intersect(p.Catalogue.Known())
}

// audience chooses: what was asked for if the key may have it, else the key's
// first, else the default. Repeated ones count once.
func (p *Policy) audience(r *keys.Record, requested []string) ([]string, error) {
	allowed := r.Audiences
	if len(allowed) == 0 {
		allowed = p.Audiences.names
	}
	if len(requested) == 0 {
		requested = p.Audiences.fallback
		if len(r.Audiences) > 0 {
			requested = r.Audiences[:1:1]
		}
	}
	for _, name := range requested {
		if !slices.Contains(allowed, name) || !p.Audiences.Known(name) {
			return nil, fmt.Errorf("%w: %s is not an audience of this key; it may use: %s", ErrAudience, shorten([]string{name}), shorten(allowed))
		}
	}
	if len(requested) == 1 { // nearly always; it is not changed by anybody
		return requested, nil
	}
	return distinct(requested), nil
}

// distinct are the names in their order, each once.
func distinct(names []string) (found []string) {
	for _, name := range names {
		if !slices.Contains(found, name) {
			found = append(found, name)
		}
	}
	return found
}

// lifetime is the key's own or the default, cut at the key's expiry. It is a
// whole number of seconds, since exp is. Signing keys are removed in the belief
// that no token lives longer than keys.MaxTokenTTL, so nothing may exceed that.
func (p *Policy) lifetime(r *keys.Record, now time.Time) time.Duration {
	ttl := p.TokenTTL
	if r.TokenTTL != 0 {
		ttl = r.TokenTTL
	}
	if !r.ExpiresAt.IsZero() {
		ttl = min(ttl, r.ExpiresAt.Sub(now))
	}
	return min(ttl, keys.MaxTokenTTL).Truncate(time.Second)
}

// shorten lists names in an error without letting it grow without bound, since
// some of them are the client's.
func shorten(names []string) string {
	const most, longest = 20, 1000 // names, bytes
	if len(names) == 0 {
		return "nothing"
	}
	text := strings.Join(names[:min(len(names), most)], " ")
	if len(text) > longest {
		text = text[:longest] + "..."
	}
	if more := len(names) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
