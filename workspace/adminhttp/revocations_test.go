package adminhttp_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// revoked makes a key and revokes it; the result is the answer.
func (h *house) revoked(name string) reply {
	h.Helper()
	key := h.want(201, h.owner.secret, post, h.in("/keys"), object{"name": name})
	return h.want(200, h.owner.secret, post, h.in("/keys/"+key.text("client_id")+"/revoke"), object{"reason": "leaked"})
}

func (r reply) number(name string) int64 {
	r.Helper()
	n, ok := r.object[name].(float64)
	if !ok {
		r.Fatalf("the answer has no number %q: %s", name, r.body)
	}
	return int64(n)
}

// newest is how far the revocations are.
func (h *house) newest() oauth.Position {
	h.Helper()
	return must(revocation.Newest(h.Context(), h.Database.Reader()))
}

func (h *house) report(credential, name string, sequence int64) reply {
	h.Helper()
	return h.want(200, credential, post, "/verifiers/"+name, object{"epoch": h.newest().Epoch, "sequence": sequence})
}

func path(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// A revocation says where it is followed, and so does whoever repeats the request.
func TestRevokingIsFollowed(t *testing.T) { on(t, revokingIsFollowed) }

func revokingIsFollowed(h *house) {
	t := h.TB
	first := h.revoked("first")
	seq, deadBy := first.number("sequence"), first.text("dead_by")
	if first.object["exchange_effective_by"] != nil || first.text("status") != "revoked" || seq != h.newest().Sequence {
		t.Errorf("revoked: %s", first.body)
	}
	if want := revocation.Good(h.clock().Add(keys.MaxTokenTTL)).Format(time.RFC3339); deadBy != want {
		t.Errorf("dead by %s, want %s", deadBy, want)
	}
	second := h.revoked("second")
	if second.number("sequence") != seq+1 {
		t.Errorf("the next has the number %d, want %d", second.number("sequence"), seq+1)
	}
	h.pass(time.Minute)
	me, key := h.owner.secret, h.in("/keys/"+first.text("client_id"))
	again := h.want(200, me, post, key+"/revoke", nil)
	deleted := h.want(204, me, remove, key, nil)
	for what, got := range map[string]reply{"first": first, "again": again, "deleted": deleted} {
		if got.header.Get("Revocation-Sequence") != fmt.Sprint(seq) || got.header.Get("Revocation-Dead-By") != deadBy || got.header.Get("Revocation-Effective-By") != "" {
			t.Errorf("%s: the header is %v", what, got.header)
		}
	}
	if again.number("sequence") != seq || again.text("dead_by") != deadBy {
		t.Errorf("again: %s", again.body)
	}
	for what, got := range map[string]reply{
		"an account": h.want(200, me, patch, h.in("/service-accounts/first"), object{"enabled": false}),
		"a member":   h.want(204, me, remove, h.in("/members/"+string(h.person("ada", workspace.Viewer, false).user)), nil),
		"tokens":     h.want(200, me, post, h.in("/keys/"+string(h.account("robot", manage.NewServiceAccount{Role: "viewer"}).key)+"/rotate"), object{"revoke_tokens": true}),
	} {
		if seq := got.header.Get("Revocation-Sequence"); seq == "" || got.header.Get("Revocation-Dead-By") == "" {
			t.Errorf("%s: the header is %v", what, got.header)
		} else {
			h.want(200, me, get, "/revocations/"+seq, nil)
		}
	}
	for what, got := range map[string]reply{
		"reading": h.want(200, me, get, h.in("/keys"), nil),
		"a name":  h.want(200, me, patch, h.in("/service-accounts/first"), object{"description": "x"}),
	} {
		if got.header.Get("Revocation-Sequence") != "" {
			t.Errorf("%s denies %s", what, got.header.Get("Revocation-Sequence"))
		}
	}
	// So long ago that the entry is pruned.
	third := h.revoked("third")
	h.exec(`DELETE FROM revocations WHERE seq = ?`, third.number("sequence"))
	if got := h.want(200, me, post, h.in("/keys/"+third.text("client_id")+"/revoke"), nil); got.object["sequence"] != nil || got.object["dead_by"] != nil {
		t.Errorf("pruned: %s", got.body)
	}
	h.want(404, me, get, path("/revocations/%d", third.number("sequence")), nil)
}

// While a replica does not confirm, 202 says by when it is in force, and a retry gets
// the same number.
func TestRevocationThatIsNotConfirmed(t *testing.T) {
	on(t, func(h *house) {
		me := h.owner.secret
		h.exec(`INSERT INTO replicas (id, host, renewals, acked_seq, renewed_at) VALUES ('silent', 'elsewhere', 1, 0, 0)`)
		impatient := func(r *http.Request) {
			ctx, cancel := context.WithTimeout(h.Context(), 500*time.Millisecond)
			h.Cleanup(cancel)
			*r = *r.WithContext(ctx)
		}
		issued := must(h.CreateAccountWithKey(h.Context(), operator, h.ws.ID, manage.NewServiceAccount{Name: "ci", Role: "viewer"}, manage.NewKey{Name: "ci"}))
		at := h.in("/keys/" + string(issued.ID))
		first := h.want(202, me, post, at+"/revoke", nil, impatient)
		again := h.want(202, me, post, at+"/revoke", nil, impatient)
		gone := h.want(202, me, remove, at, nil, impatient)
		by := must(time.Parse(time.RFC3339, first.text("exchange_effective_by")))
		if by.Before(time.Now()) || by.Nanosecond() != 0 || first.header.Get("Revocation-Effective-By") != first.text("exchange_effective_by") {
			h.Errorf("in force by %v: %s, %v", by, first.body, first.header)
		}
		if again.number("sequence") != first.number("sequence") || again.text("dead_by") != first.text("dead_by") {
			h.Errorf("again: %s, first: %s", again.body, first.body)
		}
		if gone.header.Get("Revocation-Sequence") != first.header.Get("Revocation-Sequence") || gone.header.Get("Revocation-Effective-By") == "" {
			h.Errorf("deleted: %v", gone.header)
		}
	})
}

// Who may report, list and read receipts.
func TestRightsOverVerifiers(t *testing.T) { on(t, rightsOverVerifiers) }

func rightsOverVerifiers(h *house) {
	t := h.TB
	other := must(h.CreateWorkspace(t.Context(), operator, "Other", ""))
	some := oauth.NewScope("collectors:read")
	ours := path("/revocations/%d", h.revoked("ours").number("sequence"))
	h.check(h.SuspendWorkspace(t.Context(), operator, other.ID))
	theirs := path("/revocations/%d", h.newest().Sequence)
	h.check(h.ResumeWorkspace(t.Context(), operator, other.ID))
	h.check(h.Database.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
		_, err := revocation.Append(ctx, tx, revocation.Entry{Kind: oauth.RevocableSigningKey, SubjectID: "kid", At: workspace.At(h.clock())})
		return err
	}))
	installation := path("/revocations/%d", h.newest().Sequence)
	position := object{"epoch": 1, "sequence": 1}
	account := func(name string, scopes ...string) string {
		return h.account(name, manage.NewServiceAccount{Scopes: oauth.NewScope(scopes...)}).secret
	}
	const mine, all, of = "/verifiers", "/verifiers?workspace=*", "/verifiers?workspace="
	for who, c := range map[string]struct {
		secret                                   string
		report, list, listOther, listAll         int
		readOurs, readTheirs, readOfInstallation int
	}{
		"a viewer":                    {h.person("viewer", workspace.Viewer, false).secret, 403, 200, 404, 403, 200, 404, 404},
		"a manager":                   {h.person("manager", workspace.Manager, false).secret, 200, 200, 404, 403, 200, 404, 404},
		"an owner":                    {h.person("plain-owner", workspace.Owner, false).secret, 200, 200, 404, 403, 200, 404, 404},
		"an admin":                    {h.owner.secret, 200, 200, 200, 200, 200, 200, 200},
		"an admin with a little key":  {h.personIn(h.ws.ID, "little", workspace.Owner, true, &some).secret, 403, 403, 404, 403, 403, 404, 404},
		"an account that reports":     {account("reports", "tokens:report"), 200, 403, 404, 403, 403, 404, 404},
		"an account that reads":       {account("reads", "tokens:read"), 403, 200, 404, 403, 200, 404, 404},
		"an account without either":   {account("neither", "collectors:read"), 403, 403, 404, 403, 403, 404, 404},
		"an owner of another":         {h.personIn(other.ID, "stranger", workspace.Owner, false, nil).secret, 200, 200, 404, 403, 404, 200, 404},
		"nobody":                      {"", 401, 401, 401, 401, 401, 401, 401},
		"a token for another service": {h.token(h.owner.secret, apiURL), 401, 401, 401, 401, 401, 401, 401},
	} {
		elsewhere := other.Slug
		if who == "an owner of another" {
			elsewhere = h.ws.Slug
		}
		for _, step := range []struct {
			want         int
			method, path string
			body         any
		}{
			{c.report, post, "/verifiers/x", position},
			{c.list, get, mine, nil},
			{c.listOther, get, of + elsewhere, nil},
			{404, get, of + "nowhere", nil},
			{c.listAll, get, all, nil},
			{c.readOurs, get, ours, nil},
			{c.readTheirs, get, theirs, nil},
			{c.readOfInstallation, get, installation, nil},
			{404, get, "/revocations/999999", nil},
		} {
			if c.report == 401 {
				step.want = 401
			}
			if got := h.call(c.secret, step.method, step.path, step.body); got.status != step.want {
				t.Errorf("%s: %s %s answers %d, want %d: %s", who, step.method, step.path, got.status, step.want, got.body)
			}
		}
	}
	names := func(path string) (found []string) {
		for _, v := range h.want(200, h.owner.secret, get, path, nil).data() {
			found = append(found, fmt.Sprint(v["workspace_id"], v["name"]))
		}
		return found
	}
	if got := names(mine); len(got) != 1 || got[0] != string(h.ws.ID)+"x" {
		t.Errorf("ours: %v", got)
	}
	if got := names(of + other.Slug); len(got) != 1 || got[0] != string(other.ID)+"x" {
		t.Errorf("theirs: %v", got)
	}
	if got := names(all); len(got) != 2 {
		t.Errorf("all: %v", got)
	}
	h.check(h.DeleteWorkspace(t.Context(), operator, other.ID))
	h.want(200, h.owner.secret, get, theirs, nil) // what became of it is of interest still
}

