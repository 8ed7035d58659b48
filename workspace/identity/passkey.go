package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// MaxPasskeys is how many passkeys a user may have.
const MaxPasskeys = 20

// What the answer of a passkey can be besides right.
var (
	// ErrPasskey means that an answer proves nothing: it is not of a passkey that is
	// known here, or not to this challenge.
	ErrPasskey = errors.New("the passkey was not accepted")
	// ErrClonedPasskey means that a passkey has counted back, so that there may be a
	// copy of it (Web Authentication §6.1.1).
	ErrClonedPasskey = fmt.Errorf("%w: it counts back, so there may be a copy of it", ErrPasskey)
	// ErrAddress means that the service is reached by a number, for which there can be
	// no passkeys: they belong to a name (Web Authentication §5.1.2).
	ErrAddress = errors.New("passkeys need a host name, not an IP address")
)

// Passkey is a key pair on a device of a user, of which the public half is here.
type Passkey struct {
	ID         string // psk_ and 26 characters
	UserID     workspace.UserID
	Name       string // given by the user
	CreatedAt  workspace.Time
	LastUsedAt workspace.Time // zero: never

	credential webauthn.Credential
}

// RelyingParty is the service as passkeys know it: each works for one host name.
type RelyingParty struct{ web *webauthn.WebAuthn }

