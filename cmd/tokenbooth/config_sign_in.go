package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tokenbooth/tokenbooth/workspace"
)

// checkProvider follows OpenID Connect Discovery section 3. A trailing slash is part
// of the name of some providers.
func checkProvider(issuer string) error {
	if issuer == "" {
		return nil
	}
	u, err := parsePlainURL(issuer)
	if err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
		return fmt.Errorf("%q would carry secrets unencrypted", issuer)
	}
	return err
}

func checkClientID(c *Config) error {
	if c.SignIn.OIDC.Issuer != "" && c.SignIn.OIDC.ClientID == "" {
		return errors.New("is required, because sign_in.oidc.issuer is set")
	}
	return needsProvider(c, c.SignIn.OIDC.ClientID != "")
}

// needsProvider refuses what means nothing without a provider: somebody thinks that
// there is one.
func needsProvider(c *Config, set bool) error {
	if set && c.SignIn.OIDC.Issuer == "" {
		return errors.New("is set, but sign_in.oidc.issuer is not")
	}
	return nil
}

func needsClaim(c *Config, set bool) error {
	if set && c.SignIn.OIDC.Issuer != "" && c.SignIn.OIDC.Claim == "" {
		return errors.New("is set, but sign_in.oidc.claim, which says where the groups are, is not")
	}
	return needsProvider(c, set)
}

func checkScopes(scopes []string) error {
	if !slices.Contains(scopes, "openid") {
		return errors.New("lacks openid")
	}
	for _, scope := range scopes {
		if scope == "" || strings.ContainsAny(scope, " \"\\") {
			return fmt.Errorf("has %q, which is no scope", scope)
		}
	}
	return nil
}

func checkMapping(c *Config) error {
	mistakes := []error{needsClaim(c, len(c.SignIn.OIDC.Workspaces) > 0)}
	for i, w := range c.SignIn.OIDC.Workspaces {
		if w.Value == "" || w.Workspace == "" {
			mistakes = append(mistakes, fmt.Errorf("item %d lacks a value or a workspace", i+1))
		}
		if (workspace.Member{Role: workspace.Role(w.Role)}).Validate() != nil {
			mistakes = append(mistakes, fmt.Errorf("item %d has the role %q: use owner, manager or viewer", i+1, w.Role))
		}
	}
	return errors.Join(mistakes...)
}
