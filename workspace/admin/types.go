package admin

import (
	"encoding/json"
	"time"
)

// Workspace is a tenant.
type Workspace struct {
	ID          string     `json:"id"`
	Slug        string     `json:"slug"` // unique for ever; appears in tokens
	Name        string     `json:"name"`
	Suspended   bool       `json:"suspended"`
	SuspendedAt *time.Time `json:"suspended_at"`
	CreatedAt   time.Time  `json:"created_at"`
	UpdatedAt   time.Time  `json:"updated_at"`
}

// NewWorkspace makes a workspace. Of name and slug one may be left out.
type NewWorkspace struct {
	Name string `json:"name,omitempty"`
	Slug string `json:"slug,omitempty"`
}

// WorkspaceChange changes a workspace.
type WorkspaceChange struct {
	Name *string `json:"name,omitempty"`
}

// User is a person.
type User struct {
	ID                string    `json:"id"`
	Email             string    `json:"email"`
	Name              string    `json:"name"`
	OrganizationAdmin bool      `json:"organization_admin"`
	Enabled           bool      `json:"enabled"`
	CreatedAt         time.Time `json:"created_at"`
	UpdatedAt         time.Time `json:"updated_at"`
}

// NewUser makes a user.
type NewUser struct {
	Email             string `json:"email"`
	Name              string `json:"name,omitempty"`
	OrganizationAdmin bool   `json:"organization_admin,omitempty"`
}

// UserChange changes a user; what is nil stays.
type UserChange struct {
	Name              *string `json:"name,omitempty"`
	OrganizationAdmin *bool   `json:"organization_admin,omitempty"`
	Enabled           *bool   `json:"enabled,omitempty"`
}

// Profile is the person who asks.
type Profile struct {
	User
	Memberships []Membership `json:"memberships"`
}

// Membership is a workspace that a person is in.
type Membership struct {
	WorkspaceID string `json:"workspace_id"`
	Workspace   string `json:"workspace"` // slug
	Name        string `json:"name"`
	Role        string `json:"role"`
}

