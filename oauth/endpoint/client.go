package endpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/oauth"
	"github.com/tokenbooth/tokenbooth/oauth/bearer"
	"github.com/tokenbooth/tokenbooth/oauth/grant"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// caller is who asks for revocation or introspection: an API key that has proven
// itself, or a token of it.
type caller struct {
	record *keys.Record
	limit  *oauth.Scope // what its token carries; nil: it is the key itself
}

// holds is what the caller holds now.
func (h *Handler) holds(who caller) oauth.Scope {
	held := h.Policy.Holds(who.record)
	if who.limit != nil {
		held = held.Intersect(*who.limit)
	}
	return held
}

// managing is the caller as use cases know it.
func (h *Handler) managing(c echo.Context, who caller) manage.Caller {
	from := origin(c)
	return manage.Bearer(who.record.Key, who.limit).
		From(manage.Origin{Address: from.Address.String(), Agent: from.Agent, RequestID: from.RequestID})
}

// readClientRequest reads a request about a token: a form, as strictly as the token
// endpoint does, of a client that authenticates as it does there or with a bearer
// token (RFC 7009 §2.1, RFC 7662 §2.1). A token_type_hint is only a hint, and there
// is one type. What is wrong with the client is said before what is wrong with the
// rest.
func (h *Handler) readClientRequest(c echo.Context) (who caller, token string, err error) {
	p, err := h.readParameters(c, false)
	if err != nil {
		return who, "", err
	}
	if bearsToken(c.Request().Header) {
		who, err = h.bearerCaller(c, p)
	} else {
		who, err = h.clientCaller(c, p)
	}
	if err != nil {
		return who, "", err
	}
	h.Note(c, slog.String("client_id", string(who.record.ID)), slog.String("workspace_id", string(who.record.WorkspaceID)))
	if token = pasted(p.get("token")); token == "" {
		return who, "", oauth.Errorf(oauth.InvalidRequest, "The parameter token is missing: send the access token in the body.")
	}
	return who, token, nil
}

// bearsToken reports whether the Authorization header is of the Bearer scheme.
func bearsToken(header http.Header) bool {
	scheme, _, _ := strings.Cut(header.Get(echo.HeaderAuthorization), " ")
	return strings.EqualFold(scheme, "Bearer")
}

// clientCaller authenticates a client as the token endpoint does.
func (h *Handler) clientCaller(c echo.Context, p parameters) (caller, error) {
	credentials, err := readCredentials(c.Request().Header.Values(echo.HeaderAuthorization), p)
	if err != nil {
		return caller{}, err
	}
	return h.keyCaller(c, credentials)
}

// keyCaller authenticates a key. It spends nothing of the quota, but the key was
// used: policy must not take it for one that nobody needs.
func (h *Handler) keyCaller(c echo.Context, credentials grant.Credentials) (caller, error) {
	from := origin(c)
	client, err := h.Grant.Authenticate(c.Request().Context(), credentials, from)
	if err != nil {
		return caller{}, err
	}
	h.Grant.Usage.Used(keys.Use{SecretID: client.SecretID, At: workspace.At(client.At), Address: from.Address.String(), Agent: from.Agent})
	return caller{record: client.Record}, nil
}

// bearerCaller recognises a raw key, or a token for the issuer's own audience alone:
// no other service can replay a caller's token here.
func (h *Handler) bearerCaller(c echo.Context, p parameters) (caller, error) {
	if p.get("client_secret") != "" || p.get("client_assertion") != "" {
		return caller{}, oauth.Errorf(oauth.InvalidRequest, "The client authenticates in more than one way: use either the Authorization header or the body.")
	}
	credential, err := grant.Presented(c.Request().Header)
	if err != nil {
		return caller{}, err
	}
	who := caller{}
	if strings.Contains(credential, ".") {
		who, err = h.tokenCaller(c.Request().Context(), credential)
	} else {
		who, err = h.keyCaller(c, grant.Credentials{Secret: credential})
	}
	if id := p.get("client_id"); err == nil && id != "" && id != string(who.record.ID) {
		err = oauth.Errorf(oauth.InvalidRequest, "The client_id in the body is not the one in the Authorization header.")
	}
	return who, err
}

func (h *Handler) tokenCaller(ctx context.Context, token string) (caller, error) {
	claims, err := h.verify(ctx, token)
	if err != nil {
		return caller{}, err
	}
	if len(claims.Audience) != 1 || claims.Audience[0] != h.Issuer {
		return caller{}, fmt.Errorf("%w: it is not for this service alone: get one with audience=%s", bearer.ErrInvalid, h.Issuer)
	}
	record, err := h.standing(ctx, token, claims)
	return caller{record, &claims.Scope}, err
}

// verify checks a token by itself; whether it is denied is open. Errors wrap
// bearer.ErrInvalid, or keys.ErrUnavailable when it cannot be known.
func (h *Handler) verify(ctx context.Context, token string) (*oauth.Claims, error) {
	claims, err := h.verifier(token).Verify(ctx, token)
	return claims, orUnavailable(err)
}

// standing checks that nothing denies a token that was verified, and returns its
// key. Errors are as those of verify.
func (h *Handler) standing(ctx context.Context, token string, claims *oauth.Claims) (*keys.Record, error) {
	err := h.Revocations.Revoked(ctx, headerOf(token).kid, claims)
	if errors.Is(err, bearer.ErrRevoked) {
		return nil, fmt.Errorf("%w: %w", bearer.ErrInvalid, bearer.ErrRevoked)
	}
	if err != nil {
		return nil, orUnavailable(err)
	}
	return h.Grant.Standing(ctx, claims)
}

// orUnavailable makes of what is no verdict on a token an error of something that the
// verdict depends on.
func orUnavailable(err error) error {
	if err == nil || errors.Is(err, bearer.ErrInvalid) || errors.Is(err, keys.ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", keys.ErrUnavailable, err)
}

// refuseClient writes an error of revocation or introspection (RFC 6749 §5.2). Who
// came with a bearer token is challenged for one (RFC 7662 §2.3, RFC 6750 §3).
func (h *Handler) refuseClient(c echo.Context, what string, err error) error {
	withToken := bearsToken(c.Request().Header)
	wire := grant.WireError(err)
	if withToken {
		wire = grant.ResourceError(err)
	}
	wire = wire.Explained(h.Issuer)
	if h.Grant.Format.QuotedIn(wire.Description) {
		wire.Description = "A parameter holds a secret, which belongs in client_secret alone: check how your variables are assigned."
	}
	if wire.Status >= http.StatusInternalServerError && c.Request().Context().Err() == nil {
		h.Log.ErrorContext(c.Request().Context(), what+" failed", "error", err)
	}
	h.Note(c, slog.String("error", string(wire.Code)))
	header := c.Response().Header()
	if withToken {
		wire.SetHeaders(header, realm)
		return writeJSON(c, wire.Status, wire)
	}
	if wire.Status == http.StatusUnauthorized {
		header.Set(echo.HeaderWWWAuthenticate, basicChallenge)
	}
	wire.SetLimits(header)
	return writeJSON(c, wire.Status, wire)
}

// pasted is a token without what comes along when somebody copies it. To take it for
// none would answer that nothing has to be revoked.
func pasted(token string) string {
	token = strings.TrimSpace(token)
	if scheme, rest, ok := strings.Cut(token, " "); ok && strings.EqualFold(scheme, "Bearer") {
		token = strings.TrimSpace(rest)
	}
	return token
}
