package endpoint

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
)

// identity is the answer of whoami.
type identity struct {
	Workspace   string      `json:"workspace"`
	WorkspaceID string      `json:"workspace_id"`
	Subject     string      `json:"subject"`
	ClientID    string      `json:"client_id"`
	Scope       oauth.Scope `json:"scope"`
	ExpiresAt   *time.Time  `json:"expires_at"` // of the token, or of the key that was sent instead; null: never
}

// whoami answers "does it work?": who the bearer of a token is. A raw key in
// its place, or in x-api-key, works as well.
func (h *Handler) whoami(c echo.Context) error {
	c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
	credential, err := grant.Presented(c.Request().Header)
	if err != nil {
		return h.challenge(c, err)
	}
	var who identity
	if strings.Contains(credential, ".") {
		who, err = h.tokenIdentity(c.Request().Context(), credential)
	} else {
		who, err = h.keyIdentity(c, credential)
	}
	if err != nil {
		return h.challenge(c, err)
	}
	h.Note(c, slog.String("client_id", who.ClientID), slog.String("workspace_id", who.WorkspaceID))
	return writeJSON(c, http.StatusOK, who)
}

// tokenIdentity verifies a token, and that what is known of its key, owner and
// workspace now does not deny it.
func (h *Handler) tokenIdentity(ctx context.Context, token string) (identity, error) {
	claims, err := h.verify(ctx, token)
	if err != nil {
		return identity{}, err
	}
	if _, err := h.standing(ctx, token, claims); err != nil {
		return identity{}, err
	}
	expiry := time.Unix(claims.Expiry, 0).UTC()
	return identity{
		Workspace: claims.Workspace, WorkspaceID: claims.WorkspaceID, Subject: claims.Subject,
		ClientID: claims.ClientID, Scope: claims.Scope, ExpiresAt: &expiry,
	}, nil
}

// verifier is the one for the typ that a token claims to have. Whether it has the
// right one is for the verifier to say.
func (h *Handler) verifier(token string) *bearer.Verifier {
	if v, ok := h.Verifiers[headerOf(token).typ]; ok {
		return v
	}
	return h.Verifiers[oauth.AccessTokenType]
}

// tokenHeader is what a token says of itself, by the exact names of the members.
type tokenHeader struct{ typ, kid string }

func headerOf(token string) (h tokenHeader) {
	head, _, _ := strings.Cut(token[:min(len(token), bearer.MaxTokenLength)], ".")
	text, _ := base64.RawURLEncoding.DecodeString(head)
	members, err := oauth.ParseObject(text)
	if err == nil {
		_ = json.Unmarshal(members["typ"], &h.typ)
		_ = json.Unmarshal(members["kid"], &h.kid)
	}
	return h
}

func (h *Handler) keyIdentity(c echo.Context, secret string) (identity, error) {
	client, err := h.Grant.Direct(c.Request().Context(), grant.Credentials{Secret: secret}, origin(c))
	if err != nil {
		return identity{}, err
	}
	who := identity{
		Workspace: client.WorkspaceSlug, WorkspaceID: string(client.WorkspaceID), Subject: client.OwnerID(),
		ClientID: string(client.ID), Scope: client.Bounds.Keep(h.Policy.Holds(client.Record)),
	}
	if !client.ExpiresAt.IsZero() {
		who.ExpiresAt = &client.ExpiresAt.Time
	}
	return who, nil
}

// challenge writes an error of a resource: problem+json (RFC 9457) with the
// challenge of RFC 6750 §3.
func (h *Handler) challenge(c echo.Context, err error) error {
	wire := grant.ResourceError(err)
	if wire.Status >= http.StatusInternalServerError {
		h.Log.ErrorContext(c.Request().Context(), "whoami failed", "error", err)
	}
	wire = wire.Explained(h.Issuer)
	wire.SetHeaders(c.Response().Header(), realm)
	return writeProblem(c, wire)
}

// realm is where our credentials are good (RFC 9110 §11.5).
const realm = "tokenbooth"

func writeProblem(c echo.Context, e *oauth.Error) error {
	body, err := json.Marshal(e.Problem(c.Response().Header().Get("Request-Id")))
	if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return writeBody(c, e.Status, oauth.ProblemType, body)
}