// Member is a user in a workspace.
type Member struct {
	UserID    string    `json:"user_id"`
	Email     string    `json:"email"`
	Name      string    `json:"name"`
	Role      string    `json:"role"` // owner, manager or viewer
	Enabled   bool      `json:"enabled"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// NewMember puts a person into a workspace, by ID or by e-mail address.
type NewMember struct {
	UserID string `json:"user_id,omitempty"`
	Email  string `json:"email,omitempty"`
	Role   string `json:"role"`
}

// MemberChange changes a member.
type MemberChange struct {
	Role string `json:"role"`
}

// ServiceAccount is a non-human identity that owns API keys.
type ServiceAccount struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Role        *string   `json:"role"`   // null: it has scopes
	Scopes      []string  `json:"scopes"` // explicit ones; null: it has a role
	Enabled     bool      `json:"enabled"`
	CreatedAt   time.Time `json:"created_at"`
	CreatedBy   string    `json:"created_by"`
	UpdatedAt   time.Time `json:"updated_at"`
}

// NewServiceAccount makes a service account, with a role or scopes.
type NewServiceAccount struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Role        string   `json:"role,omitempty"`
	Scopes      []string `json:"scopes,omitempty"`
}

// ServiceAccountChange changes a service account; what is nil stays.
type ServiceAccountChange struct {
	Name        *string   `json:"name,omitempty"`
	Description *string   `json:"description,omitempty"`
	Role        *string   `json:"role,omitempty"`
	Scopes      *[]string `json:"scopes,omitempty"`
	Enabled     *bool     `json:"enabled,omitempty"`
}

// Key is an API key: the credential of a service account, or of a user.
type Key struct {
	ClientID         string     `json:"client_id"`
	WorkspaceID      string     `json:"workspace_id"`
	ServiceAccountID string     `json:"service_account_id,omitempty"`
	UserID           string     `json:"user_id,omitempty"`
	Name             string     `json:"name"`
	Description      string     `json:"description"`
	Status           string     `json:"status"`  // active, expiring, expired or revoked
	Blocked          []string   `json:"blocked"` // what refuses it now although it has not ended: rules of policy, or max_uses
	Scopes           []string   `json:"scopes"`  // null: whatever its owner holds
	Audiences        []string   `json:"audiences"`
	AllowedCIDRs     []string   `json:"allowed_cidrs"`
	TokenTTL         *int64     `json:"token_ttl_seconds"`    // null: the default
	PerMinute        *int64     `json:"exchanges_per_minute"` // null: no limit of its own
	MaxUses          *int64     `json:"max_uses"`             // null: any number
	Uses             int64      `json:"uses"`                 // counted only while there is a MaxUses
	CreatedAt        time.Time  `json:"created_at"`
	CreatedBy        string     `json:"created_by"`
	UpdatedAt        time.Time  `json:"updated_at"`
	ExpiresAt        *time.Time `json:"expires_at"` // null: never
	RevokedAt        *time.Time `json:"revoked_at"`
	RevokedReason    string     `json:"revoked_reason"`
	LastUsedAt       *time.Time `json:"last_used_at"`   // last successful use
	LastFailedAt     *time.Time `json:"last_failed_at"` // last refusal
	Secrets          []Secret   `json:"secrets"`
}

// Secret is what is known of a secret of a key.
type Secret struct {
	ID              string     `json:"id"`
	Start           string     `json:"start"` // how it begins
	CreatedAt       time.Time  `json:"created_at"`
	ExpiresAt       *time.Time `json:"expires_at"` // null: as long as the key
	LastUsedAt      *time.Time `json:"last_used_at"`
	LastUsedAddress string     `json:"last_used_address"`
	LastUsedAgent   string     `json:"last_used_agent"`
}

// IssuedKey is a key with its new secret, which is shown once.
type IssuedKey struct {
	Key
	ClientSecret *string `json:"client_secret"` // null: a repeated request came too late for it
}

// NewKey makes a key. Without ServiceAccount, in a workspace, it makes a service
// account of the key's name as well.
type NewKey struct {
	Workspace      string   `json:"workspace,omitempty"`       // of a personal key: ID or slug
	ServiceAccount string   `json:"service_account,omitempty"` // ID or name
	Role           string   `json:"role,omitempty"`            // of the service account that is made
	Name           string   `json:"name"`
	Description    string   `json:"description,omitempty"`
	Scopes         []string `json:"scopes,omitempty"` // nil: whatever the owner holds
	Audiences      []string `json:"audiences,omitempty"`
	AllowedCIDRs   []string `json:"allowed_cidrs,omitempty"`
	TokenTTL       *int64   `json:"token_ttl_seconds,omitempty"`
	PerMinute      *int64   `json:"exchanges_per_minute,omitempty"`
	MaxUses        *int64   `json:"max_uses,omitempty"`
	ExpiresAt      *Expiry  `json:"expires_at,omitempty"` // nil: what policy says
}

// KeyChange changes a key; what is nil stays.
type KeyChange struct {
	Name         *string             `json:"name,omitempty"`
	Description  *string             `json:"description,omitempty"`
	Scopes       *Nullable[[]string] `json:"scopes,omitempty"`
	Audiences    *[]string           `json:"audiences,omitempty"`
	AllowedCIDRs *[]string           `json:"allowed_cidrs,omitempty"`
	TokenTTL     *Nullable[int64]    `json:"token_ttl_seconds,omitempty"`
	PerMinute    *Nullable[int64]    `json:"exchanges_per_minute,omitempty"`
	MaxUses      *Nullable[int64]    `json:"max_uses,omitempty"`
	ExpiresAt    *Expiry             `json:"expires_at,omitempty"`
}

// Nullable is a value that may be null, as opposed to one that was left out.
type Nullable[T any] struct {
	Value *T // nil: null
}

// MarshalJSON writes the value or null.
func (n Nullable[T]) MarshalJSON() ([]byte, error) { return json.Marshal(n.Value) }

// UnmarshalJSON reads a value or null.
func (n *Nullable[T]) UnmarshalJSON(text []byte) error { return json.Unmarshal(text, &n.Value) }

// Expiry is an instant, or null for never (RFC 3339).
type Expiry = Nullable[time.Time]

// Never is the expiry of what never ends.
func Never() *Expiry { return &Expiry{} }

// At is an expiry at an instant.
func At(t time.Time) *Expiry { return &Expiry{Value: &t} }

// Rotation gives a key a new secret.
type Rotation struct {
	GracePeriod  int64 `json:"grace_period_seconds,omitempty"` // 0 to 604800
	RevokeTokens bool  `json:"revoke_tokens,omitempty"`
}

// Revocation ends a key.
type Revocation struct {
	Reason string `json:"reason,omitempty"`
}

// AuditEvent is one thing that happened: a change, or a use of a key.
type AuditEvent struct {
	ID          string          `json:"id"`
	At          time.Time       `json:"at"`
	WorkspaceID string          `json:"workspace_id"` // empty: the installation
	Seq         int64           `json:"seq"`          // in its chain; 0 for uses of keys
	Action      string          `json:"action"`       // such as key.create or token.issue
	ActorKind   string          `json:"actor_kind"`   // user, service_account or operator
	ActorID     string          `json:"actor_id"`
	ClientID    string          `json:"client_id"`  // the key that was used
	SubjectID   string          `json:"subject_id"` // what it happened to
	OwnerID     string          `json:"owner_id"`   // the service account or user whom it concerns
	Outcome     string          `json:"outcome"`    // of uses of keys: issued, expired, …
	Address     string          `json:"address"`
	UserAgent   string          `json:"user_agent"`
	RequestID   string          `json:"request_id"`
	Count       int64           `json:"count"` // how many alike it stands for
	Detail      json.RawMessage `json:"detail"`
}

// Usage is how a workspace's keys were used.
type Usage struct {
	Since   time.Time  `json:"since"`
	Until   time.Time  `json:"until"`
	Bucket  string     `json:"bucket"` // hour or day
	Issued  int64      `json:"issued"`
	Refused int64      `json:"refused"`
	Data    []UsageRow `json:"data"`
}

// UsageRow counts the exchanges of a key with one outcome in one bucket.
type UsageRow struct {
	Start    time.Time `json:"start"`
	ClientID string    `json:"client_id"`
	Outcome  string    `json:"outcome"`
	Count    int64     `json:"count"`
}

// List is a page of a list.
type List[T any] struct {
	Data       []T     `json:"data"`
	HasMore    bool    `json:"has_more"`
	NextCursor *string `json:"next_cursor"` // null: this was the last page
}
