package admin

import (
	"context"
	"net/http"
	"time"
)

// PolicyRules is an API-key policy: what keys may be and do. A nil field says
// nothing.
type PolicyRules struct {
	Enabled             *bool     `json:"api_keys_enabled"`
	MaxLifetimeDays     *int64    `json:"max_lifetime_days"`
	DefaultLifetimeDays *int64    `json:"default_lifetime_days"`
	AllowNever          *bool     `json:"allow_never_expiring"`
	MaxGraceSeconds     *int64    `json:"max_grace_period_seconds"`
	RequireNetworks     *bool     `json:"require_allowed_cidrs"`
	IdleDays            *int64    `json:"disable_idle_after_days"`
	AllowedScopes       *[]string `json:"allowed_scopes"` // patterns, such as *:read
	ServiceAccounts     *bool     `json:"service_accounts_manage_keys"`
}

// Policy is the API-key policy of the organization or of a workspace.
type Policy struct {
	PolicyRules
	Version   int64        `json:"version"`    // 0: nobody has set any
	UpdatedAt *time.Time   `json:"updated_at"` // null: never
	UpdatedBy string       `json:"updated_by"`
	Effective PolicyBounds `json:"effective"`
}

// PolicyBounds is what applies: what the organization says, narrowed by what the
// workspace says.
type PolicyBounds struct {
	Enabled             bool     `json:"api_keys_enabled"`
	MaxLifetimeDays     *int64   `json:"max_lifetime_days"` // null: any
	DefaultLifetimeDays int64    `json:"default_lifetime_days"`
	AllowNever          bool     `json:"allow_never_expiring"`
	MaxGraceSeconds     int64    `json:"max_grace_period_seconds"`
	RequireNetworks     bool     `json:"require_allowed_cidrs"`
	IdleDays            *int64   `json:"disable_idle_after_days"` // null: keys may be unused for ever
	AllowedScopes       []string `json:"allowed_scopes"`          // of the catalogue
	ServiceAccounts     bool     `json:"service_accounts_manage_keys"`
}

// PolicyImpact is whom a change of a policy would touch.
type PolicyImpact struct {
	Keys      int64           `json:"keys"`          // that were looked at: live ones
	Blocked   int64           `json:"keys_blocked"`  // work now, and would be refused
	Narrowed  int64           `json:"keys_narrowed"` // would lose scopes
	Freed     int64           `json:"keys_freed"`    // are refused now, and would work
	Findings  []PolicyFinding `json:"findings"`
	Touched   []TouchedKey    `json:"touched"` // the first 100 that would be refused or lose scopes
	Effective PolicyBounds    `json:"effective"`
}

// PolicyFinding is what a change of a policy would do, in words.
type PolicyFinding struct {
	Rule   string `json:"rule"` // the member that does it; empty: none alone
	Keys   int64  `json:"keys"`
	Detail string `json:"detail"`
}

// TouchedKey is a key that a change of a policy would touch.
type TouchedKey struct {
	ClientID    string     `json:"client_id"`
	Name        string     `json:"name"`
	WorkspaceID string     `json:"workspace_id"`
	Workspace   string     `json:"workspace"` // slug
	OwnerID     string     `json:"owner_id"`  // a service account or user
	ExpiresAt   *time.Time `json:"expires_at"`
	Breaks      []string   `json:"breaks"` // rules that it would break
	Loses       []string   `json:"loses"`  // scopes
}

// QuotaLimits is the quota of a workspace. A nil field is no limit.
type QuotaLimits struct {
	PerMinute          *int64  `json:"exchanges_per_minute"`
	Burst              *int64  `json:"burst"` // null: as many as a minute has
	PerDay             *int64  `json:"exchanges_per_day"`
	PerMonth           *int64  `json:"exchanges_per_month"`
	MaxKeys            *int64  `json:"max_keys"`
	MaxServiceAccounts *int64  `json:"max_service_accounts"`
	Mode               *string `json:"mode"` // enforce or soft; null: enforce
}

