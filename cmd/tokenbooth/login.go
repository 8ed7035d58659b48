package main

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

func newLoginCommand(env *environment) *cobra.Command {
	var o apiOptions
	command := &cobra.Command{
		Use:   "login [--url URL] [--profile NAME] [--client-secret-stdin] [--workspace WORKSPACE]",
		Short: "Keep a key on this machine for the other commands",
		Long: `Login checks the secret of a key and keeps it, with the URL, in a profile, which
becomes the current one. Other commands use it when neither flags nor the environment
say otherwise.

The secret comes from the environment (see tokenbooth help environment) or from
standard input, never from a flag. A personal key lets you do what you may do yourself.

The profile is called like the URL's host unless you name it. It is kept in
~/.config/tokenbooth/profiles.yaml, which only you can read.`,
		Example: `$ tokenbooth login --url https://login.example.com --client-secret-stdin <secret
$ pass show tokenbooth | tokenbooth login --url https://login.example.com --profile work --client-secret-stdin
$ tokenbooth whoami`,
		RunE: func(c *cobra.Command, _ []string) error { return logIn(c, env, o) },
	}
	o.addConnectionFlags(command)
	command.Flags().BoolVar(&o.secretStdin, "client-secret-stdin", false, "read the secret from standard input")
	return command
}

func logIn(c *cobra.Command, env *environment, o apiOptions) error {
	if o.profile != "" && !profileName.MatchString(o.profile) {
		return usagef(c, "--profile: a name has letters, digits, dots, colons, - and _, and begins with a letter or digit")
	}
	file, err := readProfiles(env)
	if err != nil {
		return err
	}
	p := profile{}
	if p.URL, err = o.loginURL(c, env, file); err != nil {
		return err
	}
	if p.Secret, err = o.secret(c, env); err != nil {
		return err
	}
	if !ownID.MatchString(p.Secret) {
		return exitWith(exitUsage, errors.New("that is not the secret of an API key: it is like tbs_… or tbp_…"), "is it copied whole? The key ID and tokens are something else")
	}
	who, err := o.checkKey(c, env, p)
	if err != nil {
		return err
	}
	p.ClientID, p.Workspace = who.ClientID, who.Workspace
	if name := o.workspaceNamed(env); name != "" {
		p.Workspace = name
	}
	name := o.loginName(file, p.URL)
	file.Profiles[name], file.Current = p, name
	if err := file.write(); err != nil {
		return err
	}
	fmt.Fprintf(env.stderr, "logged in to %s as %s with the key %s, workspace %s\nthe profile %s is kept in %s\n",
		p.URL, safe(who.Subject), safe(p.ClientID), safe(p.Workspace), safe(name), file.path)
	return nil
}

// loginURL is the one of the flags or the environment, else that of the profile to
// log in to again.
func (o *apiOptions) loginURL(c *cobra.Command, env *environment, file profiles) (string, error) {
	at := clientOptions{url: o.url}
	if p, ok := file.Profiles[o.profile]; ok && at.url == "" {
		at.url = p.URL
	}
	return at.issuerURL(c, env)
}

// loginName is what the profile is called. Logging in again keeps the name.
func (o *apiOptions) loginName(file profiles, at string) string {
	if o.profile != "" {
		return o.profile
	}
	if file.Profiles[file.Current].URL == at {
		return file.Current
	}
	u, err := url.Parse(at)
	if err != nil || !profileName.MatchString(u.Host) {
		return "default"
	}
	return u.Host
}

// checkKey asks whose the key is.
func (o *apiOptions) checkKey(c *cobra.Command, env *environment, p profile) (admin.Identity, error) {
	r, err := o.connect(c, env, apiTarget{url: p.URL, credential: p.Secret, variable: secretVariable})
	if err != nil {
		return admin.Identity{}, err
	}
	who, err := r.api.Whoami(c.Context())
	return who, r.failure(err)
}

func newLogoutCommand(env *environment) *cobra.Command {
	var name string
	command := &cobra.Command{
		Use:   "logout [--profile NAME]",
		Short: "Forget a key that login has kept",
		Long: `Logout removes a profile, or the current one, from this machine. Its key stays good:
tokenbooth keys revoke ends it.`,
		Example: "$ tokenbooth logout --profile staging",
		RunE: func(c *cobra.Command, _ []string) error {
			file, err := readProfiles(env)
			if err != nil {
				return err
			}
			return logOut(c, env, file, name)
		},
	}
	command.Flags().StringVar(&name, "profile", "", "the `NAME` of the profile (default the current one)")
	return command
}

func logOut(c *cobra.Command, env *environment, file profiles, name string) error {
	if name == "" {
		name = file.Current
	}
	if name == "" {
		return usagef(c, "there is no current profile: name one with --profile")
	}
	p, err := file.find(name)
	if err != nil {
		return err
	}
	delete(file.Profiles, name)
	if file.Current == name {
		file.Current = ""
	}
	if err := file.write(); err != nil {
		return err
	}
	fmt.Fprintf(env.stderr, "the profile %s is gone; its key %s is still good: tokenbooth keys revoke ends it\n", safe(name), safe(p.ClientID))
	return nil
}
