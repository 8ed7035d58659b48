package console_test

import (
	"context"
	"encoding/csv"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

const (
	day    = 24 * time.Hour
	markup = `<script>alert(1)</script>"'&`
)

// rowLinks are the links that head the rows of a table of keys.
var rowLinks = regexp.MustCompile(`<th scope="row"><a href="([^"]*)">([^<]*)</a>`)

// rows are the names of the keys that a page lists, in its order.
func (a answer) rows() (names []string) {
	for _, link := range rowLinks.FindAllStringSubmatch(a.body, -1) {
		names = append(names, link[2])
	}
	return names
}

func (a answer) wantRows(t *testing.T, names ...string) answer {
	t.Helper()
	if got := a.rows(); !slices.Equal(got, names) {
		t.Errorf("the page lists %q, want %q", got, names)
	}
	return a
}

// used notes that a key was used.
func (s *site) used(issued manage.Issued, at time.Time) {
	s.t.Helper()
	_, err := s.db.Writer().ExecContext(s.t.Context(), `UPDATE key_secrets SET last_used_at = ?, last_used_address = '203.0.113.9', last_used_agent = 'curl/8.5'
		WHERE key_id = ?`, workspace.At(at), issued.ID)
	fatal(s.t, err)
}

// exchanged records exchanges of a key.
func (s *site) exchanged(issued manage.Issued, at time.Time, outcome string, n int64) {
	s.t.Helper()
	writer := audit.NewWriter(s.db, audit.WriterOptions{})
	action := audit.TokenRefuse
	if outcome == "issued" {
		action = audit.TokenIssue
	}
	fatal(s.t, writer.Record(s.t.Context(), audit.Exchange{
		At: workspace.At(at), WorkspaceID: issued.WorkspaceID, KeyID: string(issued.ID), OwnerID: issued.OwnerID(), Action: action, Outcome: outcome, Detail: "{}", Count: n,
	}))
	fatal(s.t, writer.Flush(s.t.Context()))
}

func (s *site) list() string { return "/w/" + s.ws.Slug + "/keys" }

func TestKeyList(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	now := s.now()
	busy := s.key(s.ws, "busy", manage.NewKey{Description: "Deploys"}, "collectors:read", "collectors:create", "pipelines:read")
	s.used(busy, now.Add(-3*time.Hour))
	s.key(s.ws, "ends-soon", manage.NewKey{ExpiresAt: now.Add(2 * day)})
	s.key(s.ws, "ends-later", manage.NewKey{ExpiresAt: now.Add(10 * day)}, "collectors:read", "collectors:create", "collectors:update", "collectors:delete", "pipelines:read", "pipelines:create", "pipelines:update", "pipelines:delete")
	gone := s.key(s.ws, "gone", manage.NewKey{})
	fatal(t, s.manager.RevokeKey(t.Context(), s.operator, s.ws.ID, gone.ID, ""))

	v := s.as(s.owner)
	v.get(s.list()).want(t, http.StatusOK,
		`<span class="pill danger">About to expire</span>`, `<span class="pill warn">Expiring soon</span>`, `class="danger-text"`, `class="warn-text"`, `in 2 days`, `in 10 days`,
		`Custom (3)`, `Read-only`, `Full`, `<li class="tag">pipelines:read</li>`, "3 hours ago", "from 203.0.113.9, curl/8.5", "Never used", string(busy.ID), "Deploys",
		`Active <span class="n">3</span>`, `Expiring within 14 days <span class="n">2</span>`, `Never used <span class="n">2</span>`, `Revoked <span class="n">1</span>`, `All <span class="n">4</span>`,
		"Show inactive (1)", "1–3 of 3 keys", "Operator (test)", "data-new",
	).wantRows(t, "ends-soon", "ends-later", "busy")
	for query, names := range map[string][]string{
		"?status=all":                 {"ends-soon", "ends-later", "busy", "gone"},
		"?status=revoked":             {"gone"},
		"?status=never-used":          {"ends-soon", "ends-later"},
		"?status=nonsense&sort=%00":   {"ends-soon", "ends-later", "busy"},
		"?sort=name":                  {"busy", "ends-later", "ends-soon"},
		"?sort=-name":                 {"ends-soon", "ends-later", "busy"},
		"?sort=expires":               {"ends-soon", "ends-later", "busy"},
		"?sort=used&status=all&q=e":   {"busy", "gone", "ends-later", "ends-soon"},
		"?q=DEPLOY":                   {"busy"},
		"?q=" + string(busy.ID)[10:]:  {"busy"},
		"?owner=" + busy.OwnerID():    {"busy"},
		"?page=99999999999999999999":  {"ends-soon", "ends-later", "busy"},
		"?page=7":                     {"ends-soon", "ends-later", "busy"},
		"?q=%ff%00busy&owner=%0a":     {"busy"},
		"?status=all&owner=sa_nobody": nil,
	} {
		v.get(s.list()+query).want(t, http.StatusOK).wantRows(t, names...)
	}
	v.get(s.list()+"?sort=-used").want(t, http.StatusOK, `aria-sort="ascending"`, "Sort by need of attention")
	v.get(s.list()+"?sort=created").want(t, http.StatusOK, `aria-sort="descending"`, `href="`+s.list()+`?sort=-created"`)
}

// Everything that people name is shown as text.
func TestKeyListShowsMarkupAsText(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	account, err := s.manager.CreateServiceAccount(t.Context(), s.operator, s.ws.ID, manage.NewServiceAccount{Name: "ci", Role: "viewer"})
	fatal(t, err)
	issued, err := s.manager.CreateKey(t.Context(), s.operator, s.ws.ID, manage.NewKey{ServiceAccountID: account.ID, Name: markup, Description: markup})
	fatal(t, err)
	_, err = s.db.Writer().ExecContext(t.Context(), `UPDATE key_secrets SET last_used_at = ?, last_used_agent = ?`, workspace.At(s.now()), markup)
	fatal(t, err)
	_, err = s.db.Writer().ExecContext(t.Context(), `UPDATE users SET name = ? WHERE id = ?`, markup, s.owner.ID)
	fatal(t, err)
	_, err = s.db.Writer().ExecContext(t.Context(), `UPDATE keys SET created_by = ?`, "user:"+string(s.owner.ID))
	fatal(t, err)
	viewer := s.user("viewer@example.com", false)
	s.join(s.ws, viewer, workspace.Viewer)
	v := s.as(s.owner)
	const text = "&lt;script&gt;alert(1)"
	for _, a := range []answer{
		v.get(s.list()), s.as(viewer).get(s.list()), v.get(s.list() + "?q=" + url.QueryEscape(markup)), v.get(s.list() + "?q=" + url.QueryEscape(markup+"x")), v.get("/w/" + s.ws.Slug),
		v.post(s.list()+"/revoke", url.Values{"key": {string(issued.ID)}, "reason": {markup}, "list": {"q=" + url.QueryEscape(markup)}}),
	} {
		a.want(t, http.StatusOK).without(t, "<script>")
	}
	v.get(s.list()).want(t, http.StatusOK, text)
}

// The list leads viewers to everything that they may see, and offers nothing that
// they may not do.
func TestKeyListOfViewers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	issued := s.key(s.ws, "busy", manage.NewKey{})
	viewer, outsider := s.user("viewer@example.com", false), s.user("outsider@example.com", false)
	s.join(s.ws, viewer, workspace.Viewer)
	v := s.as(viewer)
	v.get(s.list()).want(t, http.StatusOK, s.list()+"/"+string(issued.ID)).wantRows(t, "busy").without(t, "Create key", `type="checkbox"`, "Revoke ticked")
	v.get(s.list()+".csv").want(t, http.StatusOK, "busy")
	v.post(s.list()+"/revoke", url.Values{"key": {string(issued.ID)}}).want(t, http.StatusForbidden)
	v.post(s.list()+"/revoke/confirmed", url.Values{"key": {string(issued.ID)}}).want(t, http.StatusOK, "Not revoked", "0 keys revoked")
	o := s.as(outsider)
	for _, path := range []string{"", ".csv", "?q=busy"} {
		o.get(s.list()+path).want(t, http.StatusNotFound).without(t, "busy")
	}
	o.post(s.list()+"/revoke", url.Values{"key": {string(issued.ID)}}).want(t, http.StatusNotFound)
	o.post(s.list()+"/revoke/confirmed", url.Values{"key": {string(issued.ID)}}).want(t, http.StatusNotFound)
	if k, err := s.manager.Key(t.Context(), s.operator, s.ws.ID, issued.ID); err != nil || !k.RevokedAt.IsZero() {
		t.Errorf("the key is revoked at %v, %v", k.RevokedAt, err)
	}
}

