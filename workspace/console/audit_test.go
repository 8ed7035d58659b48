package console_test

import (
	"encoding/csv"
	"encoding/json"
	"html"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// exchanges records uses of a key.
func (s *site) exchanges(key manage.Issued, outcome string, n int) {
	s.t.Helper()
	e := audit.Exchange{
		At: workspace.At(s.now()), WorkspaceID: key.WorkspaceID, KeyID: string(key.ID), OwnerID: key.OwnerID(), Action: audit.TokenIssue,
		Outcome: outcome, Address: "192.0.2.7", Agent: hostile, RequestID: "req_7", Count: int64(n),
	}
	if outcome != "issued" {
		e.Action = audit.TokenRefuse
	}
	w := audit.NewWriter(s.db, audit.WriterOptions{})
	fatal(s.t, w.Record(s.t.Context(), e))
	fatal(s.t, w.Flush(s.t.Context()))
}

func TestAuditLog(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.key(s.ws, "gitlab-ci", manage.NewKey{})
	s.exchanges(key, "quota_exceeded", 37)
	user := s.user("bob@example.com", false)
	fatal(t, s.manager.AddMember(t.Context(), manage.User(s.owner.ID), s.ws.ID, user.ID, workspace.Viewer))
	_, err := s.manager.SetMemberRole(t.Context(), manage.User(s.owner.ID), s.ws.ID, user.ID, workspace.Manager)
	fatal(t, err)
	path := "/w/" + s.ws.Slug

	_, err = s.manager.CreateInvitation(t.Context(), manage.User(s.owner.ID), s.ws.ID, "invited@example.com", workspace.Viewer)
	fatal(t, err)
	a := s.as(s.owner).get(path+"/audit").want(t, http.StatusOK,
		`<td data-label="About">invited@example.com<span class="under">Invitation`, `<details class="card fold"><summary>Filter`,
		"Key created", "Operator", ">ada@example.com</a>", "bob@example.com", "×37", "Over quota", "192.0.2.7", "req_7",
		"<del>viewer</del> → <ins>manager</ins>", `href="`+path+"/keys/"+string(key.ID)+`"`, `href="`+path+"/service-accounts/"+key.OwnerID()+`"`,
		"&lt;script&gt;alert(1)&lt;/script&gt;", path+"/audit.csv").without(t, "<script>alert")
	if newest := strings.Index(a.body, "Role changed</span>"); newest < 0 || newest > strings.Index(a.body, "Key created</span>") {
		t.Error("the newest is not first")
	}
}

// Filters are in the address, and each narrows what is there.
func TestAuditFilters(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one, two := s.key(s.ws, "one", manage.NewKey{}), s.key(s.ws, "two", manage.NewKey{})
	s.exchanges(one, "issued", 1)
	s.exchanges(two, "expired", 1)
	_, err := s.manager.RenameWorkspace(t.Context(), manage.User(s.owner.ID), s.ws.ID, "Other name")
	fatal(t, err)
	today, yesterday := s.now().UTC().Format(time.DateOnly), s.now().UTC().Add(-24*time.Hour).Format(time.DateOnly)
	const issued, refused, created, renamed = "Token issued</span>", "Token refused</span>", "Key created</span>", "Workspace renamed</span>"
	every := []string{issued, refused, created, renamed}
	for query, found := range map[string][]string{
		"":                        every,
		"?since=" + today:         every,
		"?until=" + today:         every,
		"?until=" + yesterday:     {},
		"?action=token.*":         {issued, refused},
		"?action=key.create":      {created},
		"?outcome=expired":        {refused},
		"?actor=ada@example.com":  {renamed},
		"?actor=two":              {refused},
		"?actor=test":             {created}, // the operator
		"?service_account=one":    {issued, created},
		"?key=" + string(two.ID):  {refused, created},
		"?actor=nobody":           {},
		"?service_account=nobody": {},
	} {
		a := s.as(s.owner).get("/w/"+s.ws.Slug+"/audit"+query).want(t, http.StatusOK, found...)
		for _, text := range every {
			if wanted := strings.Contains(strings.Join(found, ""), text); !wanted {
				a.without(t, text)
			}
		}
		if len(found) == 0 {
			a.want(t, http.StatusOK, "Nothing matches", "Show everything")
		}
	}
}

// What cannot be a filter is shown again with the reason, and nothing else.
func TestAuditFilterMistakes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada := s.as(s.owner)
	for query, text := range map[string]string{
		"since=yesterday":                     "no date since 1970",
		"until=1969-12-31":                    "no date since 1970",
		"since=2027-01-02&until=2027-01-01":   "The last day is before the first",
		"action=everything":                   "no such action",
		"action=key":                          "no such action",
		"outcome=luck":                        "no such outcome",
		"key=tbk_none":                        "no key ID of this installation",
		"actor=a%40b%40c":                     "no e-mail address",
		"actor=" + strings.Repeat("x", 301):   "no name, address or ID",
		"service_account=a%00b":               "no name, address or ID",
		"after=forged":                        "does not lead to a page of this list",
		"key=" + "%3Cscript%3Ealert(1)%3C%2F": "&lt;script&gt;alert(1)&lt;/",
	} {
		path := "/w/" + s.ws.Slug + "/audit"
		ada.get(path+"?"+query).want(t, http.StatusUnprocessableEntity, text).without(t, "<table", "<script>alert")
		if strings.HasPrefix(query, "after") {
			continue
		}
		if to := ada.get(path + ".csv?" + query).location(t); !strings.HasPrefix(to, path+"?") {
			t.Errorf("an export of %s leads to %s", query, to)
		}
	}
}

func TestAuditPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for n := range 60 {
		_, err := s.manager.RenameWorkspace(t.Context(), s.operator, s.ws.ID, "Name "+strconv.Itoa(n))
		fatal(t, err)
	}
	older := regexp.MustCompile(`<a class="button" href="([^"]+)">Older</a>`)
	ada, entry := s.as(s.owner), regexp.MustCompile(`evt_\w+`)
	first := ada.get("/w/" + s.ws.Slug + "/audit?action=workspace.update")
	next := first.found(t, older)
	second := ada.get(next).want(t, http.StatusOK, ">Newest</a>").without(t, ">Older</a>")
	seen := map[string]bool{}
	for _, id := range append(entry.FindAllString(first.body, -1), entry.FindAllString(second.body, -1)...) {
		if seen[id] {
			t.Errorf("%s is on both pages", id)
		}
		seen[id] = true
	}
	if len(seen) != 60 {
		t.Errorf("%d entries on two pages, want 60", len(seen))
	}
	if !strings.Contains(next, "action=workspace.update") {
		t.Errorf("the next page is %s", next)
	}
}

func TestAuditExports(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.key(s.ws, "gitlab-ci", manage.NewKey{})
	s.exchanges(key, "issued", 3)
	_, err := s.manager.RenameWorkspace(t.Context(), s.operator.From(manage.Origin{Agent: "=cmd|' /C calc'!A0"}), s.ws.ID, `=HYPERLINK("x")`)
	fatal(t, err)
	ada, path := s.as(s.owner), "/w/"+s.ws.Slug+"/audit"

	a := ada.get(path+".csv").want(t, http.StatusOK)
	if d := a.header.Get("Content-Disposition"); !strings.Contains(d, "audit-"+s.ws.Slug+".csv") {
		t.Errorf("Content-Disposition: %s", d)
	}
	rows, err := csv.NewReader(strings.NewReader(a.body)).ReadAll()
	fatal(t, err)
	if !strings.Contains(a.body, `'=cmd`) {
		t.Errorf("a formula is not text: %s", a.body)
	}
	for _, row := range rows {
		for _, cell := range row {
			if cell != "" && strings.ContainsAny(cell[:1], "=+-@") {
				t.Errorf("%q would be a formula", cell)
			}
		}
	}

	a = ada.get(path+".jsonl?action=token.issue").want(t, http.StatusOK)
	var entry struct {
		Action   string
		ClientID string `json:"client_id"`
		Count    int64
		Detail   json.RawMessage
	}
	fatal(t, json.Unmarshal([]byte(a.body), &entry))
	if entry.Action != "token.issue" || entry.ClientID != string(key.ID) || entry.Count != 3 || string(entry.Detail) != "{}" {
		t.Errorf("exported %s", a.body)
	}
	if whole := ada.get(path + ".jsonl"); strings.Count(whole.body, "\n") != len(rows)-1 {
		t.Errorf("%d lines and %d rows", strings.Count(whole.body, "\n"), len(rows)-1)
	}
	if head := ada.send(http.MethodHead, path+".csv", nil, nil); head.status != http.StatusOK || head.body != "" {
		t.Errorf("HEAD: %d, %q", head.status, head.body)
	}
}

