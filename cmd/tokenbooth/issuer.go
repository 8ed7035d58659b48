package main

import (
	"context"
	"log/slog"

	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// issuerPrint is the name of the issuer among what belongs to an installation.
const issuerPrint = "issuer"

// noteIssuer warns when a database is served with another issuer than before: it is
// in every token, and services take none of a stranger. A variable that is missing in
// a new shell is enough for that.
func (b *backend) noteIssuer(ctx context.Context, log *slog.Logger) error {
	installation, err := workspace.FindInstallation(ctx, b.db.Reader())
	if err != nil {
		return err
	}
	prints, err := installation.Prints()
	if err != nil {
		return err
	}
	before, now := prints[issuerPrint], b.config.Issuer
	if before == now {
		return nil
	}
	if before != "" {
		log.Warn("the issuer is another one than before: services refuse new tokens until they are configured for it; set issuer if that was not meant",
			"issuer", now, "before", before)
	}
	return b.manager.SetFingerprints(ctx, manage.Operator("setup"), map[string]string{issuerPrint: now})
}
