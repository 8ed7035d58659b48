package grant

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/policy/quota"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// Credentials are what a client presents: both as they arrived.
type Credentials struct {
	ID     string // client_id; empty: the secret names its key
	Secret string // client_secret
}

// Origin is where a request comes from.
type Origin struct {
	Address   netip.Addr // the client's, behind trusted proxies
	Agent     string     // User-Agent
	RequestID string     // Request-Id of the answer
}

// Client is a key that has proven itself and may be used now.
type Client struct {
	*keys.Record
	Bounds   policy.Bounds  // that apply to it
	Quota    quota.Decision // what is left after this use; see Direct and Issue
	SecretID string         // the secret that was presented
	At       time.Time      // when that was decided
}

// Authenticator recognises keys. All fields are required, but Exchanges and those
// below it.
type Authenticator struct {
	Format    *keys.Format
	Peppers   keys.Peppers
	Directory *keys.Directory
	Usage     *keys.UsageWriter
	Failures  *quota.Failures
	Uses      sqlx.ExtContext  // where uses of keys are counted that may be used so often only
	Exchanges *audit.Writer    // nil: nothing is recorded
	Rules     *policy.Rulebook // nil: policy.Unbounded
	Quota     *quota.Limiter   // nil: no limits

	// Stand lets an exchange go on without the database, if it may: see
	// change.Follower; nil: it never may.
	Stand func(context.Context) context.Context

	Now func() time.Time // zero: time.Now

	// Trace is told when each step of an exchange begins, and by what it returns when
	// that ends, and how; nil: nobody watches, which costs nothing.
	Trace func(ctx context.Context, step string) (context.Context, func(error))
}

// step begins a step of an exchange; call end when it is done.
func (a *Authenticator) step(ctx context.Context, name string) (_ context.Context, end func(error)) {
	if a.Trace == nil {
		return ctx, unwatched
	}
	return a.Trace(ctx, name)
}

func unwatched(error) {}

func (a *Authenticator) now() time.Time {
	if a.Now == nil {
		return time.Now()
	}
	return a.Now()
}

// Authenticate recognises a key by its ID and secret, or by the secret alone,
// and checks that it may be used now from there. It spends nothing of the quota
// and records nothing: see Direct.
//
// It returns ErrCredentials or wraps keys.ErrMalformedSecret when the secret is
// not right, a *TooManyFailuresError instead when that source has failed too
// often, a *RefusedError when the secret is right but the key may not be used,
// and wraps keys.ErrUnavailable when it cannot be known.
func (a *Authenticator) Authenticate(ctx context.Context, c Credentials, from Origin) (*Client, error) {
	known, err := a.authenticate(ctx, c, from)
	if err != nil {
		return nil, err
	}
	client := known.client()
	return &client, nil
}

// attempt is what is known of a key that somebody tries to use, whether they may
// or not.
type attempt struct {
	record *keys.Record      // nil: no key that exists, or none that was looked up
	named  keys.ID           // of no record: the ID that came, if it is genuine
	secret keys.StoredSecret // zero: the secret that was presented is not right
	at     time.Time         // when that was decided
	bounds policy.Bounds     // of the workspace, once the key was admitted
	spent  quota.Decision    // of the quota
}

func (k *attempt) client() Client {
	return Client{Record: k.record, Bounds: k.bounds, Quota: k.spent, SecretID: k.secret.ID, At: k.at}
}

// authenticate is Authenticate that also tells of whom it has refused.
func (a *Authenticator) authenticate(ctx context.Context, c Credentials, from Origin) (_ attempt, err error) {
	ctx, end := a.step(ctx, "authenticate")
	defer func() { end(err) }()
	record, stored, err := a.recognise(ctx, c)
	now := a.now() // after the look-up, which may take seconds: the key may end meanwhile
	known := attempt{record: record, secret: stored, at: now}
	if record == nil {
		// Whoever looks for the reason looks at the key; nothing is looked up for it.
		if known.named, _ = a.Format.ParseID(c.ID); known.named != "" {
			a.Usage.Failed(known.named, workspace.At(now))
		}
	}
	if errors.Is(err, ErrCredentials) || errors.Is(err, keys.ErrMalformedSecret) {
		// The secret was checked first: the budget can only turn one refusal
		// into another, so a flood of failures locks nobody out.
		if wait := a.Failures.Spend(from.Address, presentedID(c), now); wait > 0 {
			return known, &TooManyFailuresError{RetryAfter: wait, Cause: err}
		}
	}
	if err != nil {
		return known, err
	}
	if err = admit(record, stored, from, now); err == nil {
		known.bounds, err = a.bounds(ctx, record, now)
	}
	if err != nil {
		a.Usage.Failed(record.ID, workspace.At(now))
	}
	return known, err
}

