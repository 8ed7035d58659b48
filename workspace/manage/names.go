package manage

import (
	"context"
	"errors"
	"strings"

	"github.com/tokenbooth/tokenbooth/keys"
	"github.com/tokenbooth/tokenbooth/workspace"
	"github.com/tokenbooth/tokenbooth/workspace/audit"
)

// Named is what people call what an ID stands for.
type Named struct {
	Name string // of a user the address; empty: it was deleted with the user
	Gone bool   // deleted
}

// Names reads what the IDs of an audit log stand for: users, and in a workspace its
// service accounts and keys. With an empty workspace it is the log of the
// installation. What the caller's log does not know of is left out: in a workspace
// that is a user who was never in it and is no organization admin.
func (m *Manager) Names(ctx context.Context, by Caller, in workspace.ID, ids []string) (found map[string]Named, err error) {
	op := operation{need: "audit:read", in: in}
	if in == "" {
		op.need = seeAll
	}
	err = m.view(ctx, by, op, func(ctx context.Context, u *unit) error {
		found = map[string]Named{}
		users, accounts, others := sortIDs(ids)
		if err := u.nameUsers(ctx, in, users, found); err != nil || in == "" {
			return err
		}
		if err := u.nameAccounts(ctx, in, accounts, found); err != nil {
			return err
		}
		return u.nameKeys(ctx, in, others, found)
	})
	return found, err
}

// sortIDs tells IDs apart by their beginnings, which the operator chooses for keys.
func sortIDs(ids []string) (users []workspace.UserID, accounts []workspace.ServiceAccountID, others []keys.ID) {
	for _, id := range ids {
		switch {
		case strings.HasPrefix(id, "usr_"):
			users = append(users, workspace.UserID(id))
		case strings.HasPrefix(id, "sa_"):
			accounts = append(accounts, workspace.ServiceAccountID(id))
		case strings.Contains(id, "k_"):
			others = append(others, keys.ID(id))
		}
	}
	return users, accounts, others
}

func (u *unit) nameUsers(ctx context.Context, in workspace.ID, ids []workspace.UserID, found map[string]Named) error {
	users, err := workspace.UsersOf(ctx, u.tx, ids)
	if err != nil {
		return err
	}
	known, err := u.concerned(ctx, in, users)
	if err != nil {
		return err
	}
	for _, user := range users {
		if in != "" && !user.OrganizationAdmin && !known[string(user.ID)] {
			continue
		}
		named := Named{Name: user.Email, Gone: !user.DeletedAt.IsZero()}
		if named.Gone {
			named.Name = ""
		}
		found[string(user.ID)] = named
	}
	return nil
}

// concerned says which users the log of a workspace is about.
func (u *unit) concerned(ctx context.Context, in workspace.ID, users []workspace.User) (map[string]bool, error) {
	if in == "" {
		return nil, nil
	}
	var ids []string
	for _, user := range users {
		ids = append(ids, string(user.ID))
	}
	return audit.Concerned(ctx, u.tx, string(in), ids)
}

func (u *unit) nameAccounts(ctx context.Context, in workspace.ID, ids []workspace.ServiceAccountID, found map[string]Named) error {
	accounts, err := workspace.ServiceAccountsOf(ctx, u.tx, in, ids)
	for _, sa := range accounts {
		found[string(sa.ID)] = Named{Name: sa.Name, Gone: !sa.DeletedAt.IsZero()}
	}
	return err
}

func (u *unit) nameKeys(ctx context.Context, in workspace.ID, ids []keys.ID, found map[string]Named) error {
	named, err := keys.NamesOf(ctx, u.tx, in, ids)
	for _, k := range named {
		found[string(k.ID)] = Named{Name: k.Name, Gone: !k.DeletedAt.IsZero()}
	}
	return err
}

// LogID finds the ID by which an audit log names somebody: a user by their address,
// a service account by its name. What it does not know is returned as it is, and is
// an ID or the name of an operator.
func (m *Manager) LogID(ctx context.Context, by Caller, in workspace.ID, text string) (id string, err error) {
	if !strings.Contains(text, "@") {
		if in == "" || strings.Contains(text, "_") {
			return text, nil
		}
		found, err := m.ResolveServiceAccount(ctx, in, text)
		return string(found), err
	}
	address, err := workspace.NormalEmail(text)
	if err != nil {
		return text, err
	}
	user, err := workspace.UserByEmail(ctx, m.Database.Reader(), address)
	if errors.Is(err, workspace.ErrNotFound) {
		return text, nil
	}
	if err != nil {
		return text, err
	}
	known, err := m.Names(ctx, by, in, []string{string(user.ID)})
	if _, visible := known[string(user.ID)]; err != nil || !visible {
		return text, err
	}
	return string(user.ID), nil
}

// LiveKeys counts the live keys of service accounts or members; one without any is
// missing.
func (m *Manager) LiveKeys(ctx context.Context, by Caller, in workspace.ID, owners []string) (counts map[string]int64, err error) {
	err = m.view(ctx, by, operation{need: "api-keys:read", in: in}, func(ctx context.Context, u *unit) error {
		counts, err = keys.CountLiveByOwner(ctx, u.tx, in, owners, u.now)
		return err
	})
	return counts, err
}
