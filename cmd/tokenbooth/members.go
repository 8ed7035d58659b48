package main

import (
	"context"
	"fmt"
	"iter"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tokenbooth/tokenbooth/workspace/admin"
)

var memberColumns = []column[admin.Member]{
	{name: "email", text: func(m admin.Member) string { return m.Email }},
	{name: "name", text: func(m admin.Member) string { return m.Name }},
	{name: "role", text: func(m admin.Member) string { return m.Role }},
	{name: "user_id", text: func(m admin.Member) string { return m.UserID }},
	{name: "enabled", text: func(m admin.Member) string { return yesNo(m.Enabled) }},
	{name: "created_at", at: func(m admin.Member) *time.Time { return &m.CreatedAt }},
	{name: "updated_at", at: func(m admin.Member) *time.Time { return &m.UpdatedAt }, detail: true},
}

func newMembersCommand(env *environment) *cobra.Command {
	command := &cobra.Command{
		Use:   "members",
		Short: "Manage who is in a workspace",
		Long: `Members shows and changes who is in a workspace: an owner manages everything, a
manager everything but members, a viewer looks. A member is named by user ID or e-mail
address.`,
		Example: `$ tokenbooth members list
$ tokenbooth members add ada@example.com --role manager
$ tokenbooth members remove ada@example.com`,
	}
	command.AddCommand(newMembersListCommand(env), newMemberShowCommand(env), newMemberAddCommand(env), newMemberUpdateCommand(env), newMemberRemoveCommand(env))
	return command
}

func newMembersListCommand(env *environment) *cobra.Command {
	var o apiOptions
	var l listFlags
	command := &cobra.Command{
		Use:     "list [--q TEXT] [--role ROLE] [-o FORMAT]",
		Short:   "Show the members of a workspace",
		Long:    "List shows the members of a workspace.",
		Example: "$ tokenbooth members list --role owner",
		RunE: func(c *cobra.Command, _ []string) error {
			query, err := l.query(c)
			if err != nil {
				return err
			}
			return o.runIn(c, env, func(r *apiRun, ws string) error {
				return printPages(r, r.api.Members(c.Context(), ws, query), l, memberColumns)
			})
		},
	}
	o.addFlags(command)
	l.add(command, 0)
	l.text(command, "q", "q", "only those whose name or address contains `TEXT`")
	l.text(command, "role", "role", "only those with that `ROLE`: "+memberRoles)
	return command
}

const memberRoles = "owner, manager, viewer"

func newMemberShowCommand(env *environment) *cobra.Command {
	var o apiOptions
	command := &cobra.Command{
		Use:     "show USER [-o FORMAT]",
		Short:   "Show a member",
		Long:    "Show shows a member, who is named by user ID or e-mail address.",
		Example: "$ tokenbooth members show ada@example.com",
		Args:    argumentNames("USER"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.runIn(c, env, func(r *apiRun, ws string) error {
				user, err := r.memberID(c.Context(), ws, args[0])
				if err != nil {
					return err
				}
				return one(r, memberColumns)(r.api.Member(c.Context(), ws, user))
			})
		},
	}
	o.addFlags(command)
	return command
}

func newMemberAddCommand(env *environment) *cobra.Command {
	var o apiOptions
	var n admin.NewMember
	command := &cobra.Command{
		Use:   "add USER --role ROLE",
		Short: "Put a person into a workspace",
		Long: `Add puts a person into a workspace, by user ID or e-mail address. What a role may do
is in tokenbooth members --help.`,
		Example: "$ tokenbooth members add ada@example.com --role manager",
		Args:    argumentNames("USER"),
		RunE: func(c *cobra.Command, args []string) error {
			if n.Role == "" {
				return usagef(c, "which role? give --role, one of %s", memberRoles)
			}
			if strings.Contains(args[0], "@") {
				n.Email = args[0]
			} else {
				n.UserID = args[0]
			}
			return o.runIn(c, env, func(r *apiRun, ws string) error {
				return one(r, memberColumns)(r.api.AddMember(c.Context(), ws, n))
			})
		},
	}
	o.addFlags(command)
	addMemberRole(command, &n.Role)
	return command
}

func newMemberUpdateCommand(env *environment) *cobra.Command {
	var o apiOptions
	var change admin.MemberChange
	command := &cobra.Command{
		Use:     "update USER --role ROLE",
		Short:   "Change what a member may do",
		Long:    "Update changes the role of a member, who is named by user ID or e-mail address.",
		Example: "$ tokenbooth members update ada@example.com --role viewer",
		Args:    argumentNames("USER"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := wantChange(c, "role"); err != nil {
				return err
			}
			return o.runIn(c, env, func(r *apiRun, ws string) error {
				user, err := r.memberID(c.Context(), ws, args[0])
				if err != nil {
					return err
				}
				return one(r, memberColumns)(r.api.UpdateMember(c.Context(), ws, user, change))
			})
		},
	}
	o.addFlags(command)
	addMemberRole(command, &change.Role)
	return command
}

func addMemberRole(c *cobra.Command, role *string) {
	c.Flags().StringVar(role, "role", "", "the `ROLE`: "+memberRoles)
	_ = c.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(strings.Split(memberRoles, ", "), cobra.ShellCompDirectiveNoFileComp))
}

func newMemberRemoveCommand(env *environment) *cobra.Command {
	var o apiOptions
	command := &cobra.Command{
		Use:   "remove USER",
		Short: "Take a person out of a workspace",
		Long: `Remove takes a person out of a workspace, by user ID or e-mail address. Their personal
keys for it stop working at once. The last owner stays.`,
		Example: "$ tokenbooth members remove ada@example.com",
		Args:    argumentNames("USER"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.quietlyIn(c, env, func(r *apiRun, ws string) error {
				user, err := r.memberID(c.Context(), ws, args[0])
				if err != nil {
					return err
				}
				return r.api.RemoveMember(c.Context(), ws, user)
			})
		},
	}
	o.addQuietFlags(command)
	return command
}

// byAddress tells whether somebody is named by an address that has to be looked up,
// since the API knows people by ID. A request that is only shown looks nobody up.
func (r *apiRun) byAddress(named string) bool {
	if !strings.Contains(named, "@") {
		return false
	}
	if r.o.showCurl {
		fmt.Fprintln(r.env.stderr, "put the user's ID in the place of the address")
	}
	return !r.o.showCurl
}

// memberID is the ID of a member who is named by it, or by address.
func (r *apiRun) memberID(ctx context.Context, ws, named string) (string, error) {
	if !r.byAddress(named) {
		return named, nil
	}
	return withAddress(r.api.Members(ctx, ws, url.Values{"q": {named}}), named, func(m admin.Member) (id, email string) { return m.UserID, m.Email })
}

// userID is the ID of a user who is named by it, or by address.
func (r *apiRun) userID(ctx context.Context, named string) (string, error) {
	if !r.byAddress(named) {
		return named, nil
	}
	return withAddress(r.api.Users(ctx, url.Values{"q": {named}}), named, func(u admin.User) (id, email string) { return u.ID, u.Email })
}

// withAddress finds the one whose address that is.
func withAddress[T any](list iter.Seq2[T, error], address string, of func(T) (id, email string)) (string, error) {
	for person, err := range list {
		if err != nil {
			return "", err
		}
		if id, email := of(person); strings.EqualFold(email, address) {
			return id, nil
		}
	}
	return "", exitWith(exitNotFound, fmt.Errorf("nobody there has the address %s", safe(address)), "list shows who there is")
}