func TestEmptyKeyLists(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	viewer := s.user("viewer@example.com", false)
	s.join(s.ws, viewer, workspace.Viewer)
	v := s.as(s.owner)
	for _, path := range []string{s.list(), "/w/" + s.ws.Slug} {
		v.get(path).want(t, http.StatusOK, "Create your first key", "tokenbooth keys create", s.list()+"/new").without(t, "<table")
		s.as(viewer).get(path).want(t, http.StatusOK, "There are no keys yet", "Ask an owner or manager").without(t, "Create key", "<table")
	}
	for i := range 4 {
		issued := s.key(s.ws, fmt.Sprint("old-", i), manage.NewKey{})
		fatal(t, s.manager.RevokeKey(t.Context(), s.operator, s.ws.ID, issued.ID, ""))
	}
	v.get(s.list()+"?q=old").want(t, http.StatusOK, "No key matches “old”: 4 inactive keys are hidden", `href="`+s.list()+`?q=old&amp;status=all"`).without(t, "<table")
	v.get(s.list()+"?q=old&status=all").wantRows(t, "old-3", "old-2", "old-1", "old-0")
	v.get(s.list()+"?q=old&status=expired").want(t, http.StatusOK, "No key matches “old”: 4 keys of another status are hidden", "Show all that match")
	v.get(s.list()+"?q=old-1").want(t, http.StatusOK, "1 inactive key is hidden")
	v.get(s.list()+"?q=new").want(t, http.StatusOK, "No key matches “new”", "Clear search").without(t, "hidden</h2>")
	v.get(s.list()).want(t, http.StatusOK, "No key has this status", `href="`+s.list()+`?status=all"`).without(t, "Create your first key")
}