// What cannot be is refused with what would be right, and changes nothing.
func TestReportsThatCannotBe(t *testing.T) { on(t, reportsThatCannotBe) }

func reportsThatCannotBe(h *house) {
	t := h.TB
	h.revoked("a")
	at, me := h.newest(), h.owner.secret
	newest := fmt.Sprintf("the newest is %d of epoch %d", at.Sequence, at.Epoch)
	for _, c := range []struct {
		name   string
		body   any
		status int
		says   string
	}{
		{"x", object{"epoch": at.Epoch, "sequence": at.Sequence + 1}, 422, newest},
		{"x", object{"epoch": at.Epoch + 1, "sequence": 0}, 422, newest},
		{"x", object{"epoch": at.Epoch}, 422, "sequence is missing"},
		{"x", object{"sequence": 1}, 422, "epoch is missing"},
		{"x", object{"epoch": nil, "sequence": 1}, 422, "epoch is missing"},
		{"x", object{}, 422, "epoch is missing; sequence is missing"},
		{"x", object{"epoch": -1, "sequence": 1}, 422, "epoch has to be 0 or more"},
		{"x", object{"epoch": 1, "sequence": -1}, 422, "sequence has to be 0 or more"},
		{"x", object{"epoch": 1, "sequence": "1"}, 422, "sequence has to be a whole number"},
		{"x", object{"epoch": 1, "sequence": 1, "seq": 1}, 422, "seq is not known here"},
		{"X", object{"epoch": 1, "sequence": 1}, 422, "use 1 to 63 of a-z"},
		{strings.Repeat("x", 64), object{"epoch": 1, "sequence": 1}, 422, "use 1 to 63 of a-z"},
		{"x", nil, 400, "body is missing"},
	} {
		got := h.want(c.status, me, post, "/verifiers/"+c.name, c.body)
		if !strings.Contains(got.text("detail"), c.says) {
			t.Errorf("%s %v: %s, want %q", c.name, c.body, got.text("detail"), c.says)
		}
	}
	if list := h.want(200, me, get, "/verifiers", nil).data(); len(list) != 0 {
		t.Errorf("there are %v", list)
	}
	for _, sequence := range []string{"0", "-1", "01", "x", "1e3", "9223372036854775808"} {
		if got := h.call(me, get, "/revocations/"+sequence, nil); got.status != 404 {
			t.Errorf("%s: %d %s", sequence, got.status, got.body)
		}
	}
	for _, wait := range []string{"26", "-1", "1.5", "x", ""} {
		if got := h.call(me, get, path("/revocations/%d?wait=%s", at.Sequence, wait), nil); got.status != 400 {
			t.Errorf("wait=%s: %d %s", wait, got.status, got.body)
		}
	}
}

