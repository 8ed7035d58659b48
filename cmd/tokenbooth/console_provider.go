package main

import (
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/identity"
)

// provider is the OpenID provider that people sign in with; nil if there is none.
func (s *server) provider() *identity.Provider {
	o := s.config.SignIn.OIDC
	if o.Issuer == "" {
		return nil
	}
	return identity.NewProvider(identity.ProviderOptions{
		Issuer: o.Issuer, ClientID: o.ClientID, ClientSecret: o.ClientSecret, Name: o.Name, Scopes: o.Scopes, Claim: o.Claim,
		RedirectURL: s.config.Issuer + "/sign-in/oidc/callback", Now: s.now,
	})
}

// mapped is what the provider's groups give here.
func mapped(c *Config) identity.Mapping {
	m := identity.Mapping{Admins: c.SignIn.OIDC.Admins}
	for _, w := range c.SignIn.OIDC.Workspaces {
		m.Workspaces = append(m.Workspaces, identity.MappedWorkspace{Value: w.Value, Workspace: w.Workspace, Role: workspace.Role(w.Role)})
	}
	return m
}
