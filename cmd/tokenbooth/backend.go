package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/tokenbooth/tokenbooth/deploy/schema"
	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/keys/signing"
	"github.com/tokenbooth/tokenbooth/policy"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/change"
	"github.com/tokenbooth/tokenbooth/workspace/console"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// backend is what every command that works on the database shares: the database
// at the present schema, the installation's secrets, and the use cases.
type backend struct {
	config  *Config
	db      *schema.DB
	format  *keys.Format
	peppers keys.Peppers
	sealer  *signing.Sealer
	policy  *policy.Policy
	manager *manage.Manager
	now     func() time.Time // nil: time.Now
	demo    *console.Demo    // of dev alone; nil: there is none
}

// openBackend opens the configured database, brings it to the present schema, unless
// that is somebody else's task, and checks that the secrets belong to it.
func openBackend(ctx context.Context, config *Config, log *slog.Logger) (_ *backend, err error) {
	db, err := openDatabase(ctx, config.Database.URL)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = db.Close()
		}
	}()
	secrets, err := resolveSecrets(ctx, config, db, log)
	if err != nil {
		return nil, err
	}
	adopt := db.Check
	if config.Database.Migrate {
		adopt = db.Migrate
	}
	if err := adopt(ctx); err != nil {
		return nil, err
	}
	b, err := newBackend(config, db, secrets)
	if err != nil {
		return nil, err
	}
	return b, b.settle(ctx, secrets, workspace.Installation{})
}

// openDatabase makes an unreachable database an error that is worth a retry.
func openDatabase(ctx context.Context, url string) (*schema.DB, error) {
	db, err := schema.Open(ctx, url)
	if err != nil && schema.IsUnavailable(err) {
		return nil, exitWith(exitRetry, err, "is it running, and is database.url right?")
	}
	return db, err
}

// newBackend puts the parts together.
func newBackend(config *Config, db *schema.DB, secrets secretText) (*backend, error) {
	b := &backend{config: config, db: db}
	macKey, err := keys.ParseKey(secrets.IDKey)
	if err != nil {
		return nil, fmt.Errorf("secrets.id_key: %w", err)
	}
	if b.format, err = keys.NewFormat(config.Keys.Prefix, config.Keys.AcceptedPrefixes, macKey); err != nil {
		return nil, err
	}
	if b.peppers, err = keys.ParsePeppers(secrets.Pepper); err != nil {
		return nil, fmt.Errorf("secrets.pepper: %w", err)
	}
	if b.sealer, err = signing.ParseSealer(secrets.KeyEncryptionKey); err != nil {
		return nil, fmt.Errorf("secrets.key_encryption_key: %w", err)
	}
	if b.policy, err = newPolicy(config); err != nil {
		return nil, err
	}
	b.manager = b.managerAt(nil)
	return b, nil
}

// managerAt makes the use cases with a clock; nil is the present.
func (b *backend) managerAt(now func() time.Time) *manage.Manager {
	return &manage.Manager{
		Database: b.db, Format: b.format, Peppers: b.peppers, Sealer: b.sealer, Policy: b.policy,
		Timing: change.DefaultTiming, Signing: signingTiming(b.config), Now: now, Announce: b.config.Webhook.URL != "",
	}
}

// signingTiming is how signing keys are rotated. The life of tokens, the skew of
// clocks and the max-age of the keys are not for the operator to choose.
func signingTiming(c *Config) signing.Timing {
	timing := signing.DefaultTiming
	timing.TokenTTL = keys.MaxTokenTTL
	timing.PublishLead, timing.RotateEvery, timing.Retain = c.Signing.PublishLead, c.Signing.RotateEvery, c.Signing.Retain
	return timing
}

func newPolicy(config *Config) (*policy.Policy, error) {
	catalogue, err := policy.NewCatalogue(config.Catalogue.Resources, config.Catalogue.Roles)
	if err != nil {
		return nil, err
	}
	audiences, err := audiences(config, config.Audiences.Default)
	if err != nil {
		return nil, err
	}
	return &policy.Policy{Catalogue: catalogue, Audiences: audiences, TokenTTL: config.Tokens.TTL}, nil
}

// settle marks a new database with what belongs to it, and checks an old one.
func (b *backend) settle(ctx context.Context, secrets secretText, mark workspace.Installation) error {
	text, err := json.Marshal(secrets.fingerprints())
	if err != nil {
		return fmt.Errorf("fingerprints: %w", err)
	}
	mark.Fingerprints = string(text)
	setup := manage.Operator("setup")
	if err := b.manager.MarkInstallation(ctx, setup, mark); err != nil {
		return err
	}
	installation, err := workspace.FindInstallation(ctx, b.db.Reader())
	if err != nil {
		return err
	}
	inUse, err := keys.PepperVersions(ctx, b.db.Reader(), workspace.At(time.Now()))
	if err != nil {
		return err
	}
	if err := checkFingerprints(secrets, installation, inUse); err != nil {
		return err
	}
	return b.manager.SetFingerprints(ctx, setup, secrets.fingerprints())
}

func (b *backend) close() error { return b.db.Close() }
