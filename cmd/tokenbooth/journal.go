package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/tokenbooth/tokenbooth/policy/revocation"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
)

// openJournal opens the configured journal of revocations for the life of a server,
// and lets the use cases wait for it. It refuses when the database has lost what the
// journal has, since a server would issue tokens for revoked keys. Without a
// configured one it does nothing.
func openJournal(ctx context.Context, b *backend, log *slog.Logger) (shut func(), err error) {
	path := b.config.Revocation.Journal
	if path == "" {
		return func() {}, nil
	}
	installation, err := installationOf(ctx, b.db.Reader())
	if err != nil {
		return nil, err
	}
	j, err := revocation.OpenJournal(path, installation, log)
	if err != nil {
		return nil, exitWith(exitFailure, err, "")
	}
	shut = func() {
		if err := j.Close(); err != nil {
			log.Error("cannot close the journal of revocations", "journal", path, "error", err)
		}
	}
	if err := j.Check(ctx, b.db.Reader()); err != nil {
		shut()
		return nil, refuseRestored(path, err)
	}
	if err := j.Compact(time.Now()); err != nil {
		log.Warn("the journal of revocations keeps what has expired", "error", err)
	}
	b.manager.Journal = j
	return shut, nil
}

// refuseRestored says what to do about a database that has lost revocations.
func refuseRestored(path string, err error) error {
	if !errors.Is(err, revocation.ErrBackwards) {
		return err
	}
	return exitWith(exitFailure, fmt.Errorf("this database was restored from a backup, and keys that were revoked since would work again: %w", err),
		"`tokenbooth restore-check --journal "+path+"` says what was lost; with --apply it brings that back")
}

// followJournal lets the journal take in what other replicas have revoked. The
// replica does not wait for it: nothing is acknowledged by that.
func (b *backend) followJournal(context.Context, change.Batch) error {
	if b.manager.Journal != nil {
		b.manager.Journal.Hurry(b.db.Reader())
	}
	return nil
}

// installationOf names an installation in its journals: by the fingerprint of the
// secret that all of its key IDs depend on.
func installationOf(ctx context.Context, q sqlx.ExtContext) (string, error) {
	installation, err := workspace.FindInstallation(ctx, q)
	if err != nil {
		return "", err
	}
	prints, err := installation.Prints()
	return prints["id_key"], err
}