// The newest report counts, also one that goes back; one that says nothing new is not
// written, and none waits for replicas, takes the lock of changes or is in the log.
func TestReportsAreLight(t *testing.T) { on(t, reportsAreLight) }

func reportsAreLight(h *house) {
	t := h.TB
	h.revoked("a")
	h.revoked("b")
	robot := h.account("robot", manage.NewServiceAccount{Scopes: oauth.NewScope("tokens:report", "tokens:read")}).secret
	events := len(h.want(200, h.owner.secret, get, h.in("/audit-events?limit=200&action=*"), nil).data())
	changes := func() (n int64) {
		h.check(sqlx.GetContext(t.Context(), h.Database.Reader(), &n, `SELECT count(*) FROM changes`))
		return n
	}
	before := changes()
	h.exec(`INSERT INTO replicas (id, host, renewals, acked_seq, renewed_at) VALUES ('silent', 'elsewhere', 1, 0, 0)`)
	first := h.report(robot, "api", 2)
	if first.object["went_back"] != false || first.number("behind") != 0 || first.text("reported_at") != h.clock().Format(time.RFC3339) {
		t.Errorf("first: %s", first.body)
	}
	h.pass(9 * time.Second)
	if same := h.report(robot, "api", 2); same.text("reported_at") != first.text("reported_at") {
		t.Errorf("the same after 9 s: %s", same.body)
	}
	h.pass(time.Second)
	if same := h.report(robot, "api", 2); same.text("reported_at") != h.clock().Format(time.RFC3339) {
		t.Errorf("the same after 10 s: %s", same.body)
	}
	back := h.report(robot, "api", 1)
	if back.object["went_back"] != true || back.number("behind") != 1 {
		t.Errorf("back: %s", back.body)
	}
	listed := h.want(200, robot, get, "/verifiers", nil).data()
	if len(listed) != 1 || listed[0]["sequence"] != 1.0 || listed[0]["behind"] != 1.0 || listed[0]["silent"] != false {
		t.Errorf("listed: %v", listed)
	}
	h.exec(`DELETE FROM replicas WHERE id = 'silent'`)
	if n := changes(); n != before {
		t.Errorf("%d changes were logged", n-before)
	}
	if n := len(h.want(200, h.owner.secret, get, h.in("/audit-events?limit=200&action=*"), nil).data()); n != events {
		t.Errorf("%d events were logged", n-events)
	}
	h.check(h.Database.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
		_, err := revocation.NextEpoch(ctx, tx, 1, workspace.At(h.clock()))
		return err
	}))
	if listed := h.want(200, robot, get, "/verifiers", nil).data(); listed[0]["behind"] != nil {
		t.Errorf("in a new epoch: %v", listed)
	}
	h.want(200, robot, post, "/verifiers/api", object{"epoch": 1, "sequence": 99}) // of an epoch that is over: nobody knows how far it went
}

