package endpoint

import (
	"context"
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
)

// introspectAll is the right to look into tokens of every workspace.
const introspectAll = "organization:introspect"

// introspection is the answer of introspection (RFC 7662 §2.2).
type introspection struct {
	Active bool `json:"active"`
	*activeToken
}

// activeToken is what is told of a token that is good.
type activeToken struct {
	Issuer      string         `json:"iss"`
	Subject     string         `json:"sub"`
	Audience    oauth.Audience `json:"aud"`
	Expiry      int64          `json:"exp"` // seconds since 1970
	IssuedAt    int64          `json:"iat"` // seconds since 1970
	ID          string         `json:"jti"`
	ClientID    string         `json:"client_id"`
	Scope       oauth.Scope    `json:"scope"`
	TokenType   string         `json:"token_type"`
	WorkspaceID string         `json:"workspace_id"`
	Workspace   string         `json:"workspace"`
}

// introspect is the introspection endpoint (RFC 7662).
func (h *Handler) introspect(c echo.Context) error {
	noStore(c)
	answer, err := h.lookInto(c)
	if err != nil {
		return h.refuseClient(c, "introspection", err)
	}
	return writeJSON(c, http.StatusOK, answer)
}

// lookInto says whether the token of a request is good now. Of one that is not, and
// of one that is not the caller's business, nothing is told, not even why (RFC 7662
// §2.2). When it cannot be known there is no answer.
func (h *Handler) lookInto(c echo.Context) (introspection, error) {
	who, token, err := h.readClientRequest(c)
	if err != nil {
		return introspection{}, err
	}
	claims, err := h.verify(c.Request().Context(), token)
	if err == nil {
		err = h.judge(c.Request().Context(), who, token, claims)
	}
	switch {
	case errors.Is(err, bearer.ErrInvalid):
		return introspection{}, nil
	case err != nil:
		return introspection{}, err
	}
	return introspection{true, describe(claims)}, nil
}

// judge decides about a token that was verified. What is not the caller's business
// is not looked up. The leeway for the clocks of others does not count here: it is
// our own that the token was issued by.
func (h *Handler) judge(ctx context.Context, who caller, token string, claims *oauth.Claims) error {
	if claims.WorkspaceID != string(who.record.WorkspaceID) && !h.holds(who).Has(introspectAll) {
		return bearer.ErrInvalid
	}
	if claims.Expiry <= h.Manager.Time().Unix() {
		return bearer.ErrInvalid
	}
	_, err := h.standing(ctx, token, claims)
	return err
}

func describe(c *oauth.Claims) *activeToken {
	return &activeToken{
		Issuer: c.Issuer, Subject: c.Subject, Audience: c.Audience, Expiry: c.Expiry, IssuedAt: c.IssuedAt, ID: c.ID,
		ClientID: c.ClientID, Scope: c.Scope, TokenType: "Bearer", WorkspaceID: c.WorkspaceID, Workspace: c.Workspace,
	}
}
