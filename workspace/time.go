package workspace

import (
	"database/sql/driver"
	"fmt"
	"time"
)

// Time is an instant as the stores keep it: microseconds since 1970 in UTC, the
// zero value as NULL. Both databases keep that form exactly.
type Time struct{ time.Time }

// At truncates t to what the stores keep.
func At(t time.Time) Time { return Time{t.UTC().Truncate(time.Microsecond)} }

// Value implements driver.Valuer.
func (t Time) Value() (driver.Value, error) {
	if t.IsZero() {
		return nil, nil
	}
	return t.UnixMicro(), nil
}

// MarshalJSON writes RFC 3339, and null for the zero value.
func (t Time) MarshalJSON() ([]byte, error) {
	if t.IsZero() {
		return []byte("null"), nil
	}
	return t.Time.MarshalJSON()
}

// Scan implements sql.Scanner.
func (t *Time) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*t = Time{}
	case int64:
		*t = Time{time.UnixMicro(v).UTC()}
	default:
		return fmt.Errorf("scan time: want microseconds, found %T", src)
	}
	return nil
}
