package console_test

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// reporter makes a key by which verifiers of a workspace report.
func (s *site) reporter(ws workspace.Workspace) manage.Caller {
	s.t.Helper()
	issued := s.key(ws, "reporter", manage.NewKey{Audiences: []string{s.url}}, "tokens:report")
	record, err := keys.Read(s.t.Context(), s.db.Reader(), issued.ID)
	fatal(s.t, err)
	return manage.Bearer(record.Key, nil)
}

func (s *site) report(by manage.Caller, name string, at oauth.Position) {
	s.t.Helper()
	_, err := s.manager.ReportVerifier(s.t.Context(), by, name, at)
	fatal(s.t, err)
}

// The page says of each verifier whether it follows, is behind, or is silent.
func TestVerifiers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada, path := s.as(s.owner), "/organization/verifiers"
	ada.get(path).want(t, http.StatusOK, "No service reports yet", "tokens:report", s.url+"/api/v1/verifiers/billing-api")
	key := s.key(s.ws, "ci", manage.NewKey{})
	fatal(t, s.manager.RevokeKey(t.Context(), s.operator, s.ws.ID, key.ID, ""))
	_, newest, err := s.manager.Verifiers(t.Context(), s.operator, "", revocation.Verifier{}, 1)
	fatal(t, err)
	by := s.reporter(s.ws)
	s.report(by, "follows-1", newest)
	s.report(by, "behind-1", oauth.Position{Epoch: newest.Epoch, Sequence: newest.Sequence - 1})
	s.report(by, "early-1", oauth.Position{Epoch: newest.Epoch - 1, Sequence: newest.Sequence})
	ada.get(path).want(t, http.StatusOK, "follows-1", "Follows</span>", "1 behind</span>", "In an earlier epoch</span>", ">Payments</a>").without(t, "Silent for")
	s.later(10 * time.Minute)
	s.as(s.owner).get(path).want(t, http.StatusOK, "Silent for 10 minutes").without(t, "Follows</span>", "1 behind</span>")
}

func TestForgetVerifier(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	other := s.workspace("Elsewhere", s.user("bob@example.com", false), workspace.Owner)
	for _, ws := range []workspace.Workspace{s.ws, other} {
		s.report(s.reporter(ws), "billing-api", oauth.Position{})
	}
	ada, path := s.as(s.owner), "/organization/verifiers/forget?"+url.Values{"workspace": {"elsewhere"}, "name": {"billing-api"}}.Encode()
	ada.get(path).want(t, http.StatusOK, "Forget billing-api of Elsewhere")
	left := func() (found []revocation.Verifier) {
		t.Helper()
		found, _, err := s.manager.Verifiers(t.Context(), s.operator, "", revocation.Verifier{}, 10)
		fatal(t, err)
		return found
	}
	if n := len(left()); n != 2 {
		t.Fatalf("%d verifiers after asking", n)
	}
	ada.post(path, nil).location(t)
	if found := left(); len(found) != 1 || found[0].WorkspaceID != s.ws.ID {
		t.Errorf("left: %v", found)
	}
	ada.post(path, nil).want(t, http.StatusNotFound)
	ada.get("/organization/verifiers/forget?workspace=payments&name=%0A").want(t, http.StatusNotFound)
}