// presentedID is which key somebody says it is, as it came.
func presentedID(c Credentials) string {
	if c.ID != "" {
		return c.ID
	}
	return c.Secret[:strings.LastIndexByte(c.Secret, '_')+1] // a secret names its key before its last part
}

// recognise finds the key whose secret this is. For the format alone it looks
// nothing up. A secret that is not right costs the same work whether its key
// exists or not, and however often that was rotated; the key, if it exists, comes
// beside that error, for the record.
func (a *Authenticator) recognise(ctx context.Context, c Credentials) (*keys.Record, keys.StoredSecret, error) {
	none := keys.StoredSecret{}
	secret, err := a.Format.ParseSecret(c.Secret)
	if errors.Is(err, keys.ErrMalformedSecret) {
		return nil, none, err
	}
	id, errID := a.identify(c.ID, secret)
	if err != nil || errID != nil || !secret.Names(id) {
		a.Directory.Waste(ctx)
		return nil, none, a.noMatch("", secret, 0)
	}
	record, err := a.Directory.Lookup(ctx, id)
	if errors.Is(err, workspace.ErrNotFound) {
		return nil, none, a.noMatch("", secret, 0)
	}
	if err != nil {
		return nil, none, err
	}
	stored, err := a.match(record, secret)
	return record, stored, err
}

// match compares a secret with those of its key. One that is stored under a
// pepper that is not configured counts only as long as it works.
func (a *Authenticator) match(record *keys.Record, secret keys.Secret) (keys.StoredSecret, error) {
	var unknown error
	for _, stored := range record.Secrets {
		right, err := a.Peppers.Matches(record.ID, secret, stored.Digest)
		if right {
			return stored, nil
		}
		if err != nil && stored.Live(a.now()) {
			unknown = err
		}
	}
	refusal := a.noMatch(record.ID, secret, len(record.Secrets))
	return keys.StoredSecret{}, cmp.Or(unknown, refusal)
}

// noMatch notes the failure, for nobody if there is no such key, and does the
// comparisons that are left after done of them.
func (a *Authenticator) noMatch(id keys.ID, secret keys.Secret, done int) error {
	for range keys.MaxStoredSecrets - done {
		a.Peppers.Waste(secret)
	}
	a.Usage.Failed(id, workspace.At(a.now()))
	return ErrCredentials
}

func (a *Authenticator) identify(id string, secret keys.Secret) (keys.ID, error) {
	if id == "" {
		return a.Format.ID(secret)
	}
	return a.Format.ParseID(id)
}

// admit decides whether a recognised key may be used. Every level counts: the
// secret, the key, its owner, its workspace, where it is used from.
func admit(r *keys.Record, secret keys.StoredSecret, from Origin, now time.Time) error {
	const day = time.RFC3339
	switch {
	case !r.RevokedAt.IsZero():
		return refuse(Revoked, "The API key was revoked at %s: create a new one.", r.RevokedAt.Format(day))
	case !r.ExpiresAt.IsZero() && r.ExpiresAt.Sub(now) < time.Second:
		return refuse(Expired, "The API key expired at %s: create a new one.", r.ExpiresAt.Format(day))
	case !secret.Live(now):
		return refuse(Replaced, "This secret of the API key ended at %s, when the key was rotated: use its newer secret.", secret.ExpiresAt.Format(day))
	case !r.WorkspaceDeletedAt.IsZero():
		return refuse(Deleted, "The API key was revoked, because its workspace was deleted at %s.", r.WorkspaceDeletedAt.Format(day))
	case r.OwnerGone && r.UserID != "":
		return refuse(Removed, "The owner of this personal key is no longer a member of the workspace.")
	case r.OwnerGone:
		return refuse(Removed, "The API key was revoked, because its service account was deleted: create a key of another one.")
	case !r.OwnerDisabledAt.IsZero() && r.UserID != "":
		return refuse(Disabled, "The owner of this personal key is disabled.")
	case !r.OwnerDisabledAt.IsZero():
		return refuse(Disabled, "Service account is disabled: enable it, or use a key of another one.")
	case !r.WorkspaceSuspendedAt.IsZero():
		return refuse(Suspended, "Workspace is suspended: ask an organization admin.")
	case !r.Allows(from.Address):
		return refuse(Address, "Address not allowed: this API key may not be used from %s.", from.Address)
	}
	return nil
}
