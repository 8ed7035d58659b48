package main

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

// past is what a demo's key has behind it.
type past struct {
	admin.NewKey
	days     int           // for which it has been there
	expires  time.Duration // from now; zero: never
	perDay   float64       // exchanges
	lastUsed time.Duration // ago; zero: never
	address  string
	agent    string
}

var pasts = []past{
	{admin.NewKey{Name: "gitlab-ci-deploy", Description: "Rolls out collectors from the main branch", Scopes: []string{"collectors:read", "collectors:update", "pipelines:create", "pipelines:read"}},
		64, 26 * day, 310, 3 * time.Minute, "203.0.113.24", "GitLab-Runner/18.4"},
	{admin.NewKey{Name: "terraform", Description: "Infrastructure repository, plan and apply", Scopes: []string{"collectors:read", "collectors:create", "collectors:update", "collectors:delete", "pipelines:read", "pipelines:create", "pipelines:update", "pipelines:delete"}},
		88, 2*day + time.Hour, 24, 5 * time.Hour, "203.0.113.31", "Terraform/1.13"},
	{admin.NewKey{Name: "nightly-backup", Description: "Reads all pipelines at 02:00", Scopes: []string{"pipelines:read"}, AllowedCIDRs: []string{"10.20.0.0/16"}},
		170, 10 * day, 1, 8 * time.Hour, "10.20.3.7", "curl/8.14.1"},
	{admin.NewKey{Name: "grafana", Description: "Dashboards of the platform team", Scopes: []string{"collectors:read", "pipelines:read"}},
		210, 155 * day, 1440, 20 * time.Second, "198.51.100.8", "Grafana/12.3"},
	{admin.NewKey{Name: "load-test", Scopes: []string{"collectors:read", "pipelines:create"}},
		130, 50 * day, 0, 0, "", ""},
	{admin.NewKey{Name: "release-bot", Description: "Tags and publishes", Scopes: []string{"pipelines:read", "pipelines:update"}},
		40, 50 * day, 12, 2 * time.Hour, "192.0.2.77", "release-bot/3.2"},
	{admin.NewKey{Name: "old-jenkins", Scopes: []string{"pipelines:read"}}, 300, 65 * day, 0, 31 * day, "192.0.2.5", "Jenkins/2.4"},
}

// furnished is a demo whose workspace looks as one does after some months, and the
// URL of its database.
func furnished(t *testing.T) (d *devServer, url string) {
	t.Helper()
	url = "sqlite:" + filepath.Join(t.TempDir(), "demo.db")
	d = devReady(t, "--database-url", url)
	for range 3 {
		wantToken(t, d.Issuer, d.key())
	}
	revoked := d.Fixtures["revoked"]
	wantRefusal(t, d.Issuer, credential{revoked.ClientID, revoked.ClientSecret}, "revoked")
	client, err := admin.New(admin.Config{URL: d.Issuer, Credential: d.AdminKey})
	if err != nil {
		t.Fatal(err)
	}
	db, err := schema.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, p := range pasts {
		key, err := client.CreateKey(t.Context(), d.Workspace, p.NewKey)
		if err != nil {
			t.Fatal(err)
		}
		p.write(t, db, key.Key)
		switch p.Name {
		case "release-bot":
			_, err = client.RotateKey(t.Context(), d.Workspace, key.ClientID, admin.Rotation{GracePeriod: 24 * 60 * 60})
		case "old-jenkins":
			_, err = client.RevokeKey(t.Context(), d.Workspace, key.ClientID, admin.Revocation{Reason: "replaced by GitLab"})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return d, url
}

// write dates a key back and gives it a history.
func (p past) write(t *testing.T, db *schema.DB, key admin.Key) {
	t.Helper()
	now := time.Now()
	made := workspace.At(now.Add(-time.Duration(p.days) * day))
	err := db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
		if _, err := tx.ExecContext(ctx, `UPDATE keys SET created_at = ?, expires_at = ? WHERE id = ?`, made, workspace.At(now.Add(p.expires)), key.ClientID); err != nil {
			return err
		}
		used := workspace.Time{}
		if p.lastUsed > 0 {
			used = workspace.At(now.Add(-p.lastUsed))
		}
		if _, err := tx.ExecContext(ctx, `UPDATE key_secrets SET created_at = ?, last_used_at = ?, last_used_address = ?, last_used_agent = ? WHERE key_id = ?`,
			made, used, p.address, p.agent, key.ClientID); err != nil {
			return err
		}
		return p.exchanges(ctx, tx, key, now)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// exchanges are those of the last 30 days, a row for every six hours: fewer at night
// and at weekends, and now and then a refusal.
func (p past) exchanges(ctx context.Context, tx sqlx.ExtContext, key admin.Key, now time.Time) error {
	for i := range 4 * min(p.days, 30) {
		at := now.Add(-time.Duration(i)*6*time.Hour - time.Minute)
		n := int64(math.Round(p.perDay / 4 * (1 + 0.6*math.Sin(float64(at.Hour()-8)/24*2*math.Pi))))
		if weekday := at.Weekday(); weekday == time.Saturday || weekday == time.Sunday {
			n /= 4
		}
		rows := map[string]int64{"issued": n}
		if i%7 == 3 {
			rows["quota_exceeded"] = n / 40
			rows["wrong_credentials"] = n / 25
		}
		for outcome, count := range rows {
			if count == 0 {
				continue
			}
			id := workspace.Unique()
			action := "token.issue"
			if outcome != "issued" {
				action = "token.refuse"
			}
			_, err := tx.ExecContext(ctx, `INSERT INTO exchange_events (batch, position, id, at, workspace_id, key_id, owner_id, secret_id, action, outcome, address, agent, request_id, detail, count)
				VALUES (0, (SELECT count(*) FROM exchange_events WHERE batch = 0), ?, ?, ?, ?, ?, '', ?, ?, ?, ?, ?, '{}', ?)`,
				id, workspace.At(at), key.WorkspaceID, key.ClientID, key.ServiceAccountID, action, outcome, p.address, p.agent, fmt.Sprintf("req_%s", id), count)
			if err != nil {
				return err
			}
		}
	}
	return nil
}
