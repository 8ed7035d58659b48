package identity

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// SessionCookie is the name of the cookie that carries a session. The prefix makes
// browsers refuse one that another host or a page without TLS has set.
const SessionCookie = "__Host-tokenbooth"

// Method is how a session's owner proved who they are.
type Method string

// The methods.
const (
	ByPassword           Method = "password"
	ByPasskey            Method = "passkey"
	ByPasswordAndPasskey Method = "password+passkey"
	ByProvider           Method = "provider"
	ByLink               Method = "link"
)

// Session is a person who is signed in with one browser.
type Session struct {
	ID        string // ses_ and 26 characters: what people see of it; the cookie holds another value
	UserID    workspace.UserID
	Method    Method
	Address   string // where it began
	Agent     string
	CreatedAt workspace.Time // when the proof was given; zero for Start: now
	SeenAt    workspace.Time // within a minute
	ExpiresAt workspace.Time
}

// SessionOptions are the limits of sessions.
type SessionOptions struct {
	Lifetime time.Duration    // from its beginning; zero: DefaultLifetime
	Idle     time.Duration    // without a request; zero: DefaultIdle
	Now      func() time.Time // nil: time.Now
}

// The limits of sessions where nobody says others.
const (
	DefaultLifetime = 12 * time.Hour
	DefaultIdle     = 2 * time.Hour
)

// seenEvery is how exactly it is known when a session was used last: noting each
// request would be a write each.
const seenEvery = time.Minute

// Sessions begins, finds and ends sessions. They are rows in SQL, looked at on
// every request, so that one that ends has ended on every replica.
type Sessions struct {
	manager *scs.SessionManager
	store   *sessionStore
}

