package main

import (
	"context"
	"fmt"
	"io"

	"github.com/tokenbooth/tokenbooth/workspace/console"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
	"github.com/tokenbooth/tokenbooth/workspace/manage"
)

// newConsole makes the web console.
func (s *server) newConsole() *console.Handler {
	return &console.Handler{
		Issuer: s.config.Issuer, Manager: s.manager, Log: s.log, Note: note, Demo: s.demo,
		Provider: s.provider(), Mapping: mapped(s.config),
		Sessions: identity.NewSessions(s.db.Reader(), s.db.Writer(), identity.SessionOptions{
			Lifetime: s.config.Console.SessionLifetime, Idle: s.config.Console.SessionIdle, Now: s.now,
		}),
	}
}

// offerSetUp prints the address that makes the first organization admin, if nobody
// can sign in yet: to standard output and not to the log, for it is a secret.
func offerSetUp(ctx context.Context, b *backend, w io.Writer) error {
	link, needed, err := b.manager.SetUpLink(ctx, manage.Operator("serve"))
	if err != nil || !needed {
		return err
	}
	_, err = fmt.Fprintf(w, "Nobody can sign in yet. Set up Tokenbooth within 30 minutes:\n%s\n", console.LinkURL(b.config.Issuer, link))
	return err
}
