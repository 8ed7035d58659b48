package manage_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/deploy/schema/schematest"
	"github.com/tokenbooth/tokenbooth/keys/jwk"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// disaster is a house whose database can be taken back in time, with a journal that
// cannot.
type disaster struct {
	*house
	url     string
	restore func()
}

// eachDisaster runs f on both databases.
func eachDisaster(t *testing.T, f func(t *testing.T, d *disaster)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		f(t, &disaster{url: "sqlite:" + filepath.Join(t.TempDir(), "tokenbooth.db") + "?synchronous=off"})
	})
	t.Run("postgres", func(t *testing.T) { f(t, &disaster{url: schematest.PostgresURL(t)}) })
}

func (d *disaster) open(t *testing.T) *schema.DB {
	t.Helper()
	db, err := schema.Open(t.Context(), d.url)
	check(t, err)
	check(t, db.Migrate(t.Context()))
	return db
}

// begin builds the house and opens a journal.
func (d *disaster) begin(t *testing.T) *revocation.Journal {
	t.Helper()
	d.house = newHouse(t, d.open(t))
	check(t, d.EnsureSigningKeys(t.Context(), operator))
	j, err := revocation.OpenJournal(filepath.Join(t.TempDir(), "journal"), "house", slog.New(slog.DiscardHandler))
	check(t, err)
	d.Journal = j
	t.Cleanup(func() { check(t, j.Close()); check(t, d.Database.Close()) })
	return j
}

// backUp takes the backup of now.
func (d *disaster) backUp(t *testing.T) {
	t.Helper()
	check(t, d.Database.Close())
	d.restore = schematest.Backup(t, d.url)
	d.Database = d.open(t)
}

// strike puts the backup in the place of the database. Nothing is written to the
// journal from here on.
func (d *disaster) strike(t *testing.T) {
	t.Helper()
	check(t, d.Database.Close())
	d.restore()
	d.Database, d.Journal = d.open(t), nil
}

// merge merges the journal, after a look at what that would do.
func (d *disaster) merge(t *testing.T, j *revocation.Journal) manage.Merged {
	t.Helper()
	recorded, err := revocation.ReadJournal(j.Path())
	check(t, err)
	entries, epoch, err := revocation.Combine(recorded)
	check(t, err)
	before := d.dump()
	preview, err := d.PreviewMerge(t.Context(), operator, entries, epoch)
	check(t, err)
	if d.dump() != before {
		t.Error("a preview changed something")
	}
	merged, err := d.MergeRevocations(t.Context(), operator, entries, epoch)
	check(t, err)
	if preview.Needed() != merged.Needed() || text(t, preview.Subjects) != text(t, merged.Subjects) || preview.Revocations != merged.Revocations {
		t.Errorf("the preview was\n%s\nand then it was\n%s", text(t, preview), text(t, merged))
	}
	return merged
}

func text(t *testing.T, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	check(t, err)
	return string(out)
}

// effect is what a merge did to a subject, and what is to be looked at.
func effect(m manage.Merged, id string) (effect manage.Effect, review string) {
	for _, s := range m.Subjects {
		if s.ID == id {
			return s.Effect, s.Review
		}
	}
	return "", ""
}

