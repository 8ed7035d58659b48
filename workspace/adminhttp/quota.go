package adminhttp

import (
	"strconv"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func showQuota(r *request) (answer, error) {
	return showingQuota(r.h.Manager.Quota(r.ctx(), r.by, r.ws))
}

func setQuota(r *request) (answer, error) {
	limits, err := r.limits()
	if err != nil {
		return answer{}, err
	}
	after, err := r.h.Manager.SetQuota(r.ctx(), r.by, r.ws, limits)
	return showingQuota(after, blame(err, &admin.QuotaLimits{}))
}

func previewQuota(r *request) (answer, error) {
	limits, err := r.limits()
	if err != nil {
		return answer{}, err
	}
	findings, use, err := r.h.Manager.PreviewQuota(r.ctx(), r.by, r.ws, limits)
	wire := admin.QuotaImpact{Findings: []admin.QuotaFinding{}, Usage: wireUse(use)}
	for _, f := range findings {
		wire.Findings = append(wire.Findings, admin.QuotaFinding{Rule: f.Rule, Detail: f.Text})
	}
	return answer{body: wire}, blame(err, &admin.QuotaLimits{})
}

// limits reads the body. Who does not say the mode means that limits are enforced.
func (r *request) limits() (quota.Limits, error) {
	var wire admin.QuotaLimits
	if err := r.decodeDocument(&wire, "usage"); err != nil {
		return quota.Limits{}, err
	}
	mode := quota.Enforce
	if wire.Mode != nil {
		mode = quota.Mode(*wire.Mode)
	}
	if mode != quota.Enforce && mode != quota.Soft {
		return quota.Limits{}, invalid([]oauth.FieldError{mistake("mode", "has to be enforce or soft")})
	}
	return quota.Limits{
		PerMinute: wire.PerMinute, Burst: wire.Burst, PerDay: wire.PerDay, PerMonth: wire.PerMonth,
		MaxKeys: wire.MaxKeys, MaxServiceAccounts: wire.MaxServiceAccounts, Mode: mode,
	}, nil
}

func showingQuota(q manage.Quota, err error) (answer, error) {
	mode := string(q.Value.Mode)
	if mode == "" {
		mode = string(quota.Enforce)
	}
	return answer{
		body: admin.Quota{
			QuotaLimits: admin.QuotaLimits{
				PerMinute: q.Value.PerMinute, Burst: q.Value.Burst, PerDay: q.Value.PerDay, PerMonth: q.Value.PerMonth,
				MaxKeys: q.Value.MaxKeys, MaxServiceAccounts: q.Value.MaxServiceAccounts, Mode: &mode,
			},
			Version: q.Version, UpdatedAt: orNull(q.CreatedAt), UpdatedBy: who(q.CreatedBy), Usage: wireUse(q.Use),
		},
		version: strconv.FormatInt(q.Version, 10),
	}, err
}

func wireUse(u manage.QuotaUse) admin.QuotaUsage {
	return admin.QuotaUsage{LiveKeys: u.Keys, ServiceAccounts: u.ServiceAccounts, Today: u.Today, ThisMonth: u.ThisMonth}
}
