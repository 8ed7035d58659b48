package keys

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
)

// Bounds of the life of an access token (per key).
const (
	MinTokenTTL = time.Minute
	MaxTokenTTL = time.Hour
)

// Bounds of what a key may be limited to.
const (
	MaxPerMinute = 600_000       // exchanges a minute
	MaxMaxUses   = 1_000_000_000 // uses
)

// MaxLiveSecrets is how many secrets of a key may work at once: the current one
// and, while the key is rotated, the one before.
const MaxLiveSecrets = 2

// Key is an API key: the credential of a service account, or of a user in one
// workspace (a personal key).
type Key struct {
	ID               ID
	WorkspaceID      workspace.ID
	ServiceAccountID workspace.ServiceAccountID // of a service account's key
	UserID           workspace.UserID           // of a personal key
	Name             string
	Description      string
	Scopes           *oauth.Scope   // nil: whatever the owner holds
	Audiences        []string       // empty: any registered one; the first is the default
	AllowedCIDRs     []netip.Prefix // empty: from anywhere
	TokenTTL         time.Duration  // 0: the configured default
	PerMinute        int64          // exchanges a minute, within the quota of the workspace; 0: that alone
	MaxUses          int64          // how often it may be used at all; 0: any number
	Uses             int64          // how often it was, counted only with MaxUses
	Generation       int64
	ExpiresAt        workspace.Time // zero: never
	RevokedAt        workspace.Time
	RevokedReason    string
	DeletedAt        workspace.Time // revoked, and not shown any more
	LastFailedAt     workspace.Time
	CreatedAt        workspace.Time
	CreatedBy        string
	UpdatedAt        workspace.Time
}

// Kind is the kind of the key's secrets.
func (k Key) Kind() Kind {
	if k.UserID != "" {
		return PersonalKey
	}
	return ServiceKey
}

// OwnerID is the service account or user that the key speaks for.
func (k Key) OwnerID() string {
	return string(k.ServiceAccountID) + string(k.UserID) // exactly one is set
}

// Validate checks what people choose, at a given instant. Errors wrap
// workspace.ErrInvalid.
func (k Key) Validate(now time.Time) error {
	if err := workspace.ValidName("key name", k.Name); err != nil {
		return err
	}
	switch {
	case (k.ServiceAccountID == "") == (k.UserID == ""):
		return fmt.Errorf("%w: a key belongs to a service account or to a user", workspace.ErrInvalid)
	case !k.ExpiresAt.IsZero() && !k.ExpiresAt.After(now):
		return fmt.Errorf("%w: expires_at %s is not in the future", workspace.ErrInvalid, k.ExpiresAt.Format(time.RFC3339))
	case k.ExpiresAt.UTC().Year() > 9999:
		return fmt.Errorf("%w: expires_at is after the year 9999, which is as far as RFC 3339 goes: leave it out or use null for never", workspace.ErrInvalid)
	case k.PerMinute < 0 || k.PerMinute > MaxPerMinute:
		return fmt.Errorf("%w: exchanges_per_minute is %d: use 1 to %d, or null for none of its own", workspace.ErrInvalid, k.PerMinute, MaxPerMinute)
	case k.MaxUses < 0 || k.MaxUses > MaxMaxUses:
		return fmt.Errorf("%w: max_uses is %d: use 1 to %d, or null for any number", workspace.ErrInvalid, k.MaxUses, MaxMaxUses)
	case k.TokenTTL != 0 && (k.TokenTTL < MinTokenTTL || k.TokenTTL > MaxTokenTTL):
		return fmt.Errorf("%w: the token lifetime %s: use %s to %s", workspace.ErrInvalid, k.TokenTTL, MinTokenTTL, MaxTokenTTL)
	}
	return workspace.ValidDescription(k.Description)
}

// StoredSecret is what is kept of a secret.
type StoredSecret struct {
	ID        string
	Digest    Digest
	Hint      string // the first of its random characters, for people
	CreatedAt workspace.Time
	ExpiresAt workspace.Time // zero: as long as the key

	LastUsedAt workspace.Time // zero: never; written every second or so
}

// Live reports whether the secret still works at that instant.
func (s StoredSecret) Live(now time.Time) bool {
	return s.ExpiresAt.IsZero() || now.Before(s.ExpiresAt.Time)
}

func prefixes(text string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for f := range strings.FieldsSeq(text) {
		p, err := netip.ParsePrefix(f)
		if err != nil {
			return nil, fmt.Errorf("stored network: %w", err)
		}
		out = append(out, p)
	}
	return out, nil
}

func joinPrefixes(list []netip.Prefix) string {
	out := make([]string, len(list))
	for i, p := range list {
		out[i] = p.String()
	}
	return strings.Join(out, " ")
}

// Allows reports whether the key may be used from that address. An IPv4 address
// in IPv6 form counts as IPv4.
func (k Key) Allows(address netip.Addr) bool {
	return len(k.AllowedCIDRs) == 0 || slices.ContainsFunc(k.AllowedCIDRs, func(p netip.Prefix) bool {
		return p.Contains(address.Unmap())
	})
}
