package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// broken are documents that somebody might leave in the database.
func broken(random *rand.Rand) []string {
	var list []string
	for _, value := range []string{"null", "0", "-1", "-9223372036854775808", "9223372036854775807", "1e999", "99999999999999999999", "1.5", `"90"`, "true", "[]", "{}"} {
		list = append(list, `{"max_lifetime_days": `+value+`, "exchanges_per_minute": `+value+`}`)
	}
	list = append(list, "", "null", "[]", "{", `{"a":1,"a":2}`, strings.Repeat("[", 50_000))
	good := []byte(`{"max_lifetime_days": 90, "exchanges_per_minute": 600}`) // in neither document are both known
	for range 10 {
		text := append([]byte{}, good...)
		for range 1 + random.IntN(4) {
			text[random.IntN(len(text))] = byte(32 + random.IntN(95))
		}
		list = append(list, string(text))
	}
	return list
}

// plant writes a document as the newest of an organization and a workspace, past all
// checks, and waits until every server has taken that in.
func (c *cluster) plant(version int64, text string) {
	c.t.Helper()
	var seq int64
	err := c.db.InTx(c.t.Context(), func(ctx context.Context, tx sqlx.ExtContext) (err error) {
		if seq, err = change.Lock(ctx, tx); err != nil {
			return err
		}
		var subjects []string
		for kind, of := range map[policy.Kind]string{policy.KindKeys: policy.Organization, policy.KindQuota: string(c.ws)} {
			err := policy.InsertDocument(ctx, tx, policy.Stored{Kind: kind, Subject: of, Version: version, Text: text, CreatedAt: workspace.At(time.Now()), CreatedBy: "nobody"})
			if err != nil {
				return err
			}
			subjects = append(subjects, kind.Subject(of))
		}
		return change.Record(ctx, tx, seq, workspace.At(time.Now()), subjects...)
	})
	if err == nil {
		_, err = change.Await(c.t.Context(), c.db, seq, change.DefaultTiming)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// Whatever stands in the rows of policies and quotas, servers go on to issue by the
// last ones that they understood, also those that start later.
func TestBrokenPoliciesStopNothing(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	issued, key := c.newKey("ci")
	long, late := c.newKey("late")
	for id, expiry := range map[string]time.Time{string(issued.ID): time.Now().Add(60 * day), string(long.ID): time.Now().Add(365 * day)} {
		execute(t, c.db, "UPDATE keys SET expires_at = ? WHERE id = ?", workspace.At(expiry), id)
	}
	_, _, err := c.manager.SetKeyPolicy(t.Context(), tester, "", policy.Rules{MaxLifetimeDays: of[int64](90)})
	if err == nil {
		_, err = c.manager.SetQuota(t.Context(), tester, c.ws, quota.Limits{PerMinute: of[int64](quota.MaxPerMinute)})
	}
	if err != nil {
		t.Fatal(err)
	}
	right := func(r *replica, what string) {
		t.Helper()
		wantToken(t, r.url, key)
		wantRefusal(t, r.url, late, "at most 90 days")
		if text := page(t, r.ops+"/metrics"); what != "" && !strings.Contains(text, "tokenbooth_policy_faults 2\n") {
			t.Errorf("%s: it is not counted", what)
		}
	}
	right(c.a, "")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	list := broken(rand.New(rand.NewPCG(seed, 1))) //nolint:gosec // a test's choice
	for i, text := range list {
		c.plant(int64(i+2), text)
		for _, r := range []*replica{c.a, c.b} {
			right(r, fmt.Sprintf("%.60q", text))
		}
	}
	right(serveReady(t, c.env), "a server that starts later")
}