// NewSessions makes the sessions of one database.
func NewSessions(reader, writer sqlx.ExtContext, o SessionOptions) *Sessions {
	if o.Lifetime == 0 {
		o.Lifetime = DefaultLifetime
	}
	if o.Idle == 0 {
		o.Idle = DefaultIdle
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	m := scs.New()
	store := &sessionStore{reader: reader, writer: writer, SessionOptions: o}
	m.Store, m.Codec, m.HashTokenInStore, m.Lifetime = store, sessionCodec{}, true, o.Lifetime
	m.Cookie = scs.SessionCookie{
		Name: SessionCookie, Path: "/", HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode, Persist: true,
	}
	return &Sessions{manager: m, store: store}
}

const sessionKey = "session"

// Load finds the session of a request. The context that it returns belongs to the
// request and is what the other methods take. found is false when nobody is
// signed in.
func (s *Sessions) Load(r *http.Request) (ctx context.Context, session Session, found bool, err error) {
	token := ""
	if cookie, err := r.Cookie(SessionCookie); err == nil {
		token = cookie.Value
	}
	if ctx, err = s.manager.Load(r.Context(), token); err != nil {
		return r.Context(), session, false, fmt.Errorf("read the session: %w", err)
	}
	text := s.manager.GetString(ctx, sessionKey)
	if text == "" {
		return ctx, session, false, nil
	}
	if err := json.Unmarshal([]byte(text), &session); err != nil {
		return ctx, session, false, fmt.Errorf("read the session: %w", err)
	}
	return ctx, session, true, nil
}

// Start signs a person in: with a new session under a new token, whatever the
// request came with, so that nobody can be given a session that somebody else
// knows. The one before ends.
func (s *Sessions) Start(ctx context.Context, session Session) (Session, error) {
	if err := s.manager.RenewToken(ctx); err != nil {
		return session, fmt.Errorf("begin a session: %w", err)
	}
	now := workspace.At(s.store.Now())
	if session.CreatedAt.IsZero() {
		session.CreatedAt = now
	}
	session.ID, session.SeenAt = "ses_"+workspace.Unique(), now
	session.ExpiresAt = workspace.At(now.Add(s.store.Lifetime))
	text, err := json.Marshal(session)
	if err != nil {
		return session, fmt.Errorf("begin a session: %w", err)
	}
	s.manager.Put(ctx, sessionKey, string(text))
	return session, nil
}

// End signs out.
func (s *Sessions) End(ctx context.Context) error {
	if err := s.manager.Destroy(ctx); err != nil {
		return fmt.Errorf("end the session: %w", err)
	}
	return nil
}

// Save stores what Start or End has done and sets the cookie. Call it before the
// answer is written.
func (s *Sessions) Save(ctx context.Context, w http.ResponseWriter) error {
	switch s.manager.Status(ctx) {
	case scs.Modified:
		token, expiry, err := s.manager.Commit(ctx)
		if err != nil {
			return fmt.Errorf("store the session: %w", err)
		}
		s.manager.WriteSessionCookie(ctx, w, token, expiry)
	case scs.Destroyed:
		s.manager.WriteSessionCookie(ctx, w, "", time.Time{})
	}
	return nil
}

// sincePassword holds for a session s that is not from before its owner changed their
// password: one that was just beginning then is in no list of sessions to end.
const sincePassword = `NOT EXISTS (SELECT 1 FROM passwords p WHERE p.user_id = s.user_id AND p.changed_at > s.created_at)`

// ListSessions reads the sessions of a user that go on, the one used last first.
func ListSessions(ctx context.Context, q sqlx.ExtContext, user workspace.UserID, o SessionOptions) ([]Session, error) {
	now := o.Now()
	var rows []struct {
		Data   []byte         `db:"data"`
		SeenAt workspace.Time `db:"seen_at"`
	}
	err := sqlx.SelectContext(ctx, q, &rows, `SELECT s.data, s.seen_at FROM sessions s WHERE s.user_id = ? AND s.ended_at IS NULL AND s.expires_at > ? AND s.seen_at > ?
		AND `+sincePassword+` ORDER BY s.seen_at DESC, s.id`, user, workspace.At(now), workspace.At(now.Add(-o.Idle)))
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	found := make([]Session, len(rows))
	for i, row := range rows {
		if found[i], err = decodeSession(row.Data); err != nil {
			return nil, err
		}
		found[i].SeenAt = row.SeenAt
	}
	return found, nil
}

// Options are the limits that apply.
func (s *Sessions) Options() SessionOptions { return s.store.SessionOptions }

// EndSession ends one session of a user. ErrNotFound: they have no such session.
func EndSession(ctx context.Context, tx sqlx.ExtContext, user workspace.UserID, id string, at workspace.Time) error {
	n, err := endSessions(ctx, tx, `UPDATE sessions SET ended_at = ? WHERE user_id = ? AND id = ? AND ended_at IS NULL`, at, user, id)
	if err == nil && n == 0 {
		err = fmt.Errorf("session %s: %w", id, workspace.ErrNotFound)
	}
	return err
}

// EndSessions ends every session of a user but one, which may be empty.
func EndSessions(ctx context.Context, tx sqlx.ExtContext, user workspace.UserID, except string, at workspace.Time) (int64, error) {
	return endSessions(ctx, tx, `UPDATE sessions SET ended_at = ? WHERE user_id = ? AND id <> ? AND ended_at IS NULL`, at, user, except)
}

// KeepSession lets a session of a user go on that is older than their password; an
// empty one is none.
func KeepSession(ctx context.Context, tx sqlx.ExtContext, user workspace.UserID, id string, at workspace.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE sessions SET created_at = ? WHERE user_id = ? AND id = ?`, at, user, id)
	if err != nil {
		return fmt.Errorf("keep the session %s: %w", id, err)
	}
	return nil
}

func endSessions(ctx context.Context, tx sqlx.ExtContext, query string, args ...any) (int64, error) {
	result, err := tx.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, fmt.Errorf("end sessions: %w", err)
	}
	return result.RowsAffected()
}

// ForgetSessions removes sessions that can be used no more.
func ForgetSessions(ctx context.Context, tx sqlx.ExtContext, now workspace.Time) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE expires_at <= ?`, now); err != nil {
		return fmt.Errorf("forget sessions: %w", err)
	}
	return nil
}

