package workspace

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// MadeByDev marks a database of throw-away data.
const MadeByDev = "dev"

// Installation says what made the database, and which secrets and issuer belong to it.
type Installation struct {
	MadeBy       string `db:"made_by"`      // "dev", or empty
	Fingerprints string `db:"fingerprints"` // of the secrets that belong to it: a JSON object
	DevSecrets   string `db:"dev_secrets"`  // of a throw-away database: those secrets
}

// FindInstallation reads the mark. ErrNotFound: nothing has been set up yet.
func FindInstallation(ctx context.Context, q sqlx.ExtContext) (Installation, error) {
	var i Installation
	err := sqlx.GetContext(ctx, q, &i, `SELECT made_by, fingerprints, dev_secrets FROM installation WHERE id = 1`)
	if errors.Is(err, sql.ErrNoRows) {
		return i, fmt.Errorf("installation: %w", ErrNotFound)
	}
	if err != nil {
		return i, fmt.Errorf("read installation: %w", err)
	}
	return i, nil
}

// Prints are the fingerprints by name.
func (i Installation) Prints() (prints map[string]string, err error) {
	if err := json.Unmarshal([]byte(i.Fingerprints), &prints); err != nil {
		return nil, fmt.Errorf("the installation's fingerprints: %w", err)
	}
	return prints, nil
}

// SetFingerprints replaces the fingerprints.
func SetFingerprints(ctx context.Context, tx sqlx.ExtContext, fingerprints string) error {
	_, err := updateOne(ctx, tx, `UPDATE installation SET fingerprints = ? WHERE id = 1`, fingerprints)
	return err
}

// InsertInstallation sets the mark. ErrConflict: it is set already.
func InsertInstallation(ctx context.Context, tx sqlx.ExtContext, i Installation, at Time) error {
	return insertOnce(ctx, tx, "an installation", `INSERT INTO installation (id, made_by, fingerprints, dev_secrets, created_at)
		VALUES (1, ?, ?, ?, ?) ON CONFLICT DO NOTHING`, i.MadeBy, i.Fingerprints, i.DevSecrets, at)
}