// Whatever was revoked after the backup is revoked again, with the rows that it had;
// a second time finds nothing to do, and the journal goes on.
func TestRestore(t *testing.T) {
	eachDisaster(t, func(t *testing.T, d *disaster) {
		j := d.begin(t)
		ctx, no := t.Context(), false
		revoked, narrowed, both := d.key(d.sa), d.key(d.sa), d.key(d.sa)
		disabled, deleted := d.account("disabled", manage.NewServiceAccount{}), d.account("deleted", manage.NewServiceAccount{})
		other, err := d.CreateWorkspace(ctx, operator, "Other", "")
		check(t, err)
		doomed, err := d.CreateWorkspace(ctx, operator, "Doomed", "")
		check(t, err)
		earlier := d.key(d.sa)
		check(t, d.RevokeKey(ctx, operator, d.ws, earlier.ID, "before the backup"))
		d.backUp(t)

		d.now = d.now.Add(time.Hour)
		scopes := oauth.NewScope("collectors:read")
		narrow := func(key manage.Issued) {
			t.Helper()
			s := &scopes
			_, err := d.UpdateKey(ctx, operator, d.ws, key.ID, manage.KeyChange{Scopes: &s})
			check(t, err)
		}
		check(t, d.RevokeKey(ctx, operator, d.ws, revoked.ID, "leaked"))
		narrow(narrowed)
		narrow(both)
		check(t, d.RevokeKey(ctx, operator, d.ws, both.ID, "leaked"))
		check(t, d.DisableServiceAccount(ctx, operator, d.ws, disabled))
		check(t, d.DeleteServiceAccount(ctx, operator, d.ws, deleted))
		_, err = d.UpdateUser(ctx, operator, d.viewer, manage.UserChange{Enabled: &no})
		check(t, err)
		check(t, d.SuspendWorkspace(ctx, operator, other.ID))
		check(t, d.DeleteWorkspace(ctx, operator, doomed.ID))
		old, _, err := d.ReplaceSigningKeys(ctx, operator, []signing.Slot{signing.TokenSlot(jwk.ES256)})
		check(t, err)
		young := d.key(d.sa)
		check(t, d.RevokeKey(ctx, operator, d.ws, young.ID, ""))
		wanted, err := revocation.Since(ctx, d.Database.Reader(), 0, 100)
		check(t, err)
		generation := d.read(both.ID).Generation

		d.strike(t)
		if !d.works(revoked) {
			t.Fatal("the backup does not hold the key")
		}
		want(t, "the check of a restored database", revocation.ErrBackwards, j.Check(ctx, d.Database.Reader()))
		merged := d.merge(t, j)
		if merged.Revocations != len(wanted)-1 || merged.Renumbered != 0 || len(merged.Gaps) != 0 {
			t.Errorf("merged: %s", text(t, merged))
		}
		got, err := revocation.Since(ctx, d.Database.Reader(), 0, 100)
		check(t, err)
		if text(t, got) != text(t, wanted) {
			t.Errorf("the rows are\n%s, and were\n%s", text(t, got), text(t, wanted))
		}
		for id, c := range map[string]struct {
			effect manage.Effect
			review string
		}{
			string(revoked.ID): {manage.KeyRevoked, ""}, string(both.ID): {manage.KeyRevoked, ""}, string(young.ID): {manage.TokensDenied, ""},
			string(narrowed.ID): {manage.TokensDenied, "was narrowed at 2030-01-02T13:00:00Z"},
			string(disabled):    {manage.AccountDisabled, ""}, string(deleted): {manage.AccountDisabled, "was deleted at 2030-01-02T13:00:00Z"},
			string(d.viewer): {manage.AccountDisabled, ""}, string(other.ID): {manage.WorkspaceSuspended, ""},
			string(doomed.ID): {manage.WorkspaceSuspended, "was deleted"}, old[0].ID: {manage.KeyDistrusted, ""}, string(earlier.ID): {"", ""},
		} {
			did, review := effect(merged, id)
			if did != c.effect || !strings.HasPrefix(review, c.review) || (review == "") != (c.review == "") {
				t.Errorf("%s is %q for review %q, want %q and %q", id, did, review, c.effect, c.review)
			}
		}
		record := d.read(both.ID)
		if record.RevokedAt.IsZero() || record.Generation != generation {
			t.Errorf("the key is revoked at %v, of generation %d, which was %d", record.RevokedAt, record.Generation, generation)
		}
		if reason := get[string](d.house, `SELECT revoked_reason FROM keys WHERE id = ?`, both.ID); reason != "restored: it was revoked at 2030-01-02T13:00:00Z" {
			t.Errorf("the reason is %q", reason)
		}
		if r := d.read(narrowed.ID); !r.RevokedAt.IsZero() || r.Generation != 2 {
			t.Errorf("the narrowed key is %+v", r.Key)
		}
		if n := get[int](d.house, `SELECT count(*) FROM service_accounts WHERE disabled_at IS NOT NULL AND generation = 2`); n != 2 {
			t.Errorf("%d service accounts are disabled", n)
		}
		if n := get[int](d.house, `SELECT count(*) FROM workspaces WHERE suspended_at IS NOT NULL AND generation = 2`); n != 2 {
			t.Errorf("%d workspaces are suspended", n)
		}
		published, err := signing.Published(ctx, d.Database.Reader())
		check(t, err)
		for _, key := range published {
			if key.ID == old[0].ID {
				t.Error("the old signing key is published")
			}
		}
		d.wantMergeRecorded(t, string(revoked.ID))
		d.wantNothingToDo(t, j)

		// The journal goes on in the new epoch.
		check(t, d.EnsureSigningKeys(ctx, operator))
		check(t, j.Check(ctx, d.Database.Reader()))
		d.Journal = j
		check(t, d.RevokeKey(ctx, operator, d.ws, narrowed.ID, ""))
		if at, last := j.Last(); at.Epoch != merged.To.Epoch || at.Sequence != merged.To.Sequence+1 || last.SubjectID != string(narrowed.ID) {
			t.Errorf("the journal is at %v with %v, after a merge to %v", at, last, merged.To)
		}
		d.wantNothingToDo(t, j)
	})
}