// An export goes on over several parts.
func TestLongAuditExport(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	key := s.key(s.ws, "gitlab-ci", manage.NewKey{})
	w := audit.NewWriter(s.db, audit.WriterOptions{})
	for range 2300 {
		fatal(t, w.Record(t.Context(), audit.Exchange{
			At: workspace.At(s.now()), WorkspaceID: s.ws.ID, KeyID: string(key.ID), OwnerID: key.OwnerID(), Action: audit.TokenIssue, Outcome: "issued",
		}))
	}
	fatal(t, w.Flush(t.Context()))
	lines := strings.Split(strings.TrimSpace(s.as(s.owner).get("/w/"+s.ws.Slug+"/audit.jsonl?outcome=issued").body), "\n")
	seen := map[string]bool{}
	for _, line := range lines {
		seen[line] = true
	}
	if len(lines) != 2300 || len(seen) != 2300 {
		t.Errorf("%d lines, %d of them different, want 2300", len(lines), len(seen))
	}
}

func TestAuditLogIsForMembers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	viewer, outsider, admin := s.user("viewer@example.com", false), s.user("outsider@example.com", false), s.user("admin@example.com", true)
	s.join(s.ws, viewer, workspace.Viewer)
	for _, ending := range []string{"", ".csv", ".jsonl"} {
		s.as(viewer).get("/w/"+s.ws.Slug+"/audit"+ending).want(t, http.StatusOK)
		s.as(outsider).get("/w/"+s.ws.Slug+"/audit"+ending).want(t, http.StatusNotFound)
		s.as(admin).get("/w/"+s.ws.Slug+"/audit"+ending).want(t, http.StatusNotFound)
		s.as(viewer).get("/organization/audit"+ending).want(t, http.StatusForbidden).without(t, "Filter", "user.create")
		s.as(admin).get("/organization/audit"+ending).want(t, http.StatusOK)
	}
	s.as(admin).get("/organization/audit").want(t, http.StatusOK, "Person created", "outsider@example.com", "Operator").without(t, "Member added</span>")
}

func TestEmptyAuditLog(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if _, err := s.db.Writer().ExecContext(t.Context(), `DELETE FROM audit_events`); err != nil {
		t.Fatal(err)
	}
	s.as(s.owner).get("/w/"+s.ws.Slug+"/audit").want(t, http.StatusOK, "Nothing has happened yet", "Create the first key").without(t, "Nothing matches", "Export")
	s.as(s.owner).get("/w/"+s.ws.Slug+"/audit?actor=x").want(t, http.StatusOK, "Nothing matches")
}

// Whatever is in an event is text.
func TestMarkupInAnAuditLog(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, err := s.manager.RenameWorkspace(t.Context(), manage.Operator(hostile).From(manage.Origin{Agent: hostile, RequestID: hostile}), s.ws.ID, hostile)
	fatal(t, err)
	scopes := oauth.NewScope("collectors:read")
	s.key(s.ws, "gitlab-ci", manage.NewKey{Description: hostile, Scopes: &scopes})
	a := s.as(s.owner).get("/w/"+s.ws.Slug+"/audit").want(t, http.StatusOK, html.EscapeString(hostile)).without(t, "<script>alert")
	if n := strings.Count(a.body, html.EscapeString(hostile)); n < 5 {
		t.Errorf("it is shown %d times", n)
	}
}

// Every action that the use cases record has words, and can be filtered by.
func TestEveryActionHasWords(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../manage/*.go")
	fatal(t, err)
	recorded := regexp.MustCompile(`\.(record|recordKeyEvent|recordKey)\("([a-z_]+(?:\.[a-z_]+)?)"`)
	before := map[string]string{"recordKeyEvent": "key.", "recordKey": "signing_key."}
	s, actions := newSite(t), map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // of this module
		fatal(t, err)
		for _, match := range recorded.FindAllStringSubmatch(string(text), -1) {
			actions[before[match[1]]+match[2]] = true
		}
	}
	if len(actions) < 30 {
		t.Fatalf("only %d actions were found", len(actions))
	}
	body := s.as(s.owner).get("/organization/audit").body + s.as(s.owner).get("/w/"+s.ws.Slug+"/audit").body
	for action := range actions {
		if !strings.Contains(body, `<option value="`+action+`">`) {
			t.Errorf("%s cannot be chosen", action)
		}
	}
}
