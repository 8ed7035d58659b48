package admin

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Position is how far somebody has followed the revocations: epoch and seq of the
// feed.
type Position struct {
	Epoch    int64 `json:"epoch"`
	Sequence int64 `json:"sequence"`
}

// Verifier is a service that verifies tokens, as it reported last.
type Verifier struct {
	WorkspaceID string    `json:"workspace_id"`
	Name        string    `json:"name"`
	ClientID    string    `json:"client_id"` // the key by which it reports
	Epoch       int64     `json:"epoch"`
	Sequence    int64     `json:"sequence"`
	ReportedAt  time.Time `json:"reported_at"`
	Behind      *int64    `json:"behind"` // how many revocations it lacks; null: all, since its epoch is over
	Silent      bool      `json:"silent"` // it has not reported for two minutes
}

// ReportedVerifier is a verifier after its report.
type ReportedVerifier struct {
	Verifier
	WentBack bool `json:"went_back"` // it was further when it reported before
}

// Receipt says who has caught up with a revocation.
type Receipt struct {
	Sequence     int64             `json:"sequence"`
	Epoch        int64             `json:"epoch"`        // the present one
	Kind         string            `json:"kind"`         // jti, key, sub, ws or kid
	Subject      string            `json:"subject"`      // whose tokens are denied
	WorkspaceID  string            `json:"workspace_id"` // empty: the installation
	Cause        string            `json:"cause"`
	At           time.Time         `json:"at"`
	DeadBy       time.Time         `json:"dead_by"`       // no token that it denies is good anywhere after
	AcceptsUntil *time.Time        `json:"accepts_until"` // the last moment at which a verifier may take such a token; null: none does
	Verifiers    []VerifierReceipt `json:"verifiers"`     // of the workspace, those behind first
	ReceiptTally
	Others ReceiptTally `json:"others"` // of other workspaces
	Newest Position     `json:"newest"`
}

// VerifierReceipt says whether a verifier has caught up.
type VerifierReceipt struct {
	WorkspaceID  string     `json:"workspace_id"`
	Name         string     `json:"name"`
	Epoch        int64      `json:"epoch"`
	Sequence     int64      `json:"sequence"`
	ReportedAt   time.Time  `json:"reported_at"`
	CaughtUp     bool       `json:"caught_up"`
	Silent       bool       `json:"silent"`
	AcceptsUntil *time.Time `json:"accepts_until"` // null: it takes none, at least since ReportedAt
}

// ReceiptTally counts verifiers.
type ReceiptTally struct {
	CaughtUp int64 `json:"caught_up"`
	Behind   int64 `json:"behind"`
	Silent   int64 `json:"silent"` // how many of those behind have not reported for two minutes
}

// RevokedKey is a key that was revoked, and where to follow what becomes of it.
type RevokedKey struct {
	Key
	Sequence    *int64     `json:"sequence"`              // of the revocation; null: so long ago that it is not kept
	DeadBy      *time.Time `json:"dead_by"`               // no token of the key is good anywhere after
	EffectiveBy *time.Time `json:"exchange_effective_by"` // some replica may exchange the key until then; null: none does
}

// ReportVerifier tells how far a verifier in the key's own workspace has followed the
// revocations. A hook of its feed may call it each time that the feed has moved,
// and every 30 s. Use an access token: a request with the key itself spends of the
// quota of the workspace. It needs tokens:report.
func (c *Client) ReportVerifier(ctx context.Context, name string, at Position) (ReportedVerifier, error) {
	return send[ReportedVerifier](ctx, c, http.MethodPost, path("verifiers", name), at, nil)
}

// RemoveVerifier forgets a verifier in the key's own workspace that does not run any
// more. It needs tokens:report.
func (c *Client) RemoveVerifier(ctx context.Context, name string) error {
	return c.remove(ctx, path("verifiers", name), nil)
}

// Verifiers lists the verifiers of the key's own workspace; with the filter workspace
// those of another, or with * as its value of all.
func (c *Client) Verifiers(ctx context.Context, filter url.Values) iter.Seq2[Verifier, error] {
	return All[Verifier](ctx, c, "/verifiers", filter)
}

// Revocation reads who has caught up with a revocation.
func (c *Client) Revocation(ctx context.Context, sequence int64, options ...Option) (result Receipt, err error) {
	_, err = c.Do(ctx, http.MethodGet, path("revocations", strconv.FormatInt(sequence, 10)), nil, &result, options...)
	return result, err
}

// MaxWait is for how long the API holds a request back at most.
const MaxWait = 25 * time.Second

// Wait lets Revocation return when every verifier that reports has caught up, or
// after that time, in whole seconds up to MaxWait.
func Wait(d time.Duration) Option {
	return func(r *http.Request) {
		query := r.URL.Query()
		query.Set("wait", strconv.Itoa(int(min(d, MaxWait)/time.Second)))
		r.URL.RawQuery = query.Encode()
	}
}