// wantMergeRecorded wants the merge in the instance's audit log, and each subject in
// its workspace's and in the change log.
func (d *disaster) wantMergeRecorded(t *testing.T, subject string) {
	t.Helper()
	events := d.events(audit.Instance)
	if last := events[len(events)-1]; last.Action != "revocations.merge" || last.SubjectID != revocation.Subject {
		t.Errorf("the last event is %s of %s", last.Action, last.SubjectID)
	}
	found := false
	for _, e := range d.events(string(d.ws)) {
		found = found || e.Action == "revocations.restore" && e.SubjectID == subject
	}
	if !found {
		t.Errorf("nothing is recorded of %s", subject)
	}
	if n := get[int](d.house, `SELECT count(*) FROM changes WHERE seq = ? AND subject_id IN (?, ?)`, d.seq(), subject, revocation.Subject); n != 2 {
		t.Errorf("%d of 2 subjects are in the log of changes", n)
	}
}

func (d *disaster) wantNothingToDo(t *testing.T, j *revocation.Journal) {
	t.Helper()
	before := d.dump()
	if again := d.merge(t, j); again.Needed() || again.Revocations != 0 || len(again.Subjects) != 0 {
		t.Errorf("a second merge finds %s", text(t, again))
	}
	if d.dump() != before {
		t.Error("a second merge changed something")
	}
}

