package console_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

func TestPersonalKeys(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	viewer := s.user("vera@example.com", false)
	s.join(s.ws, viewer, workspace.Viewer)
	v, list := s.as(viewer), "/w/"+s.ws.Slug+"/my-keys"
	v.get(list).want(t, http.StatusOK, "You have no personal key here", list+"/new")
	shown := v.get(list+"/new").want(t, http.StatusOK, "Create personal key", "All that you may do", "Management rights", `value="collectors:create" disabled`, "you do not hold this").
		without(t, `name="service_account"`)
	form := keyForm(t, shown, url.Values{"name": {hostile}, "permissions": {"held"}})
	made := v.post(list+"/new", form).want(t, http.StatusOK, "Your personal key is ready").without(t, "<script>alert")
	secret := made.found(t, secretIn)
	if secret[:4] != "tbp_" {
		t.Errorf("the secret begins with %s", secret[:4])
	}
	v.post(list+"/new", form).want(t, http.StatusOK, "This key exists").without(t, secret)
	found := s.allKeys(keys.Filter{User: true})
	if len(found) != 1 || found[0].UserID != viewer.ID || found[0].Scopes != nil {
		t.Fatalf("made %+v", found)
	}
	page := "/w/" + s.ws.Slug + "/keys/" + string(found[0].ID)
	v.get(list).want(t, http.StatusOK, "&lt;script&gt;", page, "Active", "All of yours").without(t, secret, "<script>alert")
	s.as(s.owner).get(list).want(t, http.StatusOK, "You have no personal key here").without(t, page)

	fatal(t, s.manager.RevokeKey(t.Context(), manage.User(viewer.ID), s.ws.ID, found[0].ID, ""))
	v.get(list).want(t, http.StatusOK, "Show inactive (1)").without(t, page)
	v.get(list+"?inactive=yes").want(t, http.StatusOK, page, "Revoked")
}

// A personal key gives nobody more than they hold.
func TestAPersonalKeyWidensNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	viewer, outsider := s.user("vera@example.com", false), s.user("otto@example.com", false)
	s.join(s.ws, viewer, workspace.Viewer)
	path := "/w/" + s.ws.Slug + "/my-keys/new"
	v := s.as(viewer)
	v.post(path, keyForm(t, v.get(path), nil)).want(t, http.StatusForbidden, `value="gitlab-ci-deploy"`)
	s.as(outsider).get(path).want(t, http.StatusNotFound)
	s.as(outsider).post(path, keyForm(t, v.get(path), nil)).want(t, http.StatusNotFound)
	elsewhere := s.workspace("Other", viewer, workspace.Manager)
	s.as(s.owner).get("/w/"+elsewhere.Slug+"/my-keys/new").want(t, http.StatusForbidden) // an organization admin who is no member
	if n := len(s.allKeys(keys.Filter{})); n != 0 {
		t.Errorf("%d keys were made", n)
	}
}