// Quota is the quota of a workspace, and how much of it is taken.
type Quota struct {
	QuotaLimits
	Version   int64      `json:"version"`    // 0: nobody has set any
	UpdatedAt *time.Time `json:"updated_at"` // null: never
	UpdatedBy string     `json:"updated_by"`
	Usage     QuotaUsage `json:"usage"`
}

// QuotaUsage is what a workspace has and does. Exchanges are some seconds old.
type QuotaUsage struct {
	LiveKeys        int64 `json:"live_keys"`
	ServiceAccounts int64 `json:"service_accounts"`
	Today           int64 `json:"exchanges_today"`      // in UTC
	ThisMonth       int64 `json:"exchanges_this_month"` // in UTC
}

// QuotaImpact is what of a quota would be exceeded already.
type QuotaImpact struct {
	Findings []QuotaFinding `json:"findings"`
	Usage    QuotaUsage     `json:"usage"`
}

// QuotaFinding is a limit that is exceeded, in words.
type QuotaFinding struct {
	Rule   string `json:"rule"`
	Detail string `json:"detail"`
}

// Documents are set as a whole: what is left out says nothing. The methods that
// take one take PolicyRules, QuotaLimits, or JSON text. The organization has methods
// of its own, so that a workspace's name that is empty by mistake never means it.

const organizationPolicy = "/policy"

func workspacePolicy(ws string) string { return path("workspaces", ws, "policy") }

func workspaceQuota(ws string) string { return path("workspaces", ws, "quota") }

// OrganizationPolicy reads the API-key policy of the organization.
func (c *Client) OrganizationPolicy(ctx context.Context) (Policy, error) {
	return get[Policy](ctx, c, organizationPolicy)
}

// SetOrganizationPolicy puts a document in the place of the organization's policy.
func (c *Client) SetOrganizationPolicy(ctx context.Context, document any, options ...Option) (Policy, error) {
	return send[Policy](ctx, c, http.MethodPut, organizationPolicy, document, options)
}

// PreviewOrganizationPolicy tells what SetOrganizationPolicy would do.
func (c *Client) PreviewOrganizationPolicy(ctx context.Context, document any) (PolicyImpact, error) {
	return send[PolicyImpact](ctx, c, http.MethodPost, organizationPolicy+"/preview", document, nil)
}

// Policy reads the API-key policy of a workspace.
func (c *Client) Policy(ctx context.Context, ws string) (Policy, error) {
	return get[Policy](ctx, c, workspacePolicy(ws))
}

// SetPolicy puts a document in the place of a workspace's policy.
func (c *Client) SetPolicy(ctx context.Context, ws string, document any, options ...Option) (Policy, error) {
	return send[Policy](ctx, c, http.MethodPut, workspacePolicy(ws), document, options)
}

// PreviewPolicy tells what SetPolicy would do.
func (c *Client) PreviewPolicy(ctx context.Context, ws string, document any) (PolicyImpact, error) {
	return send[PolicyImpact](ctx, c, http.MethodPost, workspacePolicy(ws)+"/preview", document, nil)
}

// Quota reads the quota of a workspace.
func (c *Client) Quota(ctx context.Context, ws string) (Quota, error) {
	return get[Quota](ctx, c, workspaceQuota(ws))
}

// SetQuota puts a document in the place of a workspace's quota.
func (c *Client) SetQuota(ctx context.Context, ws string, document any, options ...Option) (Quota, error) {
	return send[Quota](ctx, c, http.MethodPut, workspaceQuota(ws), document, options)
}

// PreviewQuota tells what SetQuota would do.
func (c *Client) PreviewQuota(ctx context.Context, ws string, document any) (QuotaImpact, error) {
	return send[QuotaImpact](ctx, c, http.MethodPost, workspaceQuota(ws)+"/preview", document, nil)
}