// A restored database that served before anybody looked has given the numbers to
// others: both are kept, and the tokens that it issued for what was revoked are
// denied.
func TestRestoreAfterServing(t *testing.T) {
	eachDisaster(t, func(t *testing.T, d *disaster) {
		j := d.begin(t)
		ctx := t.Context()
		first, second, third := d.key(d.sa), d.key(d.sa), d.key(d.sa)
		d.backUp(t)
		d.now = d.now.Add(time.Minute)
		check(t, d.RevokeKey(ctx, operator, d.ws, first.ID, ""))
		check(t, d.RevokeKey(ctx, operator, d.ws, second.ID, ""))
		check(t, d.DisableServiceAccount(ctx, operator, d.ws, d.sa))
		d.strike(t)

		d.now = d.now.Add(time.Minute)
		check(t, d.RevokeKey(ctx, operator, d.ws, third.ID, ""))
		_, err := d.RotateKey(ctx, operator, d.ws, first.ID, manage.Rotation{RevokeTokens: true}) // generation 2, as when it was revoked
		check(t, err)
		check(t, d.SuspendWorkspace(ctx, operator, d.ws))
		check(t, d.ResumeWorkspace(ctx, operator, d.ws))
		want(t, "the check of a restored database", revocation.ErrBackwards, j.Check(ctx, d.Database.Reader()))

		merged := d.merge(t, j)
		if merged.Revocations != 3 || merged.Renumbered != 3 || merged.From.Sequence != 3 {
			t.Errorf("merged: %s", text(t, merged))
		}
		if r := d.read(first.ID); r.RevokedAt.IsZero() || r.Generation != 3 || r.OwnerDisabledAt.IsZero() {
			t.Errorf("the key is %+v, its owner disabled at %v", r.Key, r.OwnerDisabledAt)
		}
		if n := get[int](d.house, `SELECT count(*) FROM revocations WHERE kind = 'key' AND subject_id = ? AND generation = 3 AND seq > 3`, first.ID); n != 1 {
			t.Errorf("%d rows deny the tokens that the restored database issued", n)
		}
		if to := get[int64](d.house, `SELECT max(seq) FROM revocations`); to != merged.To.Sequence || to != get[int64](d.house, `SELECT seq FROM revocation_counter`) {
			t.Errorf("the highest number is %d, merged to %v", to, merged.To)
		}
		check(t, j.Check(ctx, d.Database.Reader()))
		d.wantNothingToDo(t, j)
		check(t, j.CatchUp(ctx, d.Database.Reader()))
		check(t, j.Check(ctx, d.Database.Reader()))
		d.wantNothingToDo(t, j)

		// Also when rows are pruned, and what was disabled is enabled by somebody.
		yes := true
		_, err = d.UpdateServiceAccount(ctx, operator, d.ws, d.sa, manage.ServiceAccountChange{Enabled: &yes})
		check(t, err)
		d.exec(`DELETE FROM revocations`)
		d.now = d.now.Add(3 * time.Hour)
		d.wantNothingToDo(t, j)

		// And a key whose revocation left no row at all is still not what it was.
		d.exec(`UPDATE keys SET revoked_at = NULL WHERE id = ?`, second.ID)
		again := d.merge(t, j)
		if did, _ := effect(again, string(second.ID)); did != manage.KeyRevoked || len(again.Subjects) != 1 {
			t.Errorf("merged: %s", text(t, again))
		}
		if n := get[int](d.house, `SELECT count(*) FROM revocations WHERE subject_id = ? AND generation = 3`, second.ID); n != 1 {
			t.Errorf("%d rows deny its tokens", n)
		}
		d.wantNothingToDo(t, j)
	})
}

// What no journal has any more is said. A journal that is only in a later epoch
// wants a newer one.
func TestRestoreFromWhatIsLeft(t *testing.T) {
	schematest.Each(t, func(t *testing.T, db *schema.DB) {
		h := newHouse(t, db)
		ctx := t.Context()
		entry := func(seq int64, id string) revocation.Entry {
			return revocation.Entry{
				Seq: seq, Kind: oauth.RevocableToken, SubjectID: id, Cause: revocation.Revoked, At: workspace.At(h.now), ExpiresAt: revocation.Good(h.now.Add(time.Hour)),
			}
		}
		entries := []revocation.Entry{entry(4, "a"), entry(5, "b"), entry(9, "c")}
		_, err := h.MergeRevocations(ctx, manage.User(h.admin), entries, 1)
		want(t, "a merge by an organization admin", workspace.ErrForbidden, err)
		merged, err := h.MergeRevocations(ctx, operator, entries, 1)
		check(t, err)
		if got := text(t, merged.Gaps); got != `[{"from":1,"to":3},{"from":6,"to":8}]` {
			t.Errorf("the gaps are %s", got)
		}
		if merged.To.Sequence != 9 || merged.To.Epoch < h.now.Unix() || len(merged.Subjects) != 3 {
			t.Errorf("merged: %s", text(t, merged))
		}
		ahead, err := h.MergeRevocations(ctx, operator, entries, merged.To.Epoch+5)
		check(t, err)
		if !ahead.Needed() || ahead.Revocations != 0 || ahead.To != (oauth.Position{Epoch: merged.To.Epoch + 6, Sequence: 9}) {
			t.Errorf("a journal of a later epoch: %s", text(t, ahead))
		}
		var last int64
		check(t, db.InTx(ctx, func(ctx context.Context, tx sqlx.ExtContext) (err error) {
			last, err = revocation.Append(ctx, tx, entry(0, "d"))
			return err
		}))
		if last != 10 {
			t.Errorf("the next number is %d", last)
		}
	})
}