// A workspace has 200 verifiers, also when they come at once.
func TestTooManyVerifiers(t *testing.T) { on(t, tooManyVerifiers) }

func tooManyVerifiers(h *house) {
	t := h.TB
	for i := range revocation.MaxVerifiers - 3 {
		h.exec(`INSERT INTO verifiers (workspace_id, name, key_id, epoch, seq, reported_at) VALUES (?, ?, 'tbk_1', 1, 0, ?)`, h.ws.ID, fmt.Sprint("v", i), workspace.At(h.clock()))
	}
	var kept, refused atomic.Int64
	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			switch got := h.call(h.owner.secret, post, path("/verifiers/n%d", i), object{"epoch": 1, "sequence": 0}); {
			case got.status == 200:
				kept.Add(1)
			case got.status == 409 && got.code() == "limit_reached" && strings.HasPrefix(got.text("detail"), "The workspace has 200 verifiers"):
				refused.Add(1)
			default:
				t.Errorf("%d %s", got.status, got.body)
			}
		})
	}
	running.Wait()
	if kept.Load() != 3 || refused.Load() != 5 {
		t.Errorf("%d are kept and %d refused, want 3 and 5", kept.Load(), refused.Load())
	}
	h.report(h.owner.secret, "v7", 0)
	h.pass(revocation.VerifierMemory - time.Hour)
	h.report(h.owner.secret, "v8", 0)
	h.want(409, h.owner.secret, post, "/verifiers/late", object{"epoch": 1, "sequence": 0})
	h.pass(2 * time.Hour)
	h.report(h.owner.secret, "late", 0)
	if list := h.want(200, h.owner.secret, get, "/verifiers?limit=1", nil); len(list.data()) != 1 || list.data()[0]["name"] != "late" || list.header.Get("Link") == "" {
		t.Errorf("left are %s", list.body)
	} else if next := h.want(200, h.owner.secret, get, "/verifiers?limit=1&cursor="+list.text("next_cursor"), nil).data(); len(next) != 1 || next[0]["name"] != "v8" {
		t.Errorf("then %v", next)
	}
}

