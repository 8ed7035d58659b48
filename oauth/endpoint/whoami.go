package endpoint

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/workspace"
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

// errNoCredentials: the request carries none, which is no error of a token
// (RFC 6750 §3.1: then the challenge has no error code).
var errNoCredentials = errors.New("no credentials")

// whoami answers "does it work?": who the bearer of a token is. A raw key in
// its place, or in x-api-key, works as well.
func (h *Handler) whoami(c echo.Context) error {
	c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
	credential, err := presented(c.Request().Header)
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

// presented reads the credential from the one place that holds it. A token in
// the query is ignored (RFC 9700 §4.3.2).
func presented(header http.Header) (string, error) {
	authorization, apiKey := header.Values(echo.HeaderAuthorization), header.Values("X-Api-Key")
	switch {
	case len(authorization)+len(apiKey) == 0:
		return "", errNoCredentials
	case len(authorization)+len(apiKey) > 1:
		return "", oauth.Errorf(oauth.InvalidRequest, "There is more than one credential: send one Authorization or x-api-key header.")
	case len(apiKey) == 1:
		return apiKey[0], nil
	}
	scheme, token, _ := strings.Cut(authorization[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", errNoCredentials
	}
	return strings.TrimSpace(token), nil
}

// tokenIdentity verifies a token, and against what is known of its key, owner
// and workspace now: an older generation is denied whatever its iat.
func (h *Handler) tokenIdentity(ctx context.Context, token string) (identity, error) {
	claims, err := h.verifier(token).Verify(ctx, token)
	if err != nil {
		return identity{}, err
	}
	record, err := h.Grant.Directory.Lookup(ctx, keys.ID(claims.ClientID))
	if errors.Is(err, workspace.ErrNotFound) {
		return identity{}, fmt.Errorf("%w: its key does not exist any more", bearer.ErrInvalid)
	}
	if err != nil {
		return identity{}, err
	}
	if claims.KeyGeneration < record.Generation || claims.SubjectGeneration < record.OwnerGeneration ||
		claims.WorkspaceGeneration < record.WorkspaceGeneration || record.OwnerGone {
		return identity{}, fmt.Errorf("%w: it was revoked", bearer.ErrInvalid)
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
	head, _, _ := strings.Cut(token[:min(len(token), bearer.MaxTokenLength)], ".")
	text, _ := base64.RawURLEncoding.DecodeString(head)
	var header struct {
		Type string `json:"typ"`
	}
	_ = json.Unmarshal(text, &header)
	if v, ok := h.Verifiers[header.Type]; ok {
		return v
	}
	return h.Verifiers[oauth.AccessTokenType]
}

func (h *Handler) keyIdentity(c echo.Context, secret string) (identity, error) {
	client, err := h.Grant.Authenticate(c.Request().Context(), grant.Credentials{Secret: secret}, origin(c))
	if err != nil {
		return identity{}, err
	}
	who := identity{
		Workspace: client.WorkspaceSlug, WorkspaceID: string(client.WorkspaceID), Subject: client.OwnerID(),
		ClientID: string(client.ID), Scope: h.Policy.Holds(client.Record),
	}
	if !client.ExpiresAt.IsZero() {
		who.ExpiresAt = &client.ExpiresAt.Time
	}
	return who, nil
}

// challenge writes an error of a resource: problem+json (RFC 9457) with the
// challenge of RFC 6750 §3.
func (h *Handler) challenge(c echo.Context, err error) error {
	var wire *oauth.Error
	switch {
	case errors.Is(err, errNoCredentials):
		wire = &oauth.Error{Status: http.StatusUnauthorized, Description: "Send an access token as Authorization: Bearer."}
	case errors.Is(err, bearer.ErrInvalid):
		wire = oauth.Errorf(oauth.InvalidToken, "The token is not valid: %s.", sentence(err, bearer.ErrInvalid))
	default:
		wire = WireError(err)
		if wire.Code == oauth.InvalidClient {
			wire.Code = oauth.InvalidToken
		}
	}
	if wire.Status >= http.StatusInternalServerError {
		h.Log.ErrorContext(c.Request().Context(), "whoami failed", "error", err)
	}
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
