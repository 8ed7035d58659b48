package endpoint

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"log/slog"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
)

// token is the token endpoint (RFC 6749 §3.2, §4.4). It never redirects.
func (h *Handler) token(c echo.Context) error {
	header := c.Response().Header()
	header.Set(echo.HeaderCacheControl, "no-store")
	header.Set("Pragma", "no-cache")
	request, err := h.readTokenRequest(c)
	if err != nil {
		h.Count("malformed_request")
		return h.refuse(c, err)
	}
	token, err := h.Grant.Issue(c.Request().Context(), request)
	h.Count(grant.Outcome(err))
	if err != nil {
		return h.refuse(c, err)
	}
	h.Note(c, slog.String("client_id", string(token.Client.ID)), slog.String("workspace_id", string(token.Client.WorkspaceID)))
	return writeJSON(c, http.StatusOK, tokenResponse(token))
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