// A receipt says until when some verifier may take a token, and waits for those who
// report.
func TestReceiptOfARevocation(t *testing.T) { on(t, receiptOfARevocation) }

func receiptOfARevocation(h *house) {
	t := h.TB
	other := must(h.CreateWorkspace(t.Context(), operator, "Other", ""))
	stranger := h.personIn(other.ID, "stranger", workspace.Owner, false, nil).secret
	revoked := h.revoked("leaked")
	seq := revoked.number("sequence")
	viewer := h.person("viewer", workspace.Viewer, false).secret
	receipt := func(query string) reply { return h.want(200, viewer, get, path("/revocations/%d%s", seq, query), nil) }
	unknown := receipt("?wait=25") // nobody is known who could be waited for
	if unknown.text("accepts_until") != revoked.text("dead_by") || unknown.text("kind") != "key" || unknown.text("subject") != revoked.text("client_id") ||
		unknown.text("cause") != "revoked" || unknown.text("workspace_id") != string(h.ws.ID) || unknown.text("at") != revoked.text("revoked_at") || len(unknown.object["verifiers"].([]any)) != 0 {
		t.Errorf("nobody is known: %s", unknown.body)
	}
	h.report(h.owner.secret, "billing", seq-1)
	h.report(stranger, "shared", seq-1)
	behind := receipt("")
	item := behind.object["verifiers"].([]any)[0].(object)
	if item["caught_up"] != false || item["accepts_until"] != revoked.text("dead_by") || behind.number("behind") != 1 || behind.object["others"].(object)["behind"] != 1.0 || strings.Contains(string(behind.body), "shared") {
		t.Errorf("behind: %s", behind.body)
	}
	began := time.Now()
	if waited := receipt("?wait=1"); waited.number("behind") != 1 || time.Since(began) < time.Second {
		t.Errorf("it waited %s: %s", time.Since(began), waited.body)
	}
	began = time.Now()
	done := make(chan reply)
	go func() { done <- receipt("?wait=25") }()
	h.report(h.owner.secret, "billing", seq)
	h.report(stranger, "shared", seq)
	caught := <-done
	item = caught.object["verifiers"].([]any)[0].(object)
	if item["caught_up"] != true || item["accepts_until"] != nil || caught.object["accepts_until"] != nil || caught.number("caught_up") != 1 || time.Since(began) > 20*time.Second {
		t.Errorf("caught up after %s: %s", time.Since(began), caught.body)
	}
	// Those who have said nothing for long are not waited for, and not trusted.
	h.report(h.owner.secret, "billing", 0)
	h.pass(revocation.Silence + time.Second)
	began = time.Now()
	if silent := receipt("?wait=25"); silent.number("silent") != 1 || silent.text("accepts_until") != revoked.text("dead_by") || time.Since(began) > 20*time.Second {
		t.Errorf("silent: %s", silent.body)
	}
}

// A server that shuts down answers those who wait.
func TestWaitingEndsWithTheServer(t *testing.T) {
	on(t, func(h *house) {
		seq := h.revoked("leaked").number("sequence")
		h.report(h.owner.secret, "billing", 0)
		began := time.Now()
		h.draining.Store(true)
		if got := h.want(200, h.owner.secret, get, path("/revocations/%d?wait=25", seq), nil); got.number("behind") != 1 || time.Since(began) > 20*time.Second {
			h.Errorf("after %s: %s", time.Since(began), got.body)
		}
	})
}