// sessionStore keeps sessions in SQL, by the hash of their tokens.
type sessionStore struct {
	reader, writer sqlx.ExtContext
	SessionOptions
}

// FindCtx implements scs.CtxStore. A session is found while it has not ended, is
// within its limits, its owner may sign in, and it is not from before they changed
// their password.
func (s *sessionStore) FindCtx(ctx context.Context, token string) ([]byte, bool, error) {
	now := s.Now()
	var row struct {
		Data   []byte         `db:"data"`
		SeenAt workspace.Time `db:"seen_at"`
	}
	err := sqlx.GetContext(ctx, s.reader, &row, `SELECT s.data, s.seen_at FROM sessions s JOIN users u ON u.id = s.user_id
		WHERE s.token = ? AND s.ended_at IS NULL AND s.expires_at > ? AND s.seen_at > ? AND u.disabled_at IS NULL AND u.deleted_at IS NULL
		AND `+sincePassword,
		token, workspace.At(now), workspace.At(now.Add(-s.Idle)))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, false, nil
	case err != nil:
		return nil, false, err
	}
	if now.Sub(row.SeenAt.Time) >= seenEvery {
		// Not noting it costs the session a minute of its idle time; the request goes on.
		_, _ = s.writer.ExecContext(ctx, `UPDATE sessions SET seen_at = ? WHERE token = ?`, workspace.At(now), token)
	}
	return row.Data, true, nil
}

// CommitCtx implements scs.CtxStore. A session that has ended meanwhile stays so.
func (s *sessionStore) CommitCtx(ctx context.Context, token string, data []byte, _ time.Time) error {
	session, err := decodeSession(data)
	if err != nil {
		return err
	}
	_, err = s.writer.ExecContext(ctx, `INSERT INTO sessions (token, id, user_id, data, created_at, seen_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (token) DO NOTHING`, token, session.ID, session.UserID, data, session.CreatedAt, session.SeenAt, session.ExpiresAt)
	return err
}

// DeleteCtx implements scs.CtxStore.
func (s *sessionStore) DeleteCtx(ctx context.Context, token string) error {
	_, err := s.writer.ExecContext(ctx, `UPDATE sessions SET ended_at = ? WHERE token = ? AND ended_at IS NULL`, workspace.At(s.Now()), token)
	return err
}

// scs takes a store without contexts and then never calls it.

// Find implements scs.Store.
func (s *sessionStore) Find(token string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), token)
}

// Commit implements scs.Store.
func (s *sessionStore) Commit(token string, data []byte, expiry time.Time) error {
	return s.CommitCtx(context.Background(), token, data, expiry)
}

// Delete implements scs.Store.
func (s *sessionStore) Delete(token string) error { return s.DeleteCtx(context.Background(), token) }

// sessionCodec keeps a session as JSON.
type sessionCodec struct{}

type encodedSession struct {
	Deadline time.Time         `json:"deadline"`
	Values   map[string]string `json:"values"`
}

// Encode implements scs.Codec.
func (sessionCodec) Encode(deadline time.Time, values map[string]any) ([]byte, error) {
	e := encodedSession{deadline, map[string]string{}}
	for name, value := range values {
		e.Values[name], _ = value.(string) // nothing else is put
	}
	return json.Marshal(e)
}

// Decode implements scs.Codec.
func (sessionCodec) Decode(data []byte) (time.Time, map[string]any, error) {
	var e encodedSession
	err := json.Unmarshal(data, &e)
	values := map[string]any{}
	for name, value := range e.Values {
		values[name] = value
	}
	return e.Deadline, values, err
}

func decodeSession(data []byte) (session Session, err error) {
	_, values, err := sessionCodec{}.Decode(data)
	if err == nil {
		text, _ := values[sessionKey].(string)
		err = json.Unmarshal([]byte(text), &session)
	}
	if err != nil {
		err = fmt.Errorf("read a session: %w", err)
	}
	return session, err
}
