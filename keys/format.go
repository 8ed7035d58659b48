package keys

import (
	"crypto/hmac"
	"encoding/base32"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// Errors of the format. They depend on the input alone, so telling them apart
// in an answer tells nothing about what exists.
var (
	// ErrForeignID: not an ID that this installation made.
	ErrForeignID = errors.New("not a key ID of this installation")
	// ErrForeignSecret: it does not even begin like a secret of ours.
	ErrForeignSecret = errors.New("not a secret of this installation")
	// ErrMalformedSecret: it begins like a secret, but its length, characters or
	// checksum are wrong: truncated or edited when it was copied.
	ErrMalformedSecret = errors.New("malformed secret")
)

// Kind tells whose credential a secret is.
type Kind byte

// The kinds, each the letter in its prefix.
const (
	ServiceKey  Kind = 's' // tbs_…, of a service account
	PersonalKey Kind = 'p' // tbp_…, of a user
)

// idLength is the length of an ID after its prefix: 128 bits in base32.
const idLength = 26

// macSize is how much of an ID's UUID is its message authentication code.
const macSize = 4

// crockford is Crockford's base32 alphabet in lower case: no padding, one case,
// no letters that are mistaken for digits.
var crockford = base32.NewEncoding(crockfordAlphabet).WithPadding(base32.NoPadding)

const crockfordAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

var validPrefix = regexp.MustCompile(`^[a-z][a-z0-9_]{1,23}$`)

// ID names an API key: it is the client_id. It is not secret and never changes.
type ID string

// Format makes and recognises the IDs and secrets of one installation:
//
//	ID      <prefix>k_ <26>                  UUIDv7 in base32, its last 32 bits a MAC
//	secret  <prefix>s_ <the same 26> _ <43> <6>  256 random bits and a CRC-32 in base62
//
// The alphabet is [0-9A-Za-z_], which is safe unencoded in forms, shells, YAML,
// JSON and Basic authentication. The prefix stands literally in front, so that
// "acme_live_" makes "acme_live_k_…".
type Format struct {
	prefix   string
	accepted []string // the prefix and older ones
	secrets  []beginning
	macKey   *macKey
}

// beginning is what secrets of one kind and prefix begin with.
type beginning struct {
	text string
	kind Kind
}

// NewFormat checks the prefixes and the key that authenticates IDs (32 bytes).
func NewFormat(prefix string, accepted []string, idKey []byte) (*Format, error) {
	for _, p := range slices.Concat([]string{prefix}, accepted) {
		if err := CheckPrefix(p); err != nil {
			return nil, err
		}
	}
	if len(idKey) != 32 {
		return nil, fmt.Errorf("the key for key IDs has %d bytes: 32 are needed", len(idKey))
	}
	f := &Format{prefix: prefix, accepted: slices.Concat([]string{prefix}, accepted), macKey: newMACKey(idKey)}
	for _, p := range f.accepted {
		for _, k := range []Kind{ServiceKey, PersonalKey} {
			f.secrets = append(f.secrets, beginning{p + string(k) + "_", k})
		}
	}
	return f, nil
}

// CheckPrefix checks the form of a prefix.
func CheckPrefix(prefix string) error {
	if !validPrefix.MatchString(prefix) {
		return fmt.Errorf("the key prefix %q: use 2 to 24 lower-case letters, digits and underscores, beginning with a letter", prefix)
	}
	return nil
}

// NewID makes an ID that no other call returns.
func (f *Format) NewID() ID {
	u := uuid.Must(uuid.NewV7()) // fails only when the system has no randomness
	mac := f.mac(u)
	copy(u[len(u)-macSize:], mac[:])
	return ID(f.prefix + "k_" + crockford.EncodeToString(u[:]))
}

// ParseID recognises an ID that this installation made, without looking it up:
// an invented one fails its MAC, but for one in four thousand million. The error
// is ErrForeignID.
func (f *Format) ParseID(s string) (ID, error) {
	if len(s) < idLength || !f.begins(s[:len(s)-idLength], "k_") {
		return "", ErrForeignID
	}
	u, ok := decodeID(s[len(s)-idLength:])
	if !ok {
		return "", ErrForeignID
	}
	if mac := f.mac(u); !hmac.Equal(mac[:], u[len(u)-macSize:]) {
		return "", ErrForeignID
	}
	return ID(s), nil
}

// begins reports whether s is an accepted prefix and the letter that follows it.
func (f *Format) begins(s, letter string) bool {
	p, ok := strings.CutSuffix(s, letter)
	return ok && slices.Contains(f.accepted, p)
}

// mac is the end of an ID, which authenticates what precedes it.
func (f *Format) mac(id [16]byte) [macSize]byte {
	code := f.macKey.code(string(id[:len(id)-macSize]))
	return [macSize]byte(code[:])
}

// decodeID is what crockford encodes as the text, and whether there is that. The last
// character has two bits too many, which are zero in the one right form.
func decodeID(text string) (id [16]byte, ok bool) {
	var bits, count uint
	n := 0
	for i := range idLength {
		digit := crockfordDigits[text[i]]
		if digit == notCrockford {
			return id, false
		}
		bits, count = bits<<5|uint(digit), count+5
		if count >= 8 {
			count -= 8
			id[n] = byte(bits >> count)
			n++
		}
	}
	return id, bits&3 == 0
}

const notCrockford = 0xff

// crockfordDigits are the values of the characters of the alphabet.
var crockfordDigits = func() (values [256]byte) {
	for i := range values {
		values[i] = notCrockford
	}
	for value, c := range []byte(crockfordAlphabet) {
		values[c] = byte(value)
	}
	return values
}()
