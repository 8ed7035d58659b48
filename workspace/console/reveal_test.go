package console_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// The snippets have the real address and key ID, and never the secret.
func TestSnippets(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.as(s.owner)
	made := v.post(s.keysNew(), keyForm(t, v.get(s.keysNew()), nil)).want(t, http.StatusOK, "curl", "GitHub Actions", "GitLab CI", "Terraform", "CLI",
		"${{ secrets.TOKENBOOTH_CLIENT_SECRET }}", "tokenbooth token get", "I have stored the secret")
	secret, id := made.found(t, secretIn), string(s.allKeys(keys.Filter{})[0].ID)
	_, after, _ := strings.Cut(made.body, `data-tabs="Tools"`)
	if strings.Contains(after, secret) || strings.Count(after, id) < 5 || strings.Count(after, s.url) < 5 {
		t.Errorf("the snippets are not about this key, or have its secret:\n%s", after)
	}
}

func TestTheSecretAsAFile(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.as(s.owner)
	k := s.key(s.ws, "runner", manage.NewKey{})
	secret := k.Secret.Reveal()
	form := url.Values{"client_id": {string(k.ID)}, "client_secret": {secret}, "name": {"Runner\"\r\nX: y"}}
	path := "/w/" + s.ws.Slug + "/keys/env"
	a := v.post(path, form).want(t, http.StatusOK, "TOKENBOOTH_URL="+s.url+"\n", "TOKENBOOTH_CLIENT_ID="+string(k.ID)+"\n", "TOKENBOOTH_CLIENT_SECRET="+secret+"\n")
	if got := a.header.Get("Content-Disposition"); got != `attachment; filename="runner-x-y.env"` {
		t.Errorf("Content-Disposition: %s", got)
	}
	if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, "text/plain") {
		t.Errorf("Content-Type: %s", got)
	}
	form.Set("client_id", "<script>")
	v.post(path, form).want(t, http.StatusBadRequest).without(t, secret)
	form.Set("client_secret", "<script>")
	v.post(path, form).want(t, http.StatusBadRequest)
	v.get(path).want(t, http.StatusMethodNotAllowed)
}

func TestFirstUse(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	v := s.as(s.owner)
	k := s.key(s.ws, "runner", manage.NewKey{})
	path := "/w/" + s.ws.Slug + "/keys/" + string(k.ID) + "/first-use"
	v.get(path).want(t, http.StatusOK, `"used_at":null`)
	used := workspace.At(time.Now())
	_, err := s.db.Writer().ExecContext(t.Context(), `UPDATE key_secrets SET last_used_at = ?, last_used_address = '203.0.113.7', last_used_agent = 'curl/8.5 (x)' WHERE key_id = ?`, used, k.ID)
	fatal(t, err)
	var use struct {
		UsedAt  time.Time `json:"used_at"`
		Address string    `json:"address"`
		Agent   string    `json:"agent"`
	}
	a := v.get(path).want(t, http.StatusOK)
	fatal(t, json.Unmarshal([]byte(a.body), &use))
	if !use.UsedAt.Equal(used.Time) || use.Address != "203.0.113.7" || use.Agent != "curl/8.5" {
		t.Errorf("%s", a.body)
	}
	if a.header.Get("Content-Type") != "application/json" {
		t.Errorf("Content-Type: %s", a.header.Get("Content-Type"))
	}
	s.as(s.user("otto@example.com", false)).get(path).want(t, http.StatusNotFound)
	v.get("/w/"+s.ws.Slug+"/keys/tbk_none/first-use").want(t, http.StatusNotFound)
}