// NewRelyingParty makes the relying party of an issuer. ErrAddress.
func NewRelyingParty(issuer string) (*RelyingParty, error) {
	u, err := url.Parse(issuer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	if _, err := netip.ParseAddr(u.Hostname()); err == nil {
		return nil, ErrAddress
	}
	web, err := webauthn.New(&webauthn.Config{
		RPID: u.Hostname(), RPDisplayName: "Tokenbooth", RPOrigins: []string{u.Scheme + "://" + u.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: protocol.ResidentKeyRequired(),
			UserVerification: protocol.VerificationRequired,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("passkeys: %w", err)
	}
	return &RelyingParty{web}, nil
}

// Challenge is what a passkey has to sign. It has to be known again when the answer
// comes, and to be spent then.
type Challenge struct {
	Text string           `json:"text"`
	User workspace.UserID `json:"user,omitempty"` // whose passkeys may answer; empty: anybody's
}

// person is a user as the library wants them.
type person struct {
	workspace.User
	passkeys []Passkey
}

// WebAuthnID implements webauthn.User. It says nothing of the person.
func (p person) WebAuthnID() []byte { return []byte(p.ID) }

// WebAuthnName implements webauthn.User.
func (p person) WebAuthnName() string { return p.Email }

// WebAuthnDisplayName implements webauthn.User.
func (p person) WebAuthnDisplayName() string {
	if p.Name == "" {
		return p.Email
	}
	return p.Name
}

// WebAuthnCredentials implements webauthn.User.
func (p person) WebAuthnCredentials() []webauthn.Credential {
	credentials := make([]webauthn.Credential, len(p.passkeys))
	for i, passkey := range p.passkeys {
		credentials[i] = passkey.credential
	}
	return credentials
}

// Register makes what a browser needs to make a passkey of a user, on a device that
// has none of theirs: PublicKeyCredentialCreationOptions as JSON.
func (rp *RelyingParty) Register(user workspace.User, has []Passkey) (options json.RawMessage, c Challenge, err error) {
	p := person{user, has}
	exclude := webauthn.Credentials(p.WebAuthnCredentials()).CredentialDescriptors()
	creation, session, err := rp.web.BeginRegistration(p, webauthn.WithExclusions(exclude))
	if err != nil {
		return nil, c, fmt.Errorf("begin a passkey: %w", err)
	}
	options, err = json.Marshal(creation.Response)
	return options, Challenge{Text: session.Challenge, User: user.ID}, err
}

// Registered checks what the browser made (RegistrationResponseJSON). The passkey has
// no name and no times yet. ErrPasskey.
func (rp *RelyingParty) Registered(user workspace.User, c Challenge, answer []byte) (Passkey, error) {
	parsed, err := protocol.ParseCredentialCreationResponseBytes(answer)
	if err != nil {
		return Passkey{}, passkeyError(err)
	}
	credential, err := rp.web.CreateCredential(person{User: user}, webauthn.SessionData{
		Challenge: c.Text, UserID: []byte(c.User), RelyingPartyID: rp.web.Config.RPID,
		UserVerification: protocol.VerificationRequired, CredParams: webauthn.CredentialParametersDefault(),
	}, parsed)
	if err != nil {
		return Passkey{}, passkeyError(err)
	}
	return Passkey{ID: "psk_" + workspace.Unique(), UserID: user.ID, credential: *credential}, nil
}

// passkeyError is ErrPasskey with the library's reason, which is for the log.
func passkeyError(err error) error {
	var reason *protocol.Error
	if errors.As(err, &reason) && reason.DevInfo != "" {
		err = fmt.Errorf("%w (%s)", err, reason.DevInfo)
	}
	return fmt.Errorf("%w: %w", ErrPasskey, err)
}

// Ask makes what a browser needs to sign with one of a user's passkeys, or with an
// empty one with whichever passkey the person chooses:
// PublicKeyCredentialRequestOptions as JSON.
func (rp *RelyingParty) Ask(user workspace.UserID, has []Passkey) (options json.RawMessage, c Challenge, err error) {
	begin := rp.web.BeginDiscoverableLogin
	if user != "" {
		begin = func(o ...webauthn.LoginOption) (*protocol.CredentialAssertion, *webauthn.SessionData, error) {
			return rp.web.BeginLogin(person{workspace.User{ID: user}, has}, o...)
		}
	}
	assertion, session, err := begin()
	if err != nil {
		return nil, c, fmt.Errorf("ask for a passkey: %w", err)
	}
	options, err = json.Marshal(assertion.Response)
	return options, Challenge{Text: session.Challenge, User: user}, err
}

// Assertion is the answer of a passkey that is not checked yet.
type Assertion struct {
	parsed *protocol.ParsedCredentialAssertionData
}

// ParseAssertion reads an answer (AuthenticationResponseJSON). ErrPasskey.
func ParseAssertion(answer []byte) (Assertion, error) {
	parsed, err := protocol.ParseCredentialRequestResponseBytes(answer)
	if err != nil {
		return Assertion{}, passkeyError(err)
	}
	return Assertion{parsed}, nil
}

// Check checks that a passkey gave an answer to a challenge, and returns it as it has
// to be stored. ErrPasskey, ErrClonedPasskey.
func (rp *RelyingParty) Check(c Challenge, passkey Passkey, a Assertion) (Passkey, error) {
	owner := person{workspace.User{ID: passkey.UserID}, []Passkey{passkey}}
	session := webauthn.SessionData{
		Challenge: c.Text, RelyingPartyID: rp.web.Config.RPID, UserVerification: protocol.VerificationRequired,
	}
	var credential *webauthn.Credential
	var err error
	if c.User != "" {
		session.UserID = []byte(c.User)
		credential, err = rp.web.ValidateLogin(owner, session, a.parsed)
	} else {
		credential, err = rp.web.ValidateDiscoverableLogin(func(_, _ []byte) (webauthn.User, error) { return owner, nil }, session, a.parsed)
	}
	if err != nil {
		return passkey, passkeyError(err)
	}
	if credential.Authenticator.CloneWarning {
		return passkey, ErrClonedPasskey
	}
	passkey.credential = *credential
	return passkey, nil
}

type passkeyRow struct {
	ID         string           `db:"id"`
	UserID     workspace.UserID `db:"user_id"`
	Name       string           `db:"name"`
	Credential string           `db:"credential"`
	CreatedAt  workspace.Time   `db:"created_at"`
	LastUsedAt workspace.Time   `db:"last_used_at"`
}

// Passkeys lists the passkeys of a user, the oldest first.
func Passkeys(ctx context.Context, q sqlx.ExtContext, user workspace.UserID) ([]Passkey, error) {
	return listPasskeys(ctx, q, `user_id = ? ORDER BY created_at, id`, user)
}

// FindPasskey reads the passkey that gave an answer, which may be wrong. ErrPasskey:
// there is none.
func FindPasskey(ctx context.Context, q sqlx.ExtContext, a Assertion) (Passkey, error) {
	found, err := listPasskeys(ctx, q, `credential_id = ?`, []byte(a.parsed.RawID))
	if err != nil {
		return Passkey{}, err
	}
	if len(found) == 0 {
		return Passkey{}, fmt.Errorf("%w: it is not known here", ErrPasskey)
	}
	return found[0], nil
}

func listPasskeys(ctx context.Context, q sqlx.ExtContext, condition string, args ...any) ([]Passkey, error) {
	var rows []passkeyRow
	err := sqlx.SelectContext(ctx, q, &rows, `SELECT id, user_id, name, credential, created_at, last_used_at FROM passkeys WHERE `+condition, args...)
	if err != nil {
		return nil, fmt.Errorf("read passkeys: %w", err)
	}
	found := make([]Passkey, len(rows))
	for i, r := range rows {
		found[i] = Passkey{ID: r.ID, UserID: r.UserID, Name: r.Name, CreatedAt: r.CreatedAt, LastUsedAt: r.LastUsedAt}
		if err := json.Unmarshal([]byte(r.Credential), &found[i].credential); err != nil {
			return nil, fmt.Errorf("read passkey %s: %w", r.ID, err)
		}
	}
	return found, nil
}

// HasPasskeys reports whether a user has a passkey.
func HasPasskeys(ctx context.Context, q sqlx.ExtContext, user workspace.UserID) (bool, error) {
	var n int64
	if err := sqlx.GetContext(ctx, q, &n, `SELECT COUNT(*) FROM passkeys WHERE user_id = ?`, user); err != nil {
		return false, fmt.Errorf("count passkeys: %w", err)
	}
	return n > 0, nil
}

// InsertPasskey stores a new passkey. ErrConflict: it is there.
func InsertPasskey(ctx context.Context, tx sqlx.ExtContext, p Passkey) error {
	text, err := json.Marshal(p.credential)
	if err != nil {
		return fmt.Errorf("store a passkey: %w", err)
	}
	return changeOne(ctx, tx, fmt.Errorf("%w: the passkey is known already", workspace.ErrConflict),
		`INSERT INTO passkeys (id, credential_id, user_id, name, credential, created_at, last_used_at) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		p.ID, p.credential.ID, p.UserID, p.Name, string(text), p.CreatedAt, p.LastUsedAt)
}

// UsePasskey stores what changed in a passkey by its use. ErrNotFound: it is gone.
func UsePasskey(ctx context.Context, tx sqlx.ExtContext, p Passkey) error {
	text, err := json.Marshal(p.credential)
	if err != nil {
		return fmt.Errorf("store a passkey: %w", err)
	}
	return changeOne(ctx, tx, noPasskey(p.ID), `UPDATE passkeys SET credential = ?, last_used_at = ? WHERE id = ?`, string(text), p.LastUsedAt, p.ID)
}

// DeletePasskey removes a passkey of a user. ErrNotFound: they have no such one.
func DeletePasskey(ctx context.Context, tx sqlx.ExtContext, user workspace.UserID, id string) error {
	return changeOne(ctx, tx, noPasskey(id), `DELETE FROM passkeys WHERE user_id = ? AND id = ?`, user, id)
}

func noPasskey(id string) error { return fmt.Errorf("passkey %s: %w", id, workspace.ErrNotFound) }
