package console_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func TestOverview(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	old := s.key(s.ws, "old", manage.NewKey{})
	s.later(100 * day)
	soon := s.key(s.ws, "soon", manage.NewKey{ExpiresAt: s.now().Add(10 * day)})
	turning := s.key(s.ws, "turning", manage.NewKey{})
	_, err := s.manager.RotateKey(t.Context(), s.operator, s.ws.ID, turning.ID, manage.Rotation{Grace: 5 * time.Hour})
	fatal(t, err)
	s.exchanged(old, s.now().Add(-20*time.Hour), "issued", 960)
	s.exchanged(old, s.now().Add(-30*time.Hour), "wrong_credentials", 40)
	s.exchanged(old, s.now().Add(-8*day), "issued", 5_000)
	viewer, outsider := s.user("viewer@example.com", false), s.user("outsider@example.com", false)
	s.join(s.ws, viewer, workspace.Viewer)

	home := "/w/" + s.ws.Slug
	for _, v := range []*visitor{s.as(s.owner), s.as(viewer)} {
		v.get(home).want(t, http.StatusOK,
			`href="`+s.list()+`"><strong>3</strong> <span>keys active`, `?status=expiring"><strong>1</strong> <span>key expiring within 14 days`, `?status=unused"><strong>1</strong> <span>key unused for 90 days`,
			"1,000 exchanges", "4% refused", `<svg class="chart spark" role="img"><title>`, "Being rotated", "turning", "in 5 hours", "in 10 days",
		).wantRows(t, "soon")
	}
	s.as(s.owner).get(home).want(t, http.StatusOK, s.list()+"/"+string(soon.ID)+"/rotate", "Create key")
	s.as(viewer).get(home).want(t, http.StatusOK).without(t, "/rotate", "Create key")
	s.as(outsider).get(home).want(t, http.StatusNotFound).without(t, "turning")
	s.as(s.user("admin@example.com", true)).get(home).want(t, http.StatusOK, "You are not a member").without(t, "turning", "Create key")
	s.later(9 * day)
	s.as(s.owner).get(home).want(t, http.StatusOK, "No exchanges in this time").without(t, "Being rotated", "refused<")
}
