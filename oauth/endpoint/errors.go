package endpoint

import (
	"log/slog"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/oauth/grant"
)

// basicChallenge is for clients that did not authenticate (RFC 7617 §2, §2.1).
const basicChallenge = `Basic realm="` + realm + `", charset="UTF-8"`

// refuse writes an error of the token endpoint. Every 401 carries a challenge
// (RFC 6749 §5.2, RFC 9110 §15.5.2).
func (h *Handler) refuse(c echo.Context, err error) error {
	wire := grant.WireError(err).Explained(h.Issuer)
	if h.Grant.Format.QuotedIn(wire.Description) {
		wire.Description = "A parameter holds a secret, which belongs in client_secret alone: check how your variables are assigned."
	}
	outcome := grant.Outcome(err)
	if wire.Status >= http.StatusInternalServerError && outcome != "client_gone" {
		h.Log.ErrorContext(c.Request().Context(), "exchange failed", "error", err)
	}
	h.Note(c, slog.String("outcome", outcome), slog.String("error", string(wire.Code)))
	header := c.Response().Header()
	if wire.Status == http.StatusUnauthorized {
		header.Set(echo.HeaderWWWAuthenticate, basicChallenge)
	}
	wire.SetLimits(header)
	return writeJSON(c, wire.Status, wire)
}
