package main

import (
	"github.com/tokenbooth/tokenbooth/workspace/console"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

// newConsole makes the web console.
func (s *server) newConsole() *console.Handler {
	return &console.Handler{
		Issuer: s.config.Issuer, Manager: s.manager, Log: s.log, Note: note, Demo: s.demo,
		Sessions: identity.NewSessions(s.db.Reader(), s.db.Writer(), identity.SessionOptions{Now: s.now}),
	}
}
