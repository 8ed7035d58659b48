package main

import (
	"fmt"
	"log/slog"

	"github.com/tokenbooth/tokenbooth/workspace/webhook"
)

// newWebhook makes the sender of events. Without a URL it is there for the
// metrics alone and must not run.
func newWebhook(b *backend, log *slog.Logger) (*webhook.Sender, error) {
	s := &webhook.Sender{Database: b.db, URL: b.config.Webhook.URL, Log: log}
	if s.URL == "" {
		return s, nil
	}
	var err error
	if s.Secret, err = webhook.ParseSecret(b.config.Webhook.Secret); err != nil {
		return nil, fmt.Errorf("webhook.secret: %w", err)
	}
	return s, nil
}
