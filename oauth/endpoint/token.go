package endpoint

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
)

// token is the token endpoint (RFC 6749 §3.2, §4.4). It never redirects.
func (h *Handler) token(c echo.Context) error {
	noStore(c)
	token, err := h.exchange(c)
	h.Count(grant.Outcome(err))
	if err != nil {
		return h.refuse(c, err)
	}
	oauth.SetRateLimit(c.Response().Header(), token.Client.Quota.Policy(), token.Client.Quota.State())
	h.Note(c, slog.String("client_id", string(token.Client.ID)), slog.String("workspace_id", string(token.Client.WorkspaceID)))
	return writeToken(c, tokenResponse(token))
}

func writeToken(c echo.Context, answer oauth.TokenResponse) error {
	buffer := takeBuffer()
	defer buffer.release()
	buffer.bytes = append(answer.AppendJSON(buffer.bytes), '\n')
	c.Response().Header()[echo.HeaderContentType] = isJSON
	return writeBody(c, http.StatusOK, echo.MIMEApplicationJSON, buffer.bytes)
}

// noStore keeps an answer out of every cache (RFC 6749 §5.1, RFC 9111 §5.4).
func noStore(c echo.Context) {
	header := c.Response().Header()
	header[echo.HeaderCacheControl] = storeNothing
	header["Pragma"] = cacheNothing
}

// These are shared by all answers: a header's values are replaced, never changed.
var storeNothing, cacheNothing, isJSON = []string{"no-store"}, []string{"no-cache"}, []string{echo.MIMEApplicationJSON}

func (h *Handler) exchange(c echo.Context) (*grant.Token, error) {
	request, err := h.readTokenRequest(c)
	if err != nil {
		return nil, err
	}
	return h.Grant.Issue(c.Request().Context(), request)
}

func tokenResponse(t *grant.Token) oauth.TokenResponse {
	r := oauth.TokenResponse{
		AccessToken: t.AccessToken,
		TokenType:   "Bearer",
		ExpiresIn:   int64(t.ExpiresIn / time.Second),
		Scope:       t.Scope,
	}
	if !t.KeyExpiresAt.IsZero() {
		r.KeyExpiresAt = t.KeyExpiresAt.Format(time.RFC3339)
	}
	return r
}
