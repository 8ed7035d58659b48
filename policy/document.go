package policy

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// Kind says what a document is about.
type Kind string

// The kinds of documents.
const (
	KindKeys  Kind = "keys"  // Rules
	KindQuota Kind = "quota" // quota.Limits
)

// Organization is the subject of documents that are for every workspace.
const Organization = "organization"

// Subject is how the change log and the audit log name a document.
func (k Kind) Subject(of string) string {
	if k == KindQuota {
		return "quota:" + of
	}
	return "policy:" + of
}

// Document is one version of what somebody decided. The zero value is that nobody
// has decided anything.
type Document[T any] struct {
	Value     T
	Version   int64 // 1 and up; 0: there is none
	CreatedAt workspace.Time
	CreatedBy string
}

// Stored is a document as it is stored.
type Stored struct {
	Kind      Kind           `db:"kind"`
	Subject   string         `db:"subject_id"` // Organization or a workspace's ID
	Version   int64          `db:"version"`
	Text      string         `db:"document"` // JSON
	CreatedAt workspace.Time `db:"created_at"`
	CreatedBy string         `db:"created_by"`
}

// InsertDocument stores a new version.
func InsertDocument(ctx context.Context, tx sqlx.ExtContext, d Stored) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO policies (kind, subject_id, version, document, created_at, created_by) VALUES (?, ?, ?, ?, ?, ?)`,
		d.Kind, d.Subject, d.Version, d.Text, d.CreatedAt, d.CreatedBy)
	if err != nil {
		return fmt.Errorf("insert the %s document of %s: %w", d.Kind, d.Subject, err)
	}
	return nil
}

// documentColumns are cast, since a column of SQLite holds whatever somebody writes
// to it: what is not of its type is a document that cannot be understood, or a time
// long ago, and no error of reading.
const documentColumns = `kind, subject_id, CAST(version AS BIGINT) AS version, COALESCE(CAST(document AS TEXT), '') AS document,
	CAST(created_at AS BIGINT) AS created_at, CAST(created_by AS TEXT) AS created_by`

// Versions reads the documents of a subject, the newest first.
func Versions(ctx context.Context, q sqlx.ExtContext, kind Kind, subject string) ([]Stored, error) {
	var found []Stored
	err := sqlx.SelectContext(ctx, q, &found, `SELECT `+documentColumns+` FROM policies WHERE kind = ? AND subject_id = ? ORDER BY version DESC`, kind, subject)
	if err != nil {
		return nil, fmt.Errorf("read the %s documents of %s: %w", kind, subject, err)
	}
	return found, nil
}

// newest reads the newest document of each subject.
func newest(ctx context.Context, q sqlx.ExtContext, kind Kind) ([]Stored, error) {
	var found []Stored
	err := sqlx.SelectContext(ctx, q, &found, `SELECT `+documentColumns+` FROM policies p WHERE kind = ? AND version =
		(SELECT MAX(version) FROM policies o WHERE o.kind = p.kind AND o.subject_id = p.subject_id) ORDER BY subject_id`, kind)
	if err != nil {
		return nil, fmt.Errorf("read the %s documents: %w", kind, err)
	}
	return found, nil
}

// Current reads the newest document of a subject that can be understood. fault is
// what is wrong with a newer one, which is passed over: a document that somebody
// broke must not take exchanges down.
func Current[T any](ctx context.Context, q sqlx.ExtContext, kind Kind, subject string, parse func(string) (T, error)) (d Document[T], fault, err error) {
	versions, err := Versions(ctx, q, kind, subject)
	if err != nil {
		return d, nil, err
	}
	d, fault = choose(versions, parse)
	return d, fault, nil
}

// choose takes the first document that can be understood.
func choose[T any](versions []Stored, parse func(string) (T, error)) (d Document[T], fault error) {
	for _, v := range versions {
		value, err := parse(v.Text)
		if err == nil {
			return Document[T]{Value: value, Version: v.Version, CreatedAt: v.CreatedAt, CreatedBy: v.CreatedBy}, fault
		}
		if fault == nil {
			fault = fmt.Errorf("version %d of the %s document of %s: %w", v.Version, v.Kind, v.Subject, err)
		}
	}
	return d, fault
}

// Documents reads the document of every subject that has one, as Current does. faults are
// of the subjects with a newer one that cannot be understood.
func Documents[T any](ctx context.Context, q sqlx.ExtContext, kind Kind, parse func(string) (T, error)) (documents map[string]Document[T], faults map[string]error, err error) {
	found, err := newest(ctx, q, kind)
	if err != nil {
		return nil, nil, err
	}
	documents, faults = map[string]Document[T]{}, map[string]error{}
	for _, stored := range found {
		versions := []Stored{stored}
		if _, fault := parse(stored.Text); fault != nil {
			if versions, err = Versions(ctx, q, kind, stored.Subject); err != nil {
				return nil, nil, err
			}
		}
		d, fault := choose(versions, parse)
		documents[stored.Subject] = d
		if fault != nil {
			faults[stored.Subject] = fault
		}
	}
	return documents, faults, nil
}
