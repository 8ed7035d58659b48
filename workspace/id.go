package workspace

import (
	"encoding/base32"

	"github.com/google/uuid"
)

// ID names a workspace: ws_ and 26 characters.
type ID string

// UserID names a person: usr_ and 26 characters.
type UserID string

// ServiceAccountID names a non-human identity: sa_ and 26 characters.
type ServiceAccountID string

// NewID makes a workspace ID.
func NewID() ID { return ID("ws_" + Unique()) }

// NewUserID makes a user ID.
func NewUserID() UserID { return UserID("usr_" + Unique()) }

// NewServiceAccountID makes a service account ID.
func NewServiceAccountID() ServiceAccountID { return ServiceAccountID("sa_" + Unique()) }

// crockford is Crockford's base32 alphabet in lower case.
var crockford = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// Unique returns 26 characters of [0-9a-z] that no other call returns: a UUIDv7
// (RFC 9562 §5.7), so they sort roughly by time. They are not secret.
func Unique() string {
	u := uuid.Must(uuid.NewV7()) // fails only when the system has no randomness
	var text [26]byte
	crockford.Encode(text[:], u[:])
	return string(text[:])
}
