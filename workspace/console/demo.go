package console

import (
	"crypto/subtle"
	"net/http"
	"net/url"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

// Demo signs in whoever opens its link, as often as they like: for throw-away data
// on one machine alone.
type Demo struct {
	User  workspace.UserID
	Token string
}

const demoPath = "/sign-in/demo"

// Link is the address that signs in, below the issuer.
func (d *Demo) Link(issuer string) string {
	return issuer + demoPath + "?" + url.Values{"token": {d.Token}}.Encode()
}

func (h *Handler) demoRoutes() []route {
	if h.Demo == nil {
		return nil
	}
	return []route{{method: http.MethodGet, path: demoPath, run: signInToDemo, access: anybody}}
}

func signInToDemo(r *request) (page, error) {
	if subtle.ConstantTimeCompare([]byte(r.QueryParam("token")), []byte(r.h.Demo.Token)) == 0 {
		return page{}, errNothingHere
	}
	return r.begin(r.h.Demo.User, identity.ByLink, r.QueryParam("next"))
}