// The pages of ten thousand keys lead on to one another, and cost no more statements
// than one with a single key.
func TestTenThousandKeysInPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	account := s.key(s.ws, "first", manage.NewKey{})
	v := s.as(s.owner)
	before := s.db.Queries()
	v.get(s.list())
	few := s.db.Queries() - before
	fatal(t, s.db.InTx(t.Context(), func(ctx context.Context, tx sqlx.ExtContext) error {
		for i := range 9_999 {
			key := keys.Key{
				ID: s.manager.Format.NewID(), WorkspaceID: s.ws.ID, ServiceAccountID: account.ServiceAccountID, Name: fmt.Sprintf("key-%04d", i), Generation: 1,
				CreatedAt: workspace.At(s.now()), CreatedBy: "operator:test", UpdatedAt: workspace.At(s.now()),
			}
			if err := keys.Insert(ctx, tx, key); err != nil {
				return err
			}
		}
		return nil
	}))
	before = s.db.Queries()
	a := v.get(s.list()+"?sort=name").want(t, http.StatusOK, "1–50 of 10,000 keys", "Next page").without(t, "Previous page")
	if n := s.db.Queries() - before; n > few {
		t.Errorf("%d statements for a page, and %d for one with a single key", n, few)
	}
	if n := len(a.rows()); n != 50 {
		t.Errorf("%d rows", n)
	}
	v.get(s.list()+"?sort=name&page=2").want(t, http.StatusOK, "51–100 of 10,000 keys", "Next page", "Previous page", "key-0049")
	for _, page := range []string{"200", "201", "999999"} {
		v.get(s.list()+"?sort=name&page="+page).want(t, http.StatusOK, "9,951–10,000 of 10,000 keys", `page=199&amp;sort=name" rel="prev"`).without(t, "Next page")
	}
	v.get(s.list()+"?q=key-99").want(t, http.StatusOK, "1–50 of 99 keys")
	rows, err := csv.NewReader(strings.NewReader(v.get(s.list() + ".csv").body)).ReadAll()
	if err != nil || len(rows) != 10_001 {
		t.Errorf("the export has %d rows, %v", len(rows), err)
	}
}
